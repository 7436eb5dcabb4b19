"""What a plan is told: the checks of each step, the verdict they add up to, and how long it may be believed. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from connectors.declared import Connection, Operation
from gateway.policy import checks
from gateway.policy.checks import span
from gateway.policy.facts import Forecast, LaneFacts, Times
from schemas.codec import canonical, sha256
from schemas.lifecycle import HoldReason
from schemas.preflight import Check, CheckName, Eta, Plan, Status, Step, StepReport, Verdict

VALID_S = 30.0
"""A verdict is believed no longer than this; breakers and limits move within seconds."""

LEAST_VALID_S = 1.0

MOST_NAMED = 8
"""Arguments that are named when no sample was given."""


def scope(step: Step, trouble: str, action: str) -> Check:
    """Tell whether there is such a tool and connection, and the caller may use them; `trouble` says why not."""
    if trouble:
        return Check(name=CheckName.SCOPE, status=Status.FAIL, detail=trouble, action=action)
    return Check(name=CheckName.SCOPE, status=Status.PASS, detail=f"{step.tool} may be called.")


def arguments(step: Step, operation: Operation) -> Check:
    """Hold the sample against the input schema; without one say what calls need."""
    name = CheckName.ARGUMENTS
    if step.arguments is None:
        return Check(
            name=name, status=Status.PASS, detail=f"No sample was given, so none was checked; {_needs(operation)}."
        )
    errors = [(error.pointer, error.message) for error in operation.argument_errors(step.arguments)]
    errors += list(_unpayable(operation, step.arguments))
    if errors:
        listed = "; ".join(f"{pointer or '/'}: {message}" for pointer, message in errors[:3])
        more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
        action = f"sluice connectors explain {operation.tool}"
        return Check(name=name, status=Status.FAIL, detail=f"The sample does not fit: {listed}{more}.", action=action)
    return Check(name=name, status=Status.PASS, detail="The sample fits the input schema.")


def _needs(operation: Operation) -> str:
    required = list((operation.input_schema or {}).get("required", ()))
    if not required:
        return "no argument is required"
    return f"calls need {', '.join(map(str, required[:MOST_NAMED]))}" + (", …" if len(required) > MOST_NAMED else "")


def _unpayable(operation: Operation, given: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for use in operation.uses:
        try:
            use.cost_of(given)
        except ValueError as refused:
            yield use.estimate or "", str(refused)


def approval(step: Step, operation: Operation) -> Check:
    """Tell whether a person has to say yes first."""
    name = CheckName.APPROVAL
    if not operation.approval_required:
        return Check(name=name, status=Status.PASS, detail="No person has to approve it.")
    calls = "the call waits" if step.count == 1 else f"each of the {step.count} calls waits"
    detail = f"A person has to approve it: {calls} until then, and the times told here begin after that."
    return Check(name=name, status=Status.WARN, detail=detail, action="sluice approvals ls")


def limits(step: Step, facts: LaneFacts, forecast: Forecast, times: Times) -> Check:
    """Hold the demand against the limits."""
    name, action = CheckName.LIMITS, f"sluice lanes show {facts.target}"
    shut = facts.shut(HoldReason.RATE_LIMIT)
    calls = "1 call" if step.count == 1 else f"{step.count} calls"
    alone = forecast.alone
    takes = f"{calls} take about {span(alone.p50)} at {forecast.tightest or 'no limit'}"
    if alone.p50 > times.horizon_s:
        detail = f"{takes}, and there are {span(times.horizon_s)}."
        return Check(
            name=name, status=Status.FAIL, detail=detail, action=f"Plan fewer calls or more time; see: {action}"
        )
    if shut is not None:
        until = "until somebody acts" if shut.left_s is None else f"for another {span(shut.left_s)}"
        late = shut.left_s is None or shut.left_s + alone.p50 > times.horizon_s
        detail = f"Limit {shut.limit or shut.target} is closed {until}: {shut.detail.rstrip('.')}."
        return Check(name=name, status=Status.FAIL if late else Status.WARN, detail=detail, action=action)
    if alone.p95 > times.horizon_s:
        detail = f"{takes}, but perhaps {span(alone.p95)}, and there are {span(times.horizon_s)}."
        return Check(name=name, status=Status.WARN, detail=detail, action=action)
    return Check(
        name=name, status=Status.PASS, detail=f"{takes}{'' if forecast.known else ', if the vendor answers quickly'}."
    )


def backlog(step: Step, facts: LaneFacts, forecast: Forecast, times: Times) -> Check:
    """Judge the queue, and whether what is in it leaves time enough."""
    check = checks.backlog(facts, step.count)
    eta = forecast.eta
    if check.status is not Status.PASS or eta is None or forecast.alone.p50 > times.horizon_s:
        return check
    shut = facts.shut(HoldReason.RATE_LIMIT)
    if eta.p50 > times.horizon_s and shut is None:
        waiting = facts.state.waiting if facts.whole else 0
        ahead = f"{waiting} calls that wait" if waiting else "what others want"
        detail = f"Behind {ahead}, and what is taken of its limits already, it takes about {span(eta.p50)}; "
        detail += f"there are {span(times.horizon_s)}."
        return Check(
            name=CheckName.BACKLOG, status=Status.FAIL, detail=detail, action=f"sluice lanes show {facts.target}"
        )
    return check


def deadline(forecast: Forecast, times: Times) -> Check:
    """Hold the time it takes against the time there is."""
    name, left_s, eta = CheckName.DEADLINE, times.deadline_s, forecast.eta
    action = "Plan fewer calls, or a later deadline, and ask again: sluice preflight --plan FILE"
    if left_s is not None and left_s <= 0:
        return Check(name=name, status=Status.FAIL, detail=f"It passed {span(-left_s)} ago.", action=action)
    if eta is None:
        detail = "Nobody can tell when its calls will start: somebody has to act first."
        return Check(
            name=name, status=Status.UNKNOWN, detail=detail, evidence_age_s=None, action="sluice lanes ls --held"
        )
    left_s, what = (times.waits_s, "a call may wait") if left_s is None else (left_s, "the deadline is in")
    if eta.p50 > left_s:
        detail = f"Its last call ends in about {span(eta.p50)}, and {what} {span(left_s)}."
        return Check(name=name, status=Status.FAIL, detail=detail, action=action)
    if eta.p95 > left_s:
        detail = f"Its last call ends in about {span(eta.p50)}, perhaps {span(eta.p95)}, and {what} {span(left_s)}."
        return Check(name=name, status=Status.WARN, detail=detail, action=action)
    return Check(
        name=name, status=Status.PASS, detail=f"Its last call ends in about {span(eta.p50)}; {what} {span(left_s)}."
    )


def step_checks(step: Step, facts: LaneFacts, forecast: Forecast, times: Times) -> list[Check]:
    """Return all checks of a step that may be called, in the order in which they are told."""
    return [
        scope(step, "", ""),
        arguments(step, facts.operation),
        approval(step, facts.operation),
        checks.credential(facts, times.needs_s),
        checks.breaker(facts),
        limits(step, facts, forecast, times),
        checks.contract(facts, times.needs_s),
        checks.egress(facts),
        backlog(step, facts, forecast, times),
        deadline(forecast, times),
    ]


def report(step: Step, connection: Connection | None, found: list[Check]) -> StepReport:
    """Return a step with its verdict."""
    return StepReport(
        tool=step.tool,
        connection=connection.name if connection else step.connection,
        count=step.count,
        critical=step.critical,
        verdict=step_verdict(found),
        checks=found,
    )


def step_verdict(found: Iterable[Check]) -> Verdict:
    """Return what a step's checks add up to: what nobody knows is a condition."""
    statuses = {check.status for check in found}
    if Status.FAIL in statuses:
        return Verdict.NO_GO
    return Verdict.GO_WITH_CONDITIONS if statuses & {Status.WARN, Status.UNKNOWN} else Verdict.GO


def plan_verdict(steps: Iterable[StepReport]) -> Verdict:
    """Return what the steps add up to: one that is not critical stops nobody."""
    told = list(steps)
    if any(step.critical and step.verdict is Verdict.NO_GO for step in told):
        return Verdict.NO_GO
    return Verdict.GO if all(step.verdict is Verdict.GO for step in told) else Verdict.GO_WITH_CONDITIONS


def valid_s(facts: Sequence[LaneFacts]) -> float:
    """Return for how many seconds a verdict may be believed: as long as its shortest-lived evidence."""
    ends = [VALID_S]
    for one in facts:
        ends += [VALID_S - age_s for _, age_s in one.reached]
        if one.token is not None and one.token.kept.left_s is not None:
            ends.append(one.token.kept.left_s)
    return max(LEAST_VALID_S, min(ends))


def plan_hash(plan: Plan, agent: str) -> str:
    """Name a plan: the same for the same steps in any order."""
    steps = sorted(canonical(msgspec.to_builtins(step)) for step in plan.steps)
    rest = canonical({"duration_s": plan.duration_s, "deadline": plan.deadline, "agent": agent})
    return f"v1:{sha256(*steps, rest)[:32]}"


def last(etas: Iterable[Eta | None]) -> Eta | None:
    """Return when everything has ended; None as soon as nobody can tell of one step."""
    told = list(etas)
    known = [eta for eta in told if eta is not None]
    if not known or len(known) < len(told):
        return None
    return Eta(p50=max(eta.p50 for eta in known), p95=max(eta.p95 for eta in known))

"""One lane's evidence, judged: is its vendor well, will its credential last, does its contract hold? A sentence and a next step each. Pure.

Asked by preflight for a plan of some length, and by health for this very moment (`needs_s` of 0).
"""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial

from connectors.auth.found import Waiting
from connectors.auth.freshness import SHUT, TokenState
from connectors.auth.token_store import AccessToken, Kept
from connectors.breaking.standing import Mode, State, mode, phase
from connectors.exchange import Fault
from gateway.policy.facts import LaneFacts, Shut, Token
from schemas.contracts.finding import Kind, Level
from schemas.contracts.sighting import SeenFinding
from schemas.failure import Failure
from schemas.lifecycle import HoldReason
from schemas.moment import moment
from schemas.preflight import Check, CheckName, Status

TESTED_S = 300.0
"""A refresh that worked so lately is a test of the next one."""

_REFUSING = frozenset({Failure.HTTP_UNAUTHORIZED, Failure.HTTP_FORBIDDEN})
_UNREACHED = frozenset(
    {Failure.EGRESS_DNS, Failure.EGRESS_BLOCKED, Failure.CONNECT_REFUSED, Failure.CONNECT_TIMEOUT, Failure.CONNECT_TLS}
)


def span(seconds: float) -> str:
    """Write a time span for people."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def ago(seconds: float | None) -> str:
    """Write how old something is."""
    return "never" if seconds is None else f"{span(max(0.0, seconds))} ago"


def breaker(facts: LaneFacts) -> Check:
    """Judge whether the vendor is left alone."""
    status, detail = _breaker(facts)
    action = "" if status is Status.PASS else f"sluice breakers ls --connector {facts.operation.connector}"
    return Check(name=CheckName.BREAKER, status=status, detail=detail, action=action)


def _breaker(facts: LaneFacts) -> tuple[Status, str]:
    standing, now = facts.standing, facts.now_s
    if standing is None:
        return Status.PASS, "Closed; nothing was seen against it."
    if mode(standing, now) is Mode.OPEN:
        return Status.FAIL, f"{standing.owner} keeps it open: {standing.reason}."
    if phase(standing, now) is State.OPEN:
        until = "" if standing.until is None else f"; it is probed in {span(max(0.0, standing.until - now))}"
        return Status.FAIL, f"Opened {ago(now - standing.since)}: {standing.reason}{until}."
    if phase(standing, now) is State.HALF_OPEN:
        return Status.WARN, f"The vendor is being probed after: {standing.reason}."
    if standing.ramp:
        return Status.WARN, f"It closed {ago(now - standing.since)}, and only {standing.ramp} calls go at once yet."
    return _closed(facts)


def _closed(facts: LaneFacts) -> tuple[Status, str]:
    counts, terms = facts.counts, facts.operation.breaker
    failed = f"{counts.failures} of {counts.calls} calls failed within {span(terms.window_s)}"
    if not facts.whole:
        failed = "some calls failed lately" if counts.failures else "no call failed lately"
    shaky = counts.calls >= terms.min_calls / 2 and counts.failures > terms.failure_rate * counts.calls / 2
    if shaky:
        return Status.WARN, f"Closed, but {failed}; it opens at {terms.failure_rate:.0%}."
    if facts.seen.failing and facts.seen.failed >= facts.seen.ok:
        last = facts.seen.message.rstrip(".") or facts.seen.failure
        return Status.WARN, f"Closed, but its last attempt failed {ago(facts.seen.failed_age_s)}: {last}."
    return Status.PASS, f"Closed; {failed}."


def credential(facts: LaneFacts, needs_s: float) -> Check:
    """Judge whether a credential is there, is taken, and lasts as long as it is needed."""
    connection = facts.connection
    if connection is not None and connection.missing:
        lacks = "; ".join(f"{name} ({gone})" for name, gone in sorted(connection.missing.items()))
        return _no(f"The connection {facts.named} lacks its secret {lacks}.", "sluice doctor")
    if facts.operation.auth.type == "none":
        return Check(name=CheckName.CREDENTIAL, status=Status.PASS, detail="None is needed.")
    if facts.token is not None:
        return _token(facts, facts.token, needs_s)
    seen = facts.seen
    if seen.failing and seen.failure in _REFUSING:
        detail = f"The vendor refused it {ago(seen.failed_age_s)} ({seen.failure})."
        return _no(detail, f"Mend the secrets of {facts.named}, then: sluice doctor", seen.failed_age_s)
    used = f"it was last taken {ago(seen.ok_age_s)}" if seen.ok_age_s is not None else "it was not used lately"
    detail = f"The secret of {facts.named} is there, and {used}; it lasts as long as its owner wants."
    return Check(name=CheckName.CREDENTIAL, status=Status.PASS, detail=detail, evidence_age_s=_rounded(seen.ok_age_s))


def _token(facts: LaneFacts, token: Token, needs_s: float) -> Check:
    kept, act = token.kept, f"sluice connections check {facts.named}"
    consent = f"sluice connections {'authorize' if token.consents else 'set'} {facts.named}"
    age_s = _rounded((kept.now_us - kept.changed_us) / 1e6) if kept.changed_us else None
    if kept.state in SHUT or token.asks:
        detail = f"It is {kept.state if kept.state in SHUT else TokenState.NEEDS_CONSENT}: {kept.detail or 'nobody has consented yet'}."
        return _no(detail, act if kept.state is TokenState.CONFIG_ERROR else consent, age_s)
    if token.tested is not None and not isinstance(token.tested, AccessToken):
        return _untested(kept, token, needs_s, act)
    if not kept.version and not kept.detail:
        detail = "No token was fetched yet; the first call asks for one."
        return Check(name=CheckName.CREDENTIAL, status=Status.UNKNOWN, detail=detail, evidence_age_s=None, action=act)
    if not kept.usable:
        detail = f"There is no valid token: {kept.detail or kept.state}."
        return _no(detail, act, age_s)
    warns = kept.state is TokenState.IN_DOUBT or bool(kept.detail)
    detail = f"{_lasts(kept, needs_s, tested=token.tested is not None)}{'; ' + kept.detail if warns and kept.detail else ''}."
    if kept.state is TokenState.IN_DOUBT:
        detail = f"The last refresh is in doubt: {kept.detail}."
    status = Status.WARN if warns else Status.PASS
    return Check(
        name=CheckName.CREDENTIAL, status=status, detail=detail, evidence_age_s=age_s, action=act if warns else ""
    )


def _untested(kept: Kept, token: Token, needs_s: float, act: str) -> Check:
    """Tell that a refresh, which the plan needs, does not work now."""
    reason = token.tested.reason if token.tested is not None and not isinstance(token.tested, AccessToken) else ""
    left = (
        f"ends in {span(kept.left_s)}, the plan needs {span(needs_s)}"
        if kept.left_s and kept.usable
        else "is not there"
    )
    tried = "does not work now" if isinstance(token.tested, Waiting) else "failed"
    return _no(f"The token {left}, and getting a new one {tried}: {reason.rstrip('.')}.", act)


def _lasts(kept: Kept, needs_s: float, *, tested: bool) -> str:
    if kept.left_s is None:
        return "There is a token; the vendor does not tell how long it lasts"
    lasts = f"The token lasts another {span(kept.left_s)}"
    if kept.left_s >= needs_s:
        return lasts
    worked = "now" if tested else ago((kept.now_us - kept.issued_us) / 1e6)
    return f"{lasts}, shorter than the plan ({span(needs_s)}); it is renewed under way, and getting a new one worked {worked}"


def tested_lately(kept: Kept) -> bool:
    """Tell whether the present token is so new that getting it is a test of getting the next."""
    return kept.usable and (kept.now_us - kept.issued_us) / 1e6 < TESTED_S


def _no(detail: str, action: str, age_s: float | None = 0.0) -> Check:
    return Check(
        name=CheckName.CREDENTIAL, status=Status.FAIL, detail=detail, action=action, evidence_age_s=_rounded(age_s)
    )


def contract(facts: LaneFacts, needs_s: float) -> Check:
    """Judge what the vendor's answers were found to be, and what it has announced."""
    tool = facts.operation.tool
    check = partial(Check, name=CheckName.CONTRACT, action=f"sluice contracts show {tool}")
    held = facts.shut(HoldReason.CONTRACT_QUARANTINE)
    if held is not None:
        return check(status=Status.FAIL, detail=f"Its calls are held: {held.detail.rstrip('.')}.")
    ends = moment(facts.now_us) + timedelta(seconds=needs_s)
    gone = next((one for one in facts.findings if _sunset(one) and _sunset(one) <= ends.date().isoformat()), None)
    age_s = None if not facts.findings else _rounded((facts.now_us - facts.findings[0].last_us) / 1e6)
    if gone is not None:
        return check(
            status=Status.FAIL, detail=f"{gone.finding.sentence} That is before the plan ends.", evidence_age_s=age_s
        )
    broken = next((one for one in facts.findings if one.finding.level is Level.BREAKING), None)
    if broken is not None:
        status = Status.FAIL if facts.operation.on_breaking == "block" else Status.WARN
        policy = f"on_breaking: {facts.operation.on_breaking}"
        return check(
            status=status,
            detail=f"Its answers break the contract: {broken.finding.sentence} ({policy})",
            evidence_age_s=age_s,
        )
    risky = next((one for one in facts.findings if one.finding.level is Level.RISKY), None)
    if risky is not None:
        return check(status=Status.WARN, detail=risky.finding.sentence, evidence_age_s=age_s)
    if facts.operation.output_schema is None:
        return Check(
            name=CheckName.CONTRACT, status=Status.PASS, detail="No contract is declared, and nothing was found."
        )
    return Check(name=CheckName.CONTRACT, status=Status.PASS, detail="No answer was found to break it.")


def _sunset(seen: SeenFinding) -> str:
    """Return the day on which an operation goes away, as ISO 8601; empty when none is announced."""
    if seen.finding.kind is not Kind.SUNSET:
        return ""
    try:
        return date.fromisoformat(seen.finding.after.rpartition(" ")[2]).isoformat()
    except ValueError:
        return ""


def egress(facts: LaneFacts) -> Check:
    """Judge whether its hosts can be reached."""
    again = f"sluice preflight {facts.operation.tool}"
    for reached, age_s in facts.reached:
        if reached.fault is Fault.BLOCKED:
            action = "Declare the host, or `allow_private: true`, under `egress`; then: sluice connectors lint"
            return Check(name=CheckName.EGRESS, status=Status.FAIL, detail=reached.detail, action=action)
        if reached.fault is not None:
            action = f"Mend the name, the network or the certificate; then: {again}"
            age = _rounded(age_s)
            return Check(
                name=CheckName.EGRESS, status=Status.FAIL, detail=reached.detail, action=action, evidence_age_s=age
            )
    if not facts.reached:
        detail = "Nobody has tried to reach it lately."
        return Check(name=CheckName.EGRESS, status=Status.UNKNOWN, detail=detail, evidence_age_s=None, action=again)
    detail = " ".join(dict.fromkeys(reached.detail for reached, _ in facts.reached))
    oldest = max(age_s for _, age_s in facts.reached)
    return Check(name=CheckName.EGRESS, status=Status.PASS, detail=detail, evidence_age_s=_rounded(oldest))


def seen_egress(facts: LaneFacts) -> Check | None:
    """Judge the same by what calls have shown, without dialling anybody; None when they say nothing."""
    seen = facts.seen
    if seen.failing and seen.failure in _UNREACHED:
        action = f"Mend the name, the network or the certificate; then: sluice preflight {facts.operation.tool}"
        age = _rounded(seen.failed_age_s)
        return Check(name=CheckName.EGRESS, status=Status.FAIL, detail=seen.message, evidence_age_s=age, action=action)
    return None


def backlog(facts: LaneFacts, count: int) -> Check:
    """Judge whether the queue works and has room for so many calls more."""
    problem = next(_backlog(facts, count), None)
    if problem is not None:
        return problem
    waiting = f"{facts.state.waiting or 'No'} calls wait in its lane" if facts.whole else "Its lane has room"
    detail = f"{waiting}, which holds {facts.room.bound}." if facts.whole else f"{waiting}."
    return Check(name=CheckName.BACKLOG, status=Status.PASS, detail=detail)


def _backlog(facts: LaneFacts, count: int) -> Iterator[Check]:
    check = partial(Check, name=CheckName.BACKLOG, status=Status.FAIL)
    room, state = facts.room, facts.state
    if not room.workers:
        yield check(
            detail="No worker has given a sign of life: nothing would be done.", action="sluice up (or: sluice worker)"
        )
    if room.load.flooded or room.load.call_bytes >= room.most_bytes:
        yield check(detail="The queue takes nothing new until it has drained.", action="sluice lanes ls")
    paused = facts.shut(HoldReason.PAUSED)
    if paused is not None:
        yield check(
            detail=f"{paused.target} is paused{_until(paused)}: {paused.detail.rstrip('.')}.",
            action=f"sluice lanes resume {paused.target}",
        )
    if state.live + count > room.bound:
        detail = f"{state.live} calls are in its lane, which holds {room.bound}: {count} more do not fit."
        detail = detail if facts.whole else f"Its lane holds {room.bound} calls, and {count} more do not fit."
        yield check(detail=detail, action=f"sluice lanes show {facts.target}")
    slow = facts.seen.failing and facts.seen.failed > facts.seen.ok
    if slow and state.waiting:
        detail = f"Calls wait, and most attempts fail now: {facts.seen.message}"
        yield check(status=Status.WARN, detail=detail, action=f"sluice lanes show {facts.target}")


def _until(shut: Shut) -> str:
    return " until it is resumed" if shut.left_s is None else f" for another {span(shut.left_s)}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds), 3)

"""How vendors are, by the evidence of their lanes: a status, the sentence that matters most, and the next step. Pure."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from gateway.policy import checks
from gateway.policy.checks import ago
from gateway.policy.evidence import FRESH_S
from gateway.policy.facts import LaneFacts
from schemas.health import (
    ConnectionHealth,
    ConnectorHealth,
    HealthReport,
    HealthStatus,
    OperationHealth,
    Sign,
)
from schemas.preflight import Check, Status

_S = HealthStatus
_ORDER = {_S.DOWN: 0, _S.DEGRADED: 1, _S.OK: 2, _S.UNKNOWN: 3}
FINE = "Everything that was seen lately works."
NOTHING = "No call has shown lately how it is."
REACHED = "It can be reached; no call has shown more lately."
MOST_FAILED = 0.5
"""Share of failed attempts from which an operation is down."""


def report(facts: Sequence[LaneFacts], at: str) -> HealthReport:
    """Return how all connectors are, worst first."""
    ordered = sorted(facts, key=lambda one: one.operation.connector)
    connectors = [
        _connector(name, list(lanes)) for name, lanes in groupby(ordered, key=lambda one: one.operation.connector)
    ]
    connectors.sort(key=lambda one: (_ORDER[one.status], one.connector))
    status, sentence, action = _worst([(one.status, _named(one), one.action) for one in connectors])
    return HealthReport(status=status, sentence=sentence, action=action, at=at, connectors=connectors)


def _connector(name: str, lanes: Sequence[LaneFacts]) -> ConnectorHealth:
    ordered = sorted(lanes, key=attrgetter("named"))
    connections = [_connection(list(some)) for _, some in groupby(ordered, key=attrgetter("named"))]
    connections.sort(key=lambda one: (_ORDER[one.status], one.connection or ""))
    status, sentence, action = _worst([(one.status, one.sentence, one.action) for one in connections])
    return ConnectorHealth(connector=name, status=status, sentence=sentence, action=action, connections=connections)


def _connection(lanes: Sequence[LaneFacts]) -> ConnectionHealth:
    first = lanes[0]
    reach = checks.egress(first) if first.reached else next(filter(None, map(checks.seen_egress, lanes)), None)
    shared = [checks.breaker(first), checks.credential(first, 0.0), *([reach] if reach else [])]
    operations = [_operation(one) for one in lanes]
    operations.sort(key=lambda one: (_ORDER[one.status], one.tool))
    found = [_judged(check) for check in shared]
    if reach is not None and reach.status is Status.PASS:
        found.append((_S.UNKNOWN, REACHED, ""))
    found += [(one.status, one.sentence, one.action) for one in operations]
    status, sentence, action = _worst([one for one in found if one[0] is not None])
    if status is _S.UNKNOWN and reach is not None and reach.status is Status.PASS:
        status, sentence = _S.OK, REACHED
    return ConnectionHealth(
        connection=first.connection.name if first.connection else None,
        origin=first.origin,
        status=status,
        sentence=sentence,
        action=action,
        evidence=[_sign(check) for check in shared],
        operations=operations,
    )


def _operation(facts: LaneFacts) -> OperationHealth:
    calls, contract, backlog = _calls(facts), checks.contract(facts, 0.0), checks.backlog(facts, 0)
    status, sentence, action = _worst([_called(calls), _judged(contract), _judged(backlog)])
    return OperationHealth(
        tool=facts.operation.tool,
        status=status,
        sentence=sentence,
        action=action,
        evidence=[calls, _sign(contract), _sign(backlog)],
    )


def _calls(facts: LaneFacts) -> Sign:
    """Say what attempts have shown."""
    seen, action = facts.seen, _look(facts)
    age_s = None if seen.age_s is None else round(seen.age_s, 3)
    if age_s is None:
        return Sign(name="calls", status=Status.UNKNOWN, detail=NOTHING, evidence_age_s=None)
    calls = seen.ok + seen.failed
    if seen.failing:
        down = calls == 0 or seen.failed >= MOST_FAILED * calls
        some = (
            f"{seen.failed} of {calls} attempts failed lately, the last" if facts.whole else "The last attempt failed"
        )
        detail = f"{some} {ago(seen.failed_age_s)}: {seen.message or seen.failure}"
        return Sign(
            name="calls",
            status=Status.FAIL if down else Status.WARN,
            detail=detail,
            evidence_age_s=age_s,
            action=action,
        )
    if seen.failed > MOST_FAILED * calls / 2:
        some = f"{seen.failed} of {calls}" if facts.whole else "Many"
        detail = f"{some} attempts failed lately; the last one worked."
        return Sign(name="calls", status=Status.WARN, detail=detail, evidence_age_s=age_s, action=action)
    stale = age_s > 2 * FRESH_S and not calls
    took = f" in {seen.mean_s * 1000:.0f} ms" if seen.mean_s is not None else ""
    detail = f"The last attempt worked, {ago(seen.ok_age_s)}{took}."
    return Sign(name="calls", status=Status.UNKNOWN if stale else Status.PASS, detail=detail, evidence_age_s=age_s)


def _look(facts: LaneFacts) -> str:
    """Say where failed attempts are found: a call that is over has left a letter, and its lane is empty."""
    over = facts.whole and facts.seen.failing and not facts.state.live
    return f"sluice {'dlq groups' if over else 'calls ls'} --tool {facts.operation.tool}"


_Told = tuple[HealthStatus | None, str, str]


def _called(sign: Sign) -> _Told:
    status = {Status.PASS: _S.OK, Status.WARN: _S.DEGRADED, Status.FAIL: _S.DOWN, Status.UNKNOWN: _S.UNKNOWN}[
        sign.status
    ]
    return status, sign.detail, sign.action


def _judged(check: Check) -> _Told:
    """Return what a check does to health; one that passes says nothing about calls."""
    status = {Status.FAIL: _S.DOWN, Status.WARN: _S.DEGRADED}.get(check.status)
    return status, check.detail, check.action


def _worst(found: Iterable[_Told]) -> tuple[HealthStatus, str, str]:
    """Return the worst; what nobody knows counts only where nothing else does."""
    told = sorted(((status, text, action) for status, text, action in found if status), key=lambda one: _ORDER[one[0]])
    if not told:
        return _S.UNKNOWN, NOTHING, ""
    status, sentence, action = told[0]
    texts = {text for other, text, _ in told if other is status}
    return (status, FINE, "") if status is _S.OK and len(texts) > 1 else (status, sentence, action)


def _sign(check: Check) -> Sign:
    return Sign(
        name=check.name,
        status=check.status,
        detail=check.detail,
        evidence_age_s=check.evidence_age_s,
        action=check.action,
    )


def _named(one: ConnectorHealth) -> str:
    return one.sentence if one.status in {_S.OK, _S.UNKNOWN} else f"{one.connector}: {one.sentence}"

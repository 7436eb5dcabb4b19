"""What evidence means for a plan and for health, case by case: the status, and what people are told."""

from dataclasses import replace
from typing import Any

import pytest

from connectors.auth.found import NeedsConsent, Waiting
from connectors.auth.freshness import TokenState
from connectors.auth.token_store import AccessToken, Kept
from connectors.breaking.standing import Mode, Standing, State
from connectors.breaking.window import Counts
from connectors.declared import Connection
from connectors.exchange import Fault
from connectors.reach import Reached
from connectors.secret import Secret
from gateway.policy import checks, verdicts, wellness
from gateway.policy.evidence import Evidence
from gateway.policy.facts import Forecast, LaneFacts, Room, Shut, Times, Token
from gateway.ports import LaneState, Load
from schemas.health import HealthStatus
from schemas.lifecycle import HoldReason
from schemas.preflight import Check, CheckName, Eta, Plan, Status, Step, StepReport, Verdict
from tests.credentials import operation, refreshing

MAIN = Connection(name="main", connector="crm", secrets={"client_id": Secret("c")})
LOAD = Load(calls=0, call_bytes=0, memory_bytes=0, memory_high_bytes=0, flooded=False)
STATE = LaneState(lane="crm|main|echo", live=0, waiting=0, oldest_us=None, eta_us=None, held=None, budgets=())
FACTS = LaneFacts(
    operation=operation("https://crm.example.com", refreshing()),
    connection=MAIN,
    origin="https://crm.example.com",
    now_us=1_800_000_000_000_000,
    state=STATE,
    room=Room(load=LOAD, bound=100, most_bytes=1000, workers=True),
    now_s=1000.0,
)
US = 1_000_000
HOUR = Kept(now_us=10 * US, version=2, sealed=b"x", issued_us=9 * US, expires_us=3610 * US, changed_us=9 * US)
TOKEN = AccessToken(Secret("t"), 2)


@pytest.mark.parametrize(
    ("standing", "counts", "status", "says"),
    [
        (None, Counts(), "pass", "nothing was seen"),
        (Standing(), Counts(20, 1, 0), "pass", "1 of 20"),
        (Standing(), Counts(20, 6, 0), "warn", "opens at 50%"),
        (
            Standing(state=State.OPEN, since=990.0, until=1005.0, reason="5 failures in a row"),
            Counts(),
            "fail",
            "probed in 5 s",
        ),
        (Standing(state=State.OPEN, since=990.0, until=999.0, reason="x"), Counts(), "warn", "being probed"),
        (Standing(ramp=2, since=999.0), Counts(), "warn", "only 2 calls"),
        (Standing(mode=Mode.OPEN, owner="ada", reason="they migrate"), Counts(), "fail", "ada keeps it open"),
    ],
)
def test_a_breaker(standing: Standing | None, counts: Counts, status: str, says: str) -> None:
    check = checks.breaker(replace(FACTS, standing=standing, counts=counts))
    assert (check.status, says in check.detail) == (status, True), check
    assert bool(check.action) == (status != "pass")


@pytest.mark.parametrize(
    ("token", "needs_s", "status", "says"),
    [
        (Token(kept=HOUR), 60, "pass", "lasts another 60 min"),
        (Token(kept=HOUR), 86_400, "pass", "renewed under way"),
        (Token(kept=HOUR, tested=TOKEN), 86_400, "pass", "worked now"),
        (Token(kept=replace(HOUR, expires_us=0)), 86_400, "pass", "does not tell"),
        (Token(kept=HOUR, tested=Waiting(0, "503")), 86_400, "fail", "ends in 60 min, the plan needs 24 h"),
        (Token(kept=HOUR, tested=NeedsConsent("no")), 86_400, "fail", "failed: no."),
        (Token(kept=replace(HOUR, state=TokenState.NEEDS_CONSENT)), 60, "fail", "needs_consent"),
        (Token(kept=replace(HOUR, state=TokenState.CONFIG_ERROR, detail="bad client")), 60, "fail", "bad client"),
        (Token(kept=replace(HOUR, state=TokenState.REVOKED)), 60, "fail", "revoked"),
        (Token(kept=replace(HOUR, state=TokenState.IN_DOUBT, detail="cut off")), 60, "warn", "in doubt"),
        (Token(kept=Kept(now_us=1), asks=True), 60, "fail", "nobody has consented"),
        (Token(kept=Kept(now_us=1)), 0, "unknown", "fetched yet"),
        (Token(kept=Kept(now_us=1, detail="503")), 0, "fail", "no valid token: 503"),
        (Token(kept=replace(HOUR, stale=True)), 0, "fail", "no valid token"),
        (Token(kept=replace(HOUR, detail="less scope")), 60, "warn", "less scope"),
    ],
)
def test_a_credential(token: Token, needs_s: float, status: str, says: str) -> None:
    check = checks.credential(replace(FACTS, token=token), needs_s)
    assert (check.status, says in check.detail) == (status, True), check
    assert bool(check.action) == (status != "pass")


@pytest.mark.parametrize(
    ("more", "count", "status", "says"),
    [
        ({}, 100, "pass", "No calls wait"),
        ({}, 101, "fail", "do not fit"),
        ({"state": replace(STATE, live=50, waiting=40)}, 50, "pass", "40 calls wait"),
        ({"state": replace(STATE, live=51)}, 50, "fail", "51 calls"),
        ({"state": replace(STATE, live=51), "whole": False}, 50, "fail", "Its lane holds 100"),
        ({"room": replace(FACTS.room, workers=False)}, 1, "fail", "No worker"),
        ({"room": replace(FACTS.room, load=replace(LOAD, call_bytes=1000))}, 1, "fail", "takes nothing new"),
        (
            {"closings": [Shut(reason=HoldReason.PAUSED, detail="by ada", left_s=90.0, target="crm")]},
            1,
            "fail",
            "another 90 s",
        ),
        (
            {"closings": [Shut(reason=HoldReason.PAUSED, detail="by ada", left_s=None, target="crm")]},
            1,
            "fail",
            "resumed",
        ),
    ],
)
def test_a_backlog(more: dict[str, Any], count: int, status: str, says: str) -> None:
    check = checks.backlog(replace(FACTS, **more), count)
    assert (check.status, says in check.detail) == (status, True), check


GOOD, BAD = Reached(None, "fine."), Reached(Fault.REFUSED, "refused.")


@pytest.mark.parametrize(
    ("reached", "status"),
    [
        ([], "unknown"),
        ([(GOOD, 3.0)], "pass"),
        ([(GOOD, 0.0), (BAD, 0.0)], "fail"),
        ([(Reached(Fault.BLOCKED, "no."), 0.0)], "fail"),
    ],
)
def test_egress(reached: Any, status: str) -> None:
    assert checks.egress(replace(FACTS, reached=reached)).status == status


def eta(p50: float, p95: float = 0.0) -> Eta:
    return Eta(p50=p50, p95=p95 or p50)


@pytest.mark.parametrize(
    ("forecast", "deadline_s", "status"),
    [
        (Forecast(eta=eta(5), alone=eta(5)), 60.0, "pass"),
        (Forecast(eta=eta(50, 70), alone=eta(5)), 60.0, "warn"),
        (Forecast(eta=eta(61), alone=eta(5)), 60.0, "fail"),
        (Forecast(eta=eta(61), alone=eta(5)), None, "pass"),
        (Forecast(eta=eta(90_000), alone=eta(5)), None, "fail"),
        (Forecast(eta=None, alone=eta(5)), None, "unknown"),
        (Forecast(eta=None, alone=eta(5)), -1.0, "fail"),
    ],
)
def test_a_deadline(forecast: Forecast, deadline_s: float | None, status: str) -> None:
    times = Times(needs_s=0, horizon_s=60, deadline_s=deadline_s, waits_s=86_400)
    assert verdicts.deadline(forecast, times).status == status


def check(status: Status) -> Check:
    return Check(name=CheckName.SCOPE, status=status, detail="")


P, W, F, U = Status.PASS, Status.WARN, Status.FAIL, Status.UNKNOWN
GO, IF, NO = Verdict.GO, Verdict.GO_WITH_CONDITIONS, Verdict.NO_GO


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ([([P], True)], GO),
        ([([P, W], True)], IF),
        ([([P, U], True)], IF),
        ([([P, F], True)], NO),
        ([([P, W, F, U], True)], NO),
        ([([F], False)], IF),
        ([([P], True), ([F], False)], IF),
        ([([F], True), ([P], False)], NO),
        ([([W], False), ([P], True)], IF),
    ],
)
def test_a_verdict(steps: list[tuple[list[Status], bool]], verdict: Verdict) -> None:
    told: list[StepReport] = [
        verdicts.report(Step(tool="crm.echo", critical=critical), None, [check(status) for status in statuses])
        for statuses, critical in steps
    ]
    assert verdicts.plan_verdict(told) is verdict


def test_a_verdict_is_believed_no_longer_than_its_evidence_lives() -> None:
    assert verdicts.valid_s([FACTS]) == 30
    assert verdicts.valid_s([replace(FACTS, reached=[(GOOD, 12.0)])]) == 18
    assert verdicts.valid_s([replace(FACTS, token=Token(kept=replace(HOUR, expires_us=14 * US)))]) == 4
    assert verdicts.valid_s([replace(FACTS, reached=[(GOOD, 99.0)])]) == 1


def test_a_plan_is_named_by_what_it_is() -> None:
    one, two = Step(tool="crm.a", count=1), Step(tool="crm.b", count=2)
    name = verdicts.plan_hash(Plan(steps=[one, two]), "a")
    assert name == verdicts.plan_hash(Plan(steps=[two, one]), "a")
    others = [Plan(steps=[one]), Plan(steps=[one, two], duration_s=1), Plan(steps=[one, Step(tool="crm.b", count=3)])]
    assert name not in {verdicts.plan_hash(plan, "a") for plan in others} | {
        verdicts.plan_hash(Plan(steps=[one, two]), "b")
    }


WELL = Evidence(ok=9, failed=0, ok_age_s=2.0, mean_s=0.1)
SICK = Evidence(ok=1, failed=9, ok_age_s=9.0, failed_age_s=1.0, failure="http.503", message="503.")
READY = replace(FACTS, token=Token(kept=HOUR))


@pytest.mark.parametrize(
    ("facts", "status", "says"),
    [
        ([replace(READY, seen=WELL)], "ok", "last attempt worked"),
        ([READY], "unknown", "No call has shown"),
        ([replace(READY, seen=SICK)], "down", "9 of 10 attempts failed"),
        ([replace(READY, seen=replace(SICK, ok=30))], "degraded", "9 of 39"),
        ([replace(READY, seen=replace(SICK, failed_age_s=10.0))], "degraded", "the last one worked"),
        ([replace(READY, reached=[(GOOD, 0.0)])], "ok", "It can be reached"),
        ([replace(READY, reached=[(BAD, 0.0)])], "down", "refused."),
        ([replace(READY, seen=replace(SICK, failure="connect.refused"))], "down", "503."),
        ([replace(READY, seen=replace(SICK), whole=False)], "down", "The last attempt failed"),
        ([replace(READY, seen=WELL, standing=Standing(ramp=2, since=999.0))], "degraded", "only 2 calls"),
    ],
)
def test_health(facts: list[LaneFacts], status: str, says: str) -> None:
    report = wellness.report(facts, "now")
    assert (report.status, says in report.sentence) == (HealthStatus(status), True), report
    assert bool(report.action) == (status in {"down", "degraded"})


def test_a_closed_breaker_does_not_hide_that_the_last_attempts_failed() -> None:
    told = checks.breaker(replace(FACTS, standing=Standing(), seen=SICK))
    assert (told.status, "503" in told.detail) == (Status.WARN, True)
    assert checks.breaker(replace(FACTS, standing=Standing(), seen=WELL)).status is Status.PASS

"""What is foretold of a plan: with what others want of the same limits, what is taken of them, and what is closed."""

from dataclasses import replace

import pytest

from connectors.limits import Limit, Use
from gateway.policy.evidence import Evidence
from gateway.policy.facts import LaneFacts, Shut
from gateway.policy.forecasting import WORKERS, Crowd, Demand, costs, declared, forecasts
from gateway.policy.makespan import Supply
from schemas.lifecycle import HoldReason
from schemas.preflight import Step
from tests.rules.test_verdicts import FACTS, STATE

S = 1_000_000
CORE = Limit(name="core", per="connection", kind="strict", most=10, window_us=S, text="10/s")
TOKENS = Limit(name="tokens", per="connector", kind="strict", most=1000, window_us=60 * S, text="1000/min")
SEEN = Evidence(ok=10, ok_age_s=1.0, mean_s=0.1, deviation_s=0.1)


def facts(*uses: Use, **more: object) -> LaneFacts:
    operation = replace(FACTS.operation, uses=uses or (Use(limit=CORE),))
    return replace(FACTS, operation=operation, seen=SEEN, **more)  # type: ignore[arg-type]


def foretell(lane: LaneFacts, count: int, *crowd: Crowd, **more: object) -> tuple[float | None, float | None, float]:
    supplies = {one.key: replace(one, **more) for _, one in declared(lane.operation, lane.connection)}  # type: ignore[arg-type]
    supplies[WORKERS] = Supply(key=WORKERS, name=WORKERS, kind="concurrency", most=256)
    (told,) = forecasts([Demand(step=Step(tool="crm.echo", count=count), facts=lane)], crowd, supplies)
    if told.eta is None:
        return None, None, told.alone.p50
    return told.eta.p50, told.eta.p95, told.alone.p50


def test_a_plan_alone() -> None:
    assert foretell(facts(), 20) == pytest.approx((1.2, 1.4, 1.2))


def test_what_waits_what_is_taken_and_what_others_want_come_on_top_and_are_told_apart() -> None:
    waiting = facts(state=replace(STATE, waiting=1000, live=1000))
    likely, worst, alone = foretell(waiting, 20)
    assert (likely, alone) == pytest.approx((3 * 1.1 + 0.1, 1.2))
    assert worst is not None
    assert worst > 100
    assert foretell(facts(), 20, busy=((5 * S, 10),))[0] == pytest.approx(5 + 1.1 + 0.1)
    crowd = Crowd(lane="crm|main|other", waiting=500, costs={"crm|main|core": 1})
    assert foretell(facts(), 20, crowd)[0] == pytest.approx(3 * 1.1 + 0.1)


def test_a_pause_with_an_end_is_waited_for_and_one_without_cannot_be_told() -> None:
    ends = Shut(reason=HoldReason.PAUSED, detail="x", left_s=60.0, target="crm")
    assert foretell(facts(closings=[ends]), 1)[0] == pytest.approx(60.1)
    assert foretell(facts(closings=[replace(ends, left_s=None)]), 1)[:2] == (None, None)
    assert foretell(facts(room=replace(FACTS.room, workers=False)), 1)[0] is None


def test_the_worst_counts_what_has_to_be_tried_again() -> None:
    half = facts()
    half = replace(half, seen=replace(SEEN, ok=5, failed=5, deviation_s=0.0))
    likely, worst, _ = foretell(half, 20)
    assert (likely, worst) == pytest.approx((1.2, 2.3))


def test_a_cost_is_told_by_a_sample_and_is_the_least_without_one() -> None:
    lane = facts(Use(limit=TOKENS, cost=100, estimate="/max_tokens", actual="/used"))
    assert costs(lane.operation, lane.connection, {"max_tokens": 400}) == {"crm|tokens": 500}
    assert costs(lane.operation, lane.connection, None) == {"crm|tokens": 100}


def test_a_learned_limit_is_told() -> None:
    lane = facts()
    supplies = {
        key: Supply(key=key, name=key, kind="strict", most=2, window_us=S) for key in ("crm|main|core", WORKERS)
    }
    (told,) = forecasts([Demand(step=Step(tool="crm.echo", count=9), facts=lane)], (), supplies)
    assert told.tightest == "limit core (10/s, 2 as the vendor showed)"

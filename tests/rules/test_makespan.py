"""The makespan is that of the slot model: held against `pacing.py` call by call, and against sums that can be done by hand."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lanes import pacing
from gateway.policy import makespan
from gateway.policy.makespan import Queue, Supply, ends

S = 1_000_000


def supply(kind: str = "strict", most: int = 10, window_us: int = S, **more: object) -> Supply:
    return Supply(key=kind, name=kind, kind=kind, most=most, window_us=window_us, **more)  # type: ignore[arg-type]


def queue(calls: int, *limits: Supply, cost: int = 1, response_us: int = 100_000, **more: int) -> Queue:
    return Queue(name="q", calls=calls, costs={one.key: cost for one in limits}, response_us=response_us, **more)


def end(one: Queue, *limits: Supply, others: tuple[Queue, ...] = ()) -> float:
    return ends([one], others, {limit.key: limit for limit in limits})[0] / S


@pytest.mark.parametrize(
    ("calls", "limit", "seconds"),
    [
        (10, supply(), 0.1),
        (11, supply(), 1.1 + 0.1),
        (60, supply(most=20), 2 * 1.1 + 0.1),
        (9, supply("concurrency", 3, 0), 0.3),
        (10, supply("concurrency", 3, 0), 0.4),
        (1, supply(opens_us=5 * S), 5.1),
        (1, supply(busy=((2 * S, 10),)), 2.1),
        (11, supply(busy=((2 * S, 9),)), 2.0 + 0.1),
        (86_401, supply(most=86_400, window_us=86_400 * S), 86_400 + 0.2),
    ],
)
def test_what_can_be_done_by_hand(calls: int, limit: Supply, seconds: float) -> None:
    assert end(queue(calls, limit), limit) == pytest.approx(seconds)


def test_several_limits_bind_together() -> None:
    second, minute = supply("strict", 10), Supply(key="m", name="m", kind="strict", most=30, window_us=60 * S)
    assert end(queue(40, second, minute), second, minute) == pytest.approx(60 + 0.2)


def test_what_waits_in_the_lane_goes_first_and_other_lanes_take_turns() -> None:
    limit = supply()
    assert end(queue(10, limit, ahead=20), limit) == pytest.approx(2 * 1.1 + 0.1)
    assert end(queue(10, limit), limit, others=(queue(1000, limit),)) == pytest.approx(1.1 + 0.1)
    assert end(queue(30, limit), limit, others=(queue(5, limit),)) == pytest.approx(3 * 1.1 + 0.1)


def test_turns_are_taken_also_where_one_slot_is_given_at_a_time() -> None:
    limit = supply(most=1)
    assert end(queue(20, limit), limit, others=(queue(40, limit),)) == pytest.approx(1.1 * 39, rel=0.06)
    assert end(queue(20, limit), limit, others=(queue(40, limit), queue(5, limit))) == pytest.approx(1.1 * 44, rel=0.06)


def test_without_a_limit_all_start_at_once_and_a_closed_lane_later() -> None:
    assert end(queue(10_000)) == pytest.approx(0.1)
    assert end(queue(1, opens_us=3 * S)) == pytest.approx(3.1)


def test_a_weighted_cost_takes_its_share_and_one_above_the_limit_goes_alone() -> None:
    assert end(queue(4, supply(), cost=5), supply()) == pytest.approx(1.2)
    assert end(queue(2, supply(), cost=25), supply()) == pytest.approx(1.2)


def by_pacing(calls: int, kind: pacing.Kind, most: int, window_us: int, response_us: int) -> int:
    """Play the same calls one by one through the law itself."""
    terms, state, now_us, last_us = pacing.Terms(kind, most, window_us), pacing.State(), 0, 0
    under_way: list[tuple[int, str]] = []
    for number in range(calls):
        while not pacing.fits(terms, state, 1, now_us):
            if kind == "soft":
                now_us = max(now_us + 1, pacing.free_at(terms, state, 1, now_us))
                continue
            at = min([at for at, _ in under_way] + [at for _, at in state.slots.values() if at > now_us])
            now_us = max(now_us, at)
            for ended_us, permit in [one for one in under_way if one[0] <= now_us]:
                state = pacing.settle(terms, state, permit, "answered", ended_us, cost=1, actual=1)
                under_way.remove((ended_us, permit))
        state = pacing.take(terms, state, str(number), 1, now_us, lease_us=now_us + 10**12)
        under_way.append((now_us + response_us, str(number)))
        last_us = now_us + response_us
    return last_us


@given(
    kind=st.sampled_from(["strict", "soft", "concurrency"]),
    calls=st.integers(1, 60),
    most=st.integers(1, 25),
    window_us=st.integers(100_000, 5 * S),
    response_us=st.integers(1_000, 2 * S),
)
def test_it_is_the_law_of_pacing(kind: pacing.Kind, calls: int, most: int, window_us: int, response_us: int) -> None:
    width = 0 if kind == "concurrency" else window_us
    limit = supply(kind, most, width)
    told = ends([queue(calls, limit, response_us=response_us)], (), {limit.key: limit})[0]
    real = by_pacing(calls, kind, most, width, response_us)
    assert math.isclose(told, real, rel_tol=0.01, abs_tol=most * 2 + 2)


def test_what_is_too_long_to_play_is_told_by_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = supply()
    whole = end(queue(5_000, limit), limit)
    monkeypatch.setattr(makespan, "WAVES", 20)
    assert end(queue(5_000, limit), limit) == pytest.approx(whole, rel=0.02)
    assert end(queue(1_000_000, limit), limit) == pytest.approx(110_000, rel=0.01)


def test_a_plan_of_many_steps_is_foretold_in_bounded_time() -> None:
    limit = supply(most=1)
    queues = [queue(1_000_000, limit) for _ in range(200)]
    began = time.perf_counter()
    told = ends(queues, (), {limit.key: limit})
    assert time.perf_counter() - began < 2
    assert max(told) / S == pytest.approx(200_000_000 * 1.1, rel=0.02)

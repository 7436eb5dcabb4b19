"""Redis' clock is set forward, on a twin whose clock a test may set: no limit gives more because of it, and none is stuck."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from gateway.ports import Claims
from tests.twins.redis_twin import RedisTwin, TwinClient
from tests.wire.test_shared_limits import CORE, LANE, MINUTE, Bench

SECOND = 1_000_000
START_US = 1_795_000_000 * SECOND


class Clocks:
    """A server's clock that goes with the loop's, until somebody sets it."""

    def __init__(self) -> None:
        self.ahead_us = 0
        self.slow_s = 0.0
        """For how long each command is on its way."""
        self.redis: Any = TwinClient(RedisTwin(self.now_us), self._wire)

    def now_us(self) -> int:
        """Return what the server's clock shows."""
        return START_US + int(asyncio.get_running_loop().time() * SECOND) + self.ahead_us

    async def _wire(self, _: str, run: Callable[[], Any]) -> Any:
        await asyncio.sleep(self.slow_s)
        return run()

    def bench(self, **how: Any) -> Bench:
        """Return another worker at the same server."""
        return Bench(self.redis, **how)


@pytest.fixture
async def clocks() -> Clocks:
    return Clocks()


async def spent(bench: Bench, calls: int = 10) -> Claims:
    """Take all there is, and settle it."""
    await bench.come(LANE, 3 * calls)
    taken = await bench.claim(calls)
    assert len(taken.claims) == calls
    for claim in taken.claims:
        await bench.settle(claim)
    return taken


@pytest.mark.parametrize("kind", ["strict", "soft"])
@pytest.mark.parametrize("step_s", [0.3, 5, 59, 61, 4000])
async def test_a_step_forward_gives_nothing_back_that_the_vendor_still_counts(
    clocks: Clocks, kind: str, step_s: float
) -> None:
    bench = clocks.bench(kind=kind, most=40)
    await bench.come(LANE, 100)
    taken = (await bench.claim()).claims
    for claim in taken:
        await bench.settle(claim)
    clocks.ahead_us += int(step_s * SECOND)
    again = await bench.claim()
    assert again.claims == ()
    assert again.due_us is not None
    longest_us = MINUTE if kind == "strict" else MINUTE // 39
    assert 0 < again.due_us - again.now_us <= longest_us, "nothing is stuck for longer than without the step"


async def test_what_is_spent_is_free_again_when_its_window_has_passed(clocks: Clocks) -> None:
    bench = clocks.bench(window_us=300_000)
    await spent(bench)
    clocks.ahead_us += 5 * SECOND
    assert (await bench.claim()).claims == ()
    await asyncio.sleep(0.35)
    assert len((await bench.claim()).claims) == 10


async def test_a_look_right_after_the_step_forgets_nothing(clocks: Clocks) -> None:
    bench = clocks.bench()
    await spent(bench)
    clocks.ahead_us += 90 * SECOND
    await bench.come(LANE)
    await bench.lanes.survey([LANE])
    await bench.hold("c00020")
    assert (await bench.claim()).claims == ()
    assert await bench.used() == 10


async def test_a_settlement_right_after_the_step_forgets_nothing(clocks: Clocks) -> None:
    bench = clocks.bench()
    await bench.come(LANE, 20)
    *others, last = (await bench.claim()).claims
    for claim in others:
        await bench.settle(claim)
    clocks.ahead_us += 90 * SECOND
    await bench.settle(last)
    assert (await bench.claim()).claims == ()
    assert await bench.used() == 10


async def test_one_step_counts_once_whoever_finds_it(clocks: Clocks) -> None:
    bench, other = clocks.bench(), clocks.bench()
    await spent(bench)
    assert (await other.claim()).claims == ()
    clocks.ahead_us += 5 * SECOND
    first, second, third = await bench.claim(), await other.claim(), await bench.claim()
    assert first.claims == second.claims == third.claims == ()
    stepped = int(await clocks.redis.get("{s0}:stepped"))
    assert abs(stepped - 5 * SECOND) < SECOND // 10


async def test_a_step_is_logged_by_who_found_it_and_a_delay_is_not(clocks: Clocks) -> None:
    bench, other = clocks.bench(), clocks.bench()
    await spent(bench)
    await other.claim()
    with structlog.testing.capture_logs() as logged:
        clocks.ahead_us += 5 * SECOND
        for one in (bench, other, bench):
            await one.claim()
    (told,) = logged
    assert (told["event"], round(told["by_s"])) == ("redis.clock_stepped", 5)
    with structlog.testing.capture_logs() as logged:
        clocks.slow_s = 0.4
        for one in (bench, other):
            await one.claim()
    assert logged == []


async def test_steps_add_up_and_a_step_back_is_none(clocks: Clocks) -> None:
    bench = clocks.bench()
    await spent(bench)
    for step_s in (40, -30, 40):
        clocks.ahead_us += step_s * SECOND
        assert (await bench.claim()).claims == ()
    stepped = int(await clocks.redis.get("{s0}:stepped"))
    assert abs(stepped - 80 * SECOND) < SECOND // 10


async def test_a_limit_that_was_not_looked_at_since_follows_later(clocks: Clocks) -> None:
    bench = clocks.bench(most=20_000)
    await spent(bench, 100)
    assert await clocks.redis.zcard(f"{{s0}}:slots:{CORE}") <= 2, "many slots stand together in sub-buckets"
    clocks.ahead_us += 61 * SECOND
    await asyncio.sleep(0.01)
    await bench.claim(0)
    taken = (await bench.claim()).claims
    assert taken
    assert await bench.used() == 100 + len(taken)


async def test_a_request_that_was_long_on_its_way_costs_no_more_than_its_delay(clocks: Clocks) -> None:
    bench = clocks.bench(window_us=400_000)
    await spent(bench)
    sent_us, clocks.slow_s = clocks.now_us(), 0.5
    held = await bench.claim()
    assert held.due_us is not None
    assert held.due_us <= sent_us + 500_000 + 400_000
    clocks.slow_s = 0.0
    await asyncio.sleep(0.45)
    assert len((await bench.claim()).claims) == 10

"""Redis' clock is set forward, on a twin whose clock a test may set: no limit gives more because of it, and none is stuck."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import structlog

from gateway.lanes.reckoning import MACHINE
from gateway.ports import Admitted, Claim, Claims
from tests.twins.redis_twin import RedisTwin, TwinClient
from tests.wire.test_shared_limits import CORE, GRACE_US, LANE, MINUTE, Bench

SECOND = 1_000_000
START_US = 1_795_000_000 * SECOND
ROW = f"{{s0}}:spent:{CORE}"
SLOTS = f"{{s0}}:slots:{CORE}"
FARTHEST_US = MINUTE // 200 + GRACE_US + 1_000_000 + 5 * SECOND
"""Beyond its window a slot stands no further away: a sub-bucket, the longest claim, and the guard."""


class Clocks:
    """A server's clock that goes with a steady one, until somebody sets it."""

    def __init__(self) -> None:
        self.ahead_us = 0
        self.slow_s = 0.0
        """For how long each command is on its way."""
        self.redis: Any = TwinClient(RedisTwin(self.now_us), self._wire)

    def now_us(self) -> int:
        """Return what the server's clock shows."""
        return START_US + int(MACHINE.seconds() * SECOND) + self.ahead_us

    async def _wire(self, _: str, run: Callable[[], Any]) -> Any:
        await asyncio.sleep(self.slow_s)
        return run()

    def bench(self, **how: Any) -> Bench:
        """Return another worker at the same server."""
        return Bench(self.redis, **how)

    async def stepped_us(self) -> int:
        """Return what the workers have found in all."""
        return int(await self.redis.get("{s0}:stepped") or 0)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


async def asked(bench: Bench, room: int = 100) -> Claims:
    """Claim as a worker does: again at once where that is what it is told."""
    for _ in range(10):
        claims = await bench.claim(room)
        if claims.claims or claims.due_us != claims.now_us:
            return claims
    raise AssertionError("it is told to ask again for ever")


async def spent(bench: Bench, calls: int = 10) -> list[Claim]:
    """Take all there is, and settle it."""
    await bench.come(LANE, 3 * calls)
    taken = (await asked(bench, calls)).claims
    assert len(taken) == calls
    for claim in taken:
        await bench.settle(claim)
    return list(taken)


@pytest.mark.parametrize("kind", ["strict", "soft"])
@pytest.mark.parametrize("step_s", [0.3, 5, 59, 61, 4000])
async def test_a_step_forward_gives_nothing_back_that_the_vendor_still_counts(
    clocks: Clocks, kind: str, step_s: float
) -> None:
    bench = clocks.bench(kind=kind, most=40)
    await bench.come(LANE, 100)
    for claim in (await bench.claim()).claims:
        await bench.settle(claim)
    clocks.ahead_us += int(step_s * SECOND)
    again = await asked(bench)
    assert again.claims == ()
    assert again.due_us is not None
    longest_us = MINUTE if kind == "strict" else MINUTE // 39
    assert 0 < again.due_us - again.now_us <= longest_us, "nothing is stuck for longer than without the step"


async def test_what_is_spent_is_free_again_when_its_window_has_passed(clocks: Clocks) -> None:
    bench = clocks.bench(window_us=300_000)
    await spent(bench)
    clocks.ahead_us += 5 * SECOND
    assert (await asked(bench)).claims == ()
    await asyncio.sleep(0.35)
    assert len((await asked(bench)).claims) == 10


async def test_a_look_right_after_the_step_forgets_nothing(clocks: Clocks) -> None:
    bench = clocks.bench()
    await spent(bench)
    clocks.ahead_us += 90 * SECOND
    await bench.come(LANE)
    await bench.lanes.survey([LANE])
    await bench.hold("c00020")
    assert (await asked(bench)).claims == ()
    assert await bench.used() == 10


async def test_a_settlement_right_after_the_step_forgets_nothing(clocks: Clocks) -> None:
    bench, other = clocks.bench(), clocks.bench()
    await bench.come(LANE, 20)
    *rest, last, very_last = (await bench.claim()).claims
    for claim in rest:
        await bench.settle(claim)
    clocks.ahead_us += 90 * SECOND
    await bench.settle(last)
    await other.settle(very_last)
    assert (await asked(bench)).claims == ()
    assert await bench.used() == 10


async def test_one_step_counts_once_whoever_finds_it(clocks: Clocks) -> None:
    workers = [clocks.bench() for _ in range(3)]
    await spent(workers[0])
    for one in workers:
        await asked(one)
    clocks.ahead_us += 5 * SECOND
    for _ in range(3):
        found = await asyncio.gather(*(one.claim() for one in workers))
        assert [one.claims for one in found] == [(), (), ()]
    assert await clocks.stepped_us() == pytest.approx(5 * SECOND, abs=SECOND // 10)


async def test_a_step_is_logged_by_who_found_it(clocks: Clocks) -> None:
    bench, other = clocks.bench(), clocks.bench()
    await spent(bench)
    await asked(other)
    with structlog.testing.capture_logs() as logged:
        clocks.ahead_us += 5 * SECOND
        for one in (bench, other, bench):
            await asked(one)
    (told,) = logged
    assert (told["event"], round(told["by_s"])) == ("redis.clock_stepped", 5)


async def test_steps_add_up_and_a_step_back_is_none(clocks: Clocks) -> None:
    bench = clocks.bench()
    await spent(bench)
    for step_s in (40, -30, 40):
        clocks.ahead_us += step_s * SECOND
        assert (await asked(bench)).claims == ()
    assert await clocks.stepped_us() == pytest.approx(80 * SECOND, abs=SECOND // 10)


async def test_a_limit_that_was_not_looked_at_since_follows_later(clocks: Clocks) -> None:
    bench = clocks.bench(most=20_000)
    await spent(bench, 100)
    assert await clocks.redis.zcard(SLOTS) <= 2, "many slots stand together in sub-buckets"
    clocks.ahead_us += 61 * SECOND
    await asyncio.sleep(0.01)
    await bench.claim(0)
    taken = (await asked(bench)).claims
    assert taken
    assert await bench.used() == 100 + len(taken)


async def test_who_starts_after_a_step_knows_how_the_machines_clock_stood(clocks: Clocks) -> None:
    bench = clocks.bench()
    await spent(bench)
    await bench.claim(0)
    clocks.ahead_us += 90 * SECOND
    assert (await asked(clocks.bench())).claims == ()
    assert await clocks.stepped_us() == pytest.approx(90 * SECOND, abs=SECOND // 10)
    assert await clocks.redis.ttl("{s0}:clocks") > 0


# ---- what is no step


async def test_a_request_that_was_long_on_its_way_is_no_step(clocks: Clocks) -> None:
    bench = clocks.bench(window_us=400_000)
    await spent(bench)
    clocks.slow_s = 0.5
    with structlog.testing.capture_logs() as logged:
        assert (await bench.claim()).claims == (), "until it is known, nothing is given"
    clocks.slow_s = 0.0
    assert len((await bench.claim()).claims) == 10
    assert logged == []
    assert await clocks.stepped_us() == 0


async def test_where_all_requests_are_slow_from_now_on_calls_are_given_soon(clocks: Clocks) -> None:
    bench = clocks.bench()
    await bench.come(LANE, 5)
    await bench.claim(1)
    clocks.slow_s = 0.3
    given = [len((await bench.claim(1)).claims) for _ in range(5)]
    assert given == [0, 0, 0, 1, 1]
    assert await clocks.stepped_us() == 0


# ---- what is remembered, and what is lost


async def test_a_state_that_has_forgotten_the_step_is_told_of_it_again(clocks: Clocks) -> None:
    bench = clocks.bench()
    await spent(bench)
    kept = await clocks.redis.zrange(SLOTS, 0, -1, withscores=True)
    clocks.ahead_us += 90 * SECOND
    assert (await asked(bench)).claims == ()
    await clocks.redis.delete("{s0}:stepped")
    await clocks.redis.hdel(ROW, "stepped")
    await clocks.redis.zadd(SLOTS, dict(kept))
    assert (await asked(bench)).claims == ()
    assert await clocks.stepped_us() == pytest.approx(90 * SECOND, abs=SECOND // 10)


async def test_another_state_tells_what_it_knows_of_steps(clocks: Clocks) -> None:
    bench = clocks.bench()
    await spent(bench)
    clocks.ahead_us += 90 * SECOND
    await asked(bench)
    assert (await bench.claim(epoch="another")).forgot
    clocks.ahead_us += 61 * SECOND
    assert (await asked(bench)).claims == ()


@pytest.mark.parametrize("kind", ["strict", "soft"])
async def test_a_row_that_knows_nothing_of_steps_is_not_put_off_by_all_there_ever_were(
    clocks: Clocks, kind: str
) -> None:
    bench = clocks.bench(kind=kind, most=40)
    await clocks.redis.set("{s0}:stepped", 240 * 3600 * SECOND)
    await bench.come(LANE, 100)
    for claim in (await asked(bench)).claims:
        await bench.settle(claim)
    await clocks.redis.hdel(ROW, "stepped")
    held = await asked(bench)
    assert held.due_us is not None
    assert held.due_us - held.now_us <= (MINUTE + FARTHEST_US if kind == "strict" else 2 * MINUTE)


async def test_a_limit_that_is_new_after_steps_begins_empty(clocks: Clocks) -> None:
    bench = clocks.bench(kind="soft", most=40)
    await clocks.redis.set("{s0}:stepped", 240 * 3600 * SECOND)
    await bench.come(LANE, 5)
    assert len((await asked(bench)).claims) == 2
    assert int(await clocks.redis.hget(ROW, "stepped")) == 240 * 3600 * SECOND


async def test_a_clock_that_is_set_back_and_right_again_holds_nobody_up_for_as_long(clocks: Clocks) -> None:
    bench = clocks.bench(window_us=SECOND)
    await spent(bench)
    clocks.ahead_us -= 3600 * SECOND
    await asked(bench)
    clocks.ahead_us += 3600 * SECOND
    held = await asked(bench)
    assert held.due_us is not None
    assert held.due_us - held.now_us <= SECOND + FARTHEST_US


async def test_a_call_that_had_no_time_to_wait_is_not_refused_because_of_a_slow_request(clocks: Clocks) -> None:
    bench = clocks.bench(kind="soft", most=40)
    await spent(bench, 2)
    clocks.slow_s = 0.6
    await bench.claim()
    clocks.slow_s = 0.0
    (answer,) = await bench.come(LANE, deadline_us=clocks.now_us() + 30 * SECOND)
    assert isinstance(answer, Admitted)


async def test_a_limit_that_is_only_looked_at_leaves_nothing_behind(clocks: Clocks) -> None:
    bench = clocks.bench()
    await clocks.redis.set("{s0}:stepped", SECOND)
    await bench.claim()
    await bench.come(LANE)
    assert await clocks.redis.exists(ROW) == 0
    assert msgspec.to_builtins((await bench.claim()).claims[0].run)["permits"]

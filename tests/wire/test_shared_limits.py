"""What one answer does to a limit that all share: it closes it, tightens it, or charges what others have used; and what a loss does."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.lanes.fleet import Epoch
from gateway.lanes.queue import Lanes, Terms
from gateway.lanes.watermark import Watermark
from gateway.ports import Admission, Admitted, Answer, Claim, Claims, Flooded, Heavy, Lesson, Live, Need, Plan, Slots
from schemas.lifecycle import HoldReason
from schemas.topics import Shard, Topics
from tests.wire.test_fairness import settled

TERMS = Terms(items=256, size_bytes=8_000_000, wait_s=0.01, most_bytes=4000)
LANE, SPARE, OTHER = "crm|main|create", "crm|spare|create", "crm|main|get"
CORE = "crm|main|core"
MINUTE = 60_000_000
GRACE_US = 7_000_000


class Bench:
    """Three lanes: two share the limit `core` of their connection, the third has one of its own."""

    def __init__(
        self,
        redis: "Redis",
        *,
        most: int = 10,
        window_us: int = MINUTE,
        kind: str = "strict",
        safe: str = "",
        grace_us: int = GRACE_US,
        timeout_us: int = 1_000_000,
        weighted: bool = False,
    ) -> None:
        need = Need(name="core", per="connection", kind=kind, most=most, window_us=window_us, cost=1, weighted=weighted)
        plans = {
            f"crm|{name}": Plan(hold_us=timeout_us + grace_us, safe=name == safe, needs=[need])
            for name in ("create", "get")
        }
        self._grace_us, self._timeout_us = grace_us, timeout_us
        self.lanes = Lanes(redis, Topics(), shard=Shard(), terms=TERMS, plans=lambda: plans)
        self.redis: Any = redis
        self._numbers = count()

    async def come(
        self, lane: str, calls: int = 1, *, body: str = "{}", entry: str | None = None, **other: Any
    ) -> list[Answer]:
        """Let calls come; `cost` is what each takes of `core`, the others are fields of an admission."""
        cost = other.pop("cost", None)
        admissions = [
            Admission(
                id=(name := f"c{next(self._numbers):05}"),
                lane=lane,
                scope=name,
                print="p",
                body=body,
                event="{}",
                timeout_us=self._timeout_us,
                limit=10**6,
                costs=None if cost is None else {"core": cost},
                entry=entry,
                **{"deadline_us": 10**17, "flow": "f", "weight": 4, **other},
            )
            for _ in range(calls)
        ]
        return await self.lanes.enqueue(admissions)

    async def claim(self, room: int = 100, *, epoch: str = "") -> Claims:
        return await self.lanes.claim("w", next(self._numbers), room=room, grace_us=self._grace_us, epoch=epoch)

    async def settle(self, claim: Claim, *lessons: Lesson, slots: Slots = "answered", **other: Any) -> None:
        settlement = msgspec.structs.replace(settled(claim), slots=slots, lessons=list(lessons) or None, **other)
        assert await self.lanes.settle(settlement) == "settled"

    async def used(self, key: str = CORE) -> int:
        return int(await self.redis.hget(f"{{s0}}:spent:{key}", "used") or 0)

    async def hold(self, call: str) -> Live:
        known = await self.lanes.inspect(call)
        assert isinstance(known, Live)
        return known


async def test_a_closed_limit_stops_every_lane_that_shares_it_and_no_other(redis: "Redis") -> None:
    bench = Bench(redis)
    await bench.come(LANE, 3)
    (first,) = (await bench.claim(1)).claims
    await bench.settle(first, Lesson(limit=CORE, close_us=40_000))
    await bench.come(OTHER)
    await bench.come(SPARE)
    held = await bench.claim()
    assert [claim.run.lane for claim in held.claims] == [SPARE]
    assert held.due_us is not None
    assert 0 < held.due_us - held.now_us <= 40_000
    known = await bench.hold("c00001")
    assert known.held is not None
    assert (known.held.reason, known.held.key) == (HoldReason.RATE_LIMIT, CORE)
    await asyncio.sleep(0.05)
    (probe,) = (await bench.claim()).claims
    await bench.settle(probe)
    assert {claim.run.lane for claim in (await bench.claim()).claims} == {LANE, OTHER}


async def test_a_later_reset_is_kept_when_an_earlier_one_is_told_afterwards(redis: "Redis") -> None:
    bench = Bench(redis)
    await bench.come(LANE, 3)
    long, short = (await bench.claim(2)).claims
    await bench.settle(long, Lesson(limit=CORE, close_us=3 * 3600 * 1_000_000))
    await bench.settle(short, Lesson(limit=CORE, close_us=1000))
    held = await bench.claim()
    assert held.claims == ()
    assert held.due_us is not None
    assert held.due_us - held.now_us > 3 * 3590 * 1_000_000


async def test_a_gate_without_a_limit_closes_the_connection(redis: "Redis") -> None:
    bench = Bench(redis)
    await bench.come(LANE, 2)
    (first,) = (await bench.claim(1)).claims
    await bench.settle(first, Lesson(limit="@crm|main", close_us=MINUTE))
    await bench.come(SPARE)
    assert [claim.run.lane for claim in (await bench.claim()).claims] == [SPARE]


async def test_what_others_used_is_charged_until_the_vendor_resets(redis: "Redis") -> None:
    bench = Bench(redis, most=10)
    await bench.come(LANE, 10)
    (first,) = (await bench.claim(1)).claims
    await bench.settle(first, Lesson(limit=CORE, left=4, reset_us=50_000))
    assert await bench.used() == 6
    assert len((await bench.claim()).claims) == 4
    await asyncio.sleep(0.06)
    assert len((await bench.claim()).claims) == 5


async def test_a_vendor_that_sees_more_left_than_we_do_loosens_nothing(redis: "Redis") -> None:
    bench = Bench(redis, most=3)
    await bench.come(LANE, 9)
    first, *_ = (await bench.claim(2)).claims
    await bench.settle(first, Lesson(limit=CORE, left=100, reset_us=1))
    assert await bench.used() == 2
    assert len((await bench.claim()).claims) == 1


async def test_a_lower_limit_of_the_vendor_counts_at_once_and_is_loosened_by_a_tenth_a_window(redis: "Redis") -> None:
    bench = Bench(redis, most=20, window_us=30_000)
    await bench.come(LANE, 60)
    (first,) = (await bench.claim(1)).claims
    await bench.settle(first, Lesson(limit=CORE, most=5))
    assert len((await bench.claim()).claims) == 4
    most = 5
    while most < 20:
        await asyncio.sleep(0.035)
        await bench.redis.delete(f"{{s0}}:slots:{CORE}")
        await bench.redis.hset(f"{{s0}}:spent:{CORE}", "used", 0)
        (claim,) = (await bench.claim(1)).claims
        await bench.settle(claim)
        most = min(20, most + 2)
        assert int(await bench.redis.hget(f"{{s0}}:spent:{CORE}", "most")) == most


async def test_a_state_that_was_lost_starts_with_full_limits_until_what_was_sent_has_left_every_window(
    redis: "Redis", tmp_path: Path
) -> None:
    bench = Bench(redis, window_us=100_000)
    told: list[tuple[str, str]] = []
    names = iter(["one", "two", "three"])
    epoch = Epoch(bench.lanes, tmp_path / "epoch", lambda: next(names))

    async def lost(expected: str, found: str) -> None:
        told.append((expected, found))

    await epoch.check(lost)
    await bench.come(LANE, 2)
    assert len((await bench.claim(1, epoch=epoch.name)).claims) == 1, "a first start is no loss"
    await redis.flushall()
    (admitted, _) = await bench.come(LANE, 2)
    forgot = await bench.claim(epoch=epoch.name)
    assert forgot.forgot
    assert forgot.claims == ()
    await epoch.check(lost)
    assert told == [("one", "two")]
    held = await bench.claim(epoch=epoch.name)
    assert held.claims == ()
    # One call's time and grace, and the window.
    assert held.due_us is not None
    assert 7_900_000 < held.due_us - held.now_us <= 8_100_000
    assert isinstance(admitted, Admitted)
    known = await bench.hold(admitted.call)
    assert known.held is not None
    assert (known.held.reason, known.held.detail) == (HoldReason.RATE_LIMIT, "forgotten")
    another = Epoch(bench.lanes, tmp_path / "epoch", lambda: next(names))
    another.name = "one"
    before = await bench.redis.get("{s0}:forgot")
    await another.check(lost)
    assert (another.name, await bench.redis.get("{s0}:forgot")) == ("two", before), "a loss is found once"


async def test_a_loss_that_could_not_be_told_is_told_at_the_next_look(redis: "Redis", tmp_path: Path) -> None:
    bench = Bench(redis)
    names = iter(["one", "two", "three", "four"])
    epoch = Epoch(bench.lanes, tmp_path / "epoch", lambda: next(names))
    told: list[tuple[str, str]] = []

    async def down(_expected: str, _found: str) -> None:
        raise ConnectionError

    async def lost(expected: str, found: str) -> None:
        told.append((expected, found))

    await epoch.check(lost)
    await redis.flushall()
    with pytest.raises(ConnectionError):
        await epoch.check(down)
    await epoch.check(lost)
    await epoch.check(lost)
    assert told == [("one", "two")]


@pytest.mark.parametrize("slots", ["unused", "answered", "doubt", "lost"])
async def test_a_concurrency_is_given_back_at_once_unless_the_call_may_still_be_there(
    redis: "Redis", slots: Slots
) -> None:
    bench = Bench(redis, most=1, window_us=0, kind="concurrency")
    await bench.come(LANE, 2)
    (first,) = (await bench.claim()).claims
    assert (await bench.claim()).claims == ()
    await bench.settle(first, slots=slots)
    assert len((await bench.claim()).claims) == (1 if slots in ("unused", "answered") else 0)


async def test_a_lane_behind_a_closed_limit_is_not_looked_at_again_before_it_moves(redis: "Redis") -> None:
    bench = Bench(redis, most=1)
    await bench.come(LANE, 3)
    await bench.come(OTHER, 3)
    await bench.claim()
    await bench.claim()
    await bench.redis.config_resetstat()
    for _ in range(20):
        assert (await bench.claim()).claims == ()
    stats = await bench.redis.info("commandstats")
    assert "cmdstat_zpopmin" not in stats
    assert "cmdstat_hmget" not in stats, "no limit and no gate is read while nothing has moved"


async def test_the_bytes_of_a_tenant_are_bounded_and_given_back(redis: "Redis") -> None:
    bench = Bench(redis)
    assert [type(answer) for answer in await bench.come(LANE, 3, body="x" * 1500)] == [Admitted, Admitted, Heavy]
    (claim,) = (await bench.claim(1)).claims
    await bench.settle(claim)
    assert [type(answer) for answer in await bench.come(LANE, 1, body="x" * 1500)] == [Admitted]
    for claim in (await bench.claim()).claims:
        await bench.settle(claim)
    assert int(await bench.redis.hget("{s0}:bytes", "default")) == 0


async def test_above_the_watermark_nothing_new_is_taken_but_from_the_bus_until_it_has_drained(redis: "Redis") -> None:
    bench = Bench(redis)
    used = int((await bench.redis.info("memory"))["used_memory"])
    mark = Watermark(redis, Shard(), high_bytes=used + 60_000_000, low_share=(used + 30_000_000) / (used + 60_000_000))
    assert not (await mark.look()).flooded
    await bench.redis.setrange("ballast", 70_000_000, "x")
    assert not (await mark.look()).flooded, "nothing waits whose end would free memory"
    await bench.redis.hset("{s0}:runs", mapping=dict.fromkeys(range(1000), ""))
    level = await mark.look()
    assert (level.flooded, level.changed) == (True, True)
    assert await bench.come(LANE, 1) == [Flooded(0)]
    await bench.redis.delete("ballast")
    await bench.redis.setrange("ballast", 45_000_000, "x")
    level = await mark.look()
    assert (level.flooded, level.changed) == (True, False), "between the marks it stays as it is"
    await bench.redis.rename("{s0}:runs", "runs of others")
    level = await mark.look()
    assert (level.flooded, level.changed) == (False, True), "what ended calls left only goes with time"
    await bench.redis.rename("runs of others", "{s0}:runs")
    await bench.redis.setrange("ballast", 70_000_000, "x")
    assert (await mark.look()).flooded
    await bench.redis.delete("ballast")
    level = await mark.look()
    assert (level.flooded, level.changed) == (False, True)
    assert [type(answer) for answer in await bench.come(LANE, 1)] == [Admitted]


async def test_calls_whose_deadline_passes_behind_a_closed_gate_are_found(redis: "Redis") -> None:
    bench = Bench(redis)
    await bench.lanes.close("@crm", HoldReason.PAUSED, for_us=0, detail="x")
    await bench.come(LANE, 2)
    await bench.redis.zadd("{s0}:deadlines", {"c00000": 1})
    (late,) = await bench.lanes.overdue(most=10, lease_us=1_000_000)
    assert late.id == "c00000"
    assert await bench.redis.zrange("{s0}:lane:crm|main|create", 0, -1) == [b"c00001"]
    assert await bench.lanes.overdue(most=10, lease_us=1_000_000) == ()


async def test_a_gate_that_opens_for_probes_lets_one_through_at_a_time_a_safe_one_first(redis: "Redis") -> None:
    bench = Bench(redis, most=100, safe="get")
    await bench.lanes.close("@crm", HoldReason.BREAKER_OPEN, for_us=30_000, detail="down", most=1)
    for lane in (LANE, SPARE, OTHER):
        await bench.come(lane, 2)
    assert (await bench.claim()).claims == ()
    await asyncio.sleep(0.04)
    (probe,) = (await bench.claim()).claims
    assert probe.run.lane == OTHER
    waiting = await bench.hold("c00000")
    assert waiting.held is not None
    assert (waiting.held.reason, waiting.held.key, waiting.eta_us) == (HoldReason.BREAKER_OPEN, "@crm", None)
    assert (await bench.claim()).claims == ()
    await bench.settle(probe)
    (second,) = (await bench.claim()).claims
    await bench.settle(second)
    await bench.lanes.close("@crm", HoldReason.BREAKER_OPEN, for_us=1, detail="slow start", most=2)
    assert len((await bench.claim()).claims) == 2
    await bench.lanes.open("@crm", HoldReason.BREAKER_OPEN)
    assert len((await bench.claim()).claims) == 2


async def test_a_probe_that_fails_closes_the_gate_for_all(redis: "Redis") -> None:
    bench = Bench(redis, most=100)
    await bench.lanes.close("@crm", HoldReason.BREAKER_OPEN, for_us=1, detail="down", most=1)
    await bench.come(LANE, 3)
    await bench.come(OTHER, 3)
    (probe,) = (await bench.claim()).claims
    await bench.lanes.close("@crm", HoldReason.BREAKER_OPEN, for_us=40_000, detail="down", most=1)
    await bench.settle(probe)
    assert (await bench.claim()).claims == ()
    await asyncio.sleep(0.05)
    assert len((await bench.claim()).claims) == 1


async def test_a_probe_whose_worker_dies_is_given_back_by_the_end_of_its_lease(redis: "Redis") -> None:
    bench = Bench(redis, most=100, grace_us=20_000, timeout_us=20_000)
    await bench.lanes.close("@crm", HoldReason.BREAKER_OPEN, for_us=1, detail="down", most=1)
    await bench.come(LANE, 2)
    assert len((await bench.claim()).claims) == 1
    held = await bench.claim()
    assert held.claims == ()
    assert held.due_us is not None
    await asyncio.sleep(0.05)
    assert len((await bench.claim()).claims) == 1


async def test_a_large_concurrency_is_settled_in_doubt_like_any_other(redis: "Redis") -> None:
    bench = Bench(redis, most=20_000, window_us=0, kind="concurrency")
    await bench.come(LANE)
    (claim,) = (await bench.claim()).claims
    await bench.settle(claim, slots="doubt")
    assert await bench.used() == 1


async def test_a_lane_that_once_waited_for_a_limit_leaves_room_to_the_others(redis: "Redis") -> None:
    bench = Bench(redis, most=10_000)
    await bench.come(LANE, 200)
    (first,) = (await bench.claim(1)).claims
    await bench.settle(first, Lesson(limit=CORE, close_us=50_000))
    assert (await bench.claim(1)).claims == ()
    await asyncio.sleep(0.06)
    (probe,) = (await bench.claim(1)).claims
    await bench.settle(probe)
    await bench.come("other|-|get", 20)
    served = [claim.run.lane for _ in range(40) for claim in (await bench.claim(1)).claims]
    assert served.count("other|-|get") >= 10

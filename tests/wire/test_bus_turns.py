"""The subscription is started and stopped by several chores and at the end: whatever comes at once, a stop is final."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.entrypoints.bus import on_redis as bus_module
from gateway.entrypoints.bus.alone import Alone
from gateway.entrypoints.bus.on_redis import Bus, Sweeper
from gateway.flow.intake import Entry
from gateway.lanes.fleet import Fleet
from gateway.lanes.queue import Lanes, Terms
from schemas.topics import GROUP, Shard, Topics


class Inbox:
    """Stands where intake does, and keeps what is read."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    async def from_bus(self, entries: list[Entry]) -> list[str]:
        self.seen += [entry.raw for entry in entries]
        return []


@pytest.fixture
async def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def bus(redis: "Redis", redis_url: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bus]:
    monkeypatch.setattr(bus_module, "POLL_MS", 20)
    await redis.xgroup_create("tool-calls", GROUP, id="0", mkstream=True)
    stage: Any = inbox
    bus = Bus(redis_url, "tool-calls", stage, consumer="one", batch=10)
    await bus.start()
    yield bus
    await bus.stop()


async def reads(redis: "Redis", inbox: Inbox, word: str) -> bool:
    await redis.xadd("tool-calls", {"data": word})
    await asyncio.sleep(0.3)
    return word.encode() in inbox.seen


async def test_a_paused_bus_reads_nothing_until_it_is_resumed(redis: "Redis", bus: Bus, inbox: Inbox) -> None:
    assert await reads(redis, inbox, "before")
    await bus.pause()
    assert not await bus.ensure_running(), "a pause is not a subscription that gave up"
    await asyncio.sleep(0.1)  # a read that had begun may still come back: what it brings is for the sweeper
    assert not await reads(redis, inbox, "meanwhile")
    await bus.resume()
    assert await reads(redis, inbox, "after")
    assert b"meanwhile" in inbox.seen


async def test_a_pause_that_comes_while_it_is_started_again_holds(redis: "Redis", bus: Bus, inbox: Inbox) -> None:
    for number in range(5):
        await asyncio.gather(bus.resume(), bus.ensure_running(), bus.pause())
        assert bus.paused
        assert not await reads(redis, inbox, f"paused {number}")
        await asyncio.gather(bus.pause(), bus.resume(), bus.ensure_running())
        assert not bus.paused
        assert await reads(redis, inbox, f"resumed {number}")


async def test_whatever_is_asked_for_after_a_stop_reads_nothing(redis: "Redis", bus: Bus, inbox: Inbox) -> None:
    await bus.pause()
    await asyncio.gather(bus.stop(), bus.resume(), bus.ensure_running())
    assert not await bus.ensure_running()
    assert not await reads(redis, inbox, "too late")


async def test_a_sweep_of_a_redis_that_was_emptied_finds_nothing(redis: "Redis") -> None:
    terms = Terms(items=1, size_bytes=1, wait_s=0.01, most_bytes=1)
    lanes = Lanes(redis, Topics(), shard=Shard(), terms=terms, plans=dict)
    fleet = Fleet(redis, Shard(), "one", dead_after_s=1)
    stage: Any = Inbox()
    alone = Alone(redis, Shard(), most=3)
    assert await Sweeper(lanes, redis, "tool-calls", fleet, alone).sweep(stage, dead_idle_ms=0) == 0
    await redis.xadd("tool-calls", {"data": "x"})
    assert await Sweeper(lanes, redis, "tool-calls", fleet, alone).sweep(stage, dead_idle_ms=0) == 0

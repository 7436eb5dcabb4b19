"""Breakers of several processes on one real Redis: a trip is seen everywhere, one probe at a time, and an outage stops nobody."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from connectors.breaking.breaker import Move, Permit
from connectors.breaking.standing import Mode, State, Word, overridden
from connectors.breaking.store import Probed
from gateway.embedded_redis import EmbeddedRedis
from gateway.lanes.connect import connect
from gateway.lanes.overview import Overview
from schemas.lifecycle import HoldReason
from schemas.topics import Shard, Topics
from tests.vendor.client import ROOT
from tests.wire.breaking import GATE, KEY, OUTCOMES, Member, member

pytestmark = pytest.mark.wire


@asynccontextmanager
async def fleet(redis: "Redis", url: str, size: int) -> AsyncIterator[list[Member]]:
    """Open several members in this process, each with connections of its own."""
    async with AsyncExitStack() as stack:
        members = []
        for number in range(size):
            mine = await stack.enter_async_context(connect(url, timeout_s=2))
            listener = await stack.enter_async_context(connect(url, timeout_s=None))
            members.append(await stack.enter_async_context(member(mine, listener, f"w{number}")))
        await asyncio.sleep(0.1)
        yield members


async def until(true: Callable[[], bool], seconds: float = 3.0) -> float:
    """Wait until it is so; returns how long that took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds
        await asyncio.sleep(0.005)
    return time.monotonic() - begun


async def trip(one: Member) -> None:
    for _ in range(5):
        await one.call("failed")


async def closing(redis: "Redis") -> dict[str, Any]:
    """Return the closing of the gate, as the scripts keep it."""
    client: Any = redis
    packed = await client.hget(Shard().key("gates"), GATE)
    return msgspec.msgpack.decode(packed)[HoldReason.BREAKER_OPEN] if packed else {}


async def events(redis: "Redis") -> list[dict[str, Any]]:
    client: Any = redis
    entries = await client.xrange(Topics().events)
    return [json.loads(fields[b"data"]) for _, fields in entries]


class Process:
    """A member in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def say(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        answer: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return answer


@asynccontextmanager
async def processes(url: str, size: int) -> AsyncIterator[list[Process]]:
    pipe = asyncio.subprocess.PIPE
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.wire.breaking", url, f"p{number}", stdin=pipe, stdout=pipe, cwd=ROOT
        )
        for number in range(size)
    ]
    try:
        several = [Process(one) for one in started]
        for one in several:
            await one.say("look")
        yield several
    finally:
        for process in started:
            process.kill()
            await process.wait()


async def test_a_trip_is_seen_in_another_process_within_300_ms(redis: "Redis", redis_url: str) -> None:
    async with processes(redis_url, 2) as (one, other):
        tripped = await one.say("failed 5")
        assert tripped["state"] == "open"
        seen = await other.say("look")
        while seen["state"] != "open":
            seen = await other.say("look")
        assert seen["at"] - tripped["at"] < 0.3
        assert seen["generation"] == 1


async def test_calls_of_all_processes_count_towards_the_smallest_number(redis: "Redis", redis_url: str) -> None:
    """Four processes with three calls each: none has ten, together they have twelve, six of them failed."""
    async with processes(redis_url, 4) as several:
        for one in several:
            await one.say("failed 1")
            await one.say("ok 1")
            await one.say("failed 1" if one in several[:2] else "ok 1")
            await asyncio.sleep(0.3)
        answers = [await one.say("look") for one in several]
        assert {answer["state"] for answer in answers} == {"open"}


async def test_failures_in_a_row_are_counted_over_processes(redis: "Redis", redis_url: str) -> None:
    async with fleet(redis, redis_url, 5) as members:
        for one in members:
            await one.call("failed")
            await asyncio.sleep(0.15)
        await until(lambda: {one.state for one in members} == {"open"})


async def test_an_open_breaker_closes_the_gate_and_is_let_go_step_by_step(redis: "Redis", redis_url: str) -> None:
    async with fleet(redis, redis_url, 2) as (one, other):
        await trip(one)
        await until(lambda: other.state == "open")
        shut = await closing(redis)
        assert shut["most"] == 1
        assert 0 < shut["until_us"] / 1e6 - time.time() < 0.7
        assert "5 failures in a row" in shut["detail"]
        (held,) = await Overview(redis, Shard(), high_bytes=1 << 40).closed()
        assert (held.key, held.reason) == (GATE, HoldReason.BREAKER_OPEN)
        assert not await other.call("ok")
        await until(lambda: other.state == "half_open")
        await until_called(other, 1)
        await until_called(one, 1)
        await until(lambda: {one.state, other.state} == {"closed"})
        assert (await closing(redis))["most"] == 2
        mosts = [2]
        for _ in range(62):
            await one.call("ok")
            await asyncio.sleep(0.03)
            most = (await closing(redis)).get("most", 0)
            mosts += [most] if most != mosts[-1] else []
        await until(lambda: other.breaker.standing.ramp == 0)
        assert await closing(redis) == {}
        assert mosts[:3] == [2, 4, 8]
        told = [event["data"]["state"] for event in await events(redis)]
        assert told == ["open", "half_open", "closed"]
        changes = [(seen.before, seen.standing.state) for seen in one.seen + other.seen if seen.before is not None]
        assert sorted(changes) == sorted(
            [(State.CLOSED, State.OPEN), (State.OPEN, State.HALF_OPEN), (State.HALF_OPEN, State.CLOSED)]
        )


async def until_called(one: Member, calls: int) -> None:
    """Make good calls; where a place is taken, ask again."""
    async with asyncio.timeout(3):
        while calls:
            calls -= await one.call("ok")
            await asyncio.sleep(0.01)


async def test_of_eight_that_race_one_probes(redis: "Redis", redis_url: str) -> None:
    async with fleet(redis, redis_url, 8) as members:
        await trip(members[0])
        await until(lambda: {one.state for one in members} == {"half_open"})
        given = await asyncio.gather(
            *(one.breakers.admit(one.breaker, timeout_s=1.0) for one in members for _ in range(20))
        )
        permits = [(at // 20, permit) for at, permit in enumerate(given) if isinstance(permit, Permit)]
        ((at, probe),) = permits
        assert probe.probe
        members[at].breakers.settle(probe, OUTCOMES["failed"])
        await until(lambda: {one.state for one in members} == {"open"})
        assert {one.breaker.standing.generation for one in members} == {2}


async def test_a_probe_is_told_of_once_also_when_its_news_come_before_its_answer(
    redis: "Redis", redis_url: str
) -> None:
    async with fleet(redis, redis_url, 1) as (one,):
        await trip(one)
        await until(lambda: one.state == "half_open")
        whole = one.store.probe

        async def late(permit: Permit, lease_s: float) -> Probed:
            answer = await whole(permit, lease_s)
            one.breakers.heard(KEY, answer.shared)
            return answer

        one.store.probe = late  # type: ignore[method-assign]
        await until_called(one, 2)
        told = [seen.standing.state for seen in one.seen if seen.before is State.OPEN]
        assert told == [State.HALF_OPEN]


async def test_the_place_of_a_prober_that_died_is_free_when_its_lease_ends(redis: "Redis", redis_url: str) -> None:
    async with fleet(redis, redis_url, 2) as (one, other):
        await trip(one)
        await until(lambda: {one.state, other.state} == {"half_open"})
        lost = one.breaker.admit(time.time(), worker="w0", lease_s=0.4)
        assert isinstance(lost, Permit)
        assert (await one.store.probe(lost, 0.4)).granted
        assert not await other.call("ok")
        await until_called(other, 2)
        await until(lambda: other.state == "closed")


async def test_a_classifier_that_breaks_and_a_caller_that_goes_leave_no_probe_behind(
    redis: "Redis", redis_url: str
) -> None:
    async with fleet(redis, redis_url, 2) as (one, other):
        await trip(one)
        await until(lambda: {one.state, other.state} == {"half_open"})
        probe = await one.breakers.admit(one.breaker, timeout_s=60.0)
        assert isinstance(probe, Permit)
        one.breakers.settle(probe, None)
        await until_called(other, 2)
        await until(lambda: {one.state, other.state} == {"closed"})


async def test_one_that_is_told_nothing_by_signal_looks_for_itself(redis: "Redis", redis_url: str) -> None:
    async with fleet(redis, redis_url, 2) as (one, other):
        other.breakers.heard = lambda key, shared: None  # type: ignore[method-assign] # noqa: ARG005 - deaf
        await trip(one)
        assert await until(lambda: other.state in {"open", "half_open"}) < 1.5


async def test_an_operator_is_obeyed_by_all_and_the_gate_with_them(redis: "Redis", redis_url: str) -> None:
    async with fleet(redis, redis_url, 2) as (one, other):
        assert await one.call("ok")
        for mode, state, let in ((Mode.OPEN, "open", False), (Mode.CLOSED, "closed", True)):
            now = time.time()
            word = Word(mode=mode, owner="night-shift", reason="upgrade")
            before = (await one.store.look()).get(KEY)
            standing, revision = (before.standing, before.revision) if before else (one.breaker.standing, 0)
            after = overridden(standing, word, now)
            move = Move(standing.generation, None, standing.state, after)
            taken, shared = await one.store.move(KEY, move)
            assert taken
            assert shared.revision == revision + 1
            await until(lambda state=state: {one.state, other.state} == {state})  # type: ignore[misc] # a default binds it
            assert await other.call("ok") is let
            assert bool(await closing(redis)) is not let
        for _ in range(30):
            await other.call("failed")
        await asyncio.sleep(0.4)
        assert {one.state, other.state} == {"closed"}


async def test_the_same_flush_twice_adds_nothing(redis: "Redis", redis_url: str) -> None:
    async with fleet(redis, redis_url, 1) as (one,):
        one.breaker.window.add(time.time(), failed=True, slow=False)
        one.breaker.window.pack()
        delta = one.breakers._delta(one.breaker, "")
        sums = [(await one.store.flush(10**6 + number, [delta]))[0] for number in (1, 1, 2)]
        assert [(sum(counts.failures for counts in one.ages.values()), one.row) for one in sums] == [
            (1, 1),
            (1, 1),
            (2, 2),
        ]


async def test_while_redis_is_away_each_decides_for_itself_and_then_they_agree(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    await server.start()
    async with connect(server.url) as redis, fleet(redis, server.url, 2) as (one, other):
        assert await one.call("ok")
        await asyncio.sleep(0.3)
        await server.stop()
        await trip(one)
        assert not await one.call("ok")
        assert other.state == "closed"
        await until(lambda: one.state == "half_open")
        assert await one.call("failed")
        assert one.breaker.standing.generation == 2
        server = EmbeddedRedis(tmp_path)
        await server.start()
        await until(lambda: other.breaker.standing.generation == 2, 5.0)
        assert (await closing(redis))["most"] == 1
        await server.stop()

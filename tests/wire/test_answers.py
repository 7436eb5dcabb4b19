"""Where the answer of a call that ended lies: in Redis, until the journal has it and an hour is over; a duplicate gets it from either."""

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.embedded_redis import EmbeddedRedis
from gateway.entrypoints.bus import on_redis
from gateway.flow import recall
from gateway.journal_role import outlasts_keys
from gateway.lanes.connect import connect
from gateway.lanes.queue import PASSING
from gateway.lanes.topic_reader import unread
from gateway.settings import Settings
from schemas.topics import GROUP, Shard
from tests.served import journalling, served
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

TOPICS = ("tool-events", "tool-results", "dead-letters")
DAY_S = 86_400
ORDER = {"ref": "o-1", "item": "book"}
SENT = {"ref": "m-1", "text": "hello"}
KEY = "step-1"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back to what waits for the journal without the patience of a real outage."""
    monkeypatch.setattr(on_redis, "FORGOTTEN_MS", 200)
    monkeypatch.setattr(recall, "REST_S", 0.1)


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def published(redis: "Redis", key: str = KEY, **more: Any) -> None:
    """Publish the order on the bus, as an agent would that does not know whether it has."""
    data = {"tool": "crm.orders.create", "arguments": ORDER, "idempotency_key": key, **more}
    event = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/one", "id": os.urandom(4).hex()}
    await redis.xadd("tool-calls", {"data": json.dumps({**event, "data": data})})


async def results(redis: "Redis", count: int) -> list[dict[str, Any]]:
    """Wait for so many results and return them."""

    async def enough() -> bool:
        return await redis.xlen("tool-results") >= count

    await until(enough)
    told: Any = await redis.xrange("tool-results")
    assert len(told) == count
    return [json.loads(fields[b"data"]) for _, fields in told]


async def ttl_of(redis: "Redis", call: str) -> int:
    left: int = await redis.ttl(Shard().answer(call))
    return left


async def journalled(redis: "Redis") -> None:
    async def written() -> bool:
        found = await unread(redis, TOPICS)
        return len(found) == 3 and all(one.entries == 0 for one in found)

    await until(written)


async def gone(redis: "Redis", call: str) -> None:
    async def left() -> bool:
        return not await redis.exists(Shard().answer(call))

    await until(left)


def alike(first: dict[str, Any], again: dict[str, Any]) -> bool:
    """Tell whether two result events are one; only the span that published them may differ."""
    traces = {one.pop("traceparent").split("-")[1] for one in (first, again)}
    return len(traces) == 1 and first == again


async def test_a_duplicate_gets_the_same_answer_from_the_journal_on_the_bus_and_over_http(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    more: dict[str, Any] = {"journals": True, "answer_ttl": 1}
    async with served(redis_url, tmp_path / "data", manifest(vendor.url), **more) as gateway:
        await published(redis)
        (first,) = await results(redis, 1)
        call = first["data"]["call"]
        shown = (await gateway.http.get(f"/v1/calls/{call}")).json()
        await gone(redis, call)
        await published(redis)
        _, again = await results(redis, 2)
        assert alike(first, again)
        assert (await gateway.http.get(f"/v1/calls/{call}")).json() == shown
        assert await redis.exists(Shard().answer(call)), "whoever asks next need not ask the journal"
        await gone(redis, call)
        answer = await gateway.publish("crm.orders.create", ORDER, idempotency_key=KEY)
        assert (answer.status_code, answer.json()) == (200, first["data"])
        stats = await gateway.gateway.lanes.stats()
        assert (stats["received"], stats["accepted"], stats["duplicates"]) == (3, 1, 2)
        assert (await redis.xpending("tool-calls", GROUP))["pending"] == 0
    assert vendor.counts().effects_total == 1


async def test_without_a_journal_an_answer_stays_as_long_as_its_key_and_leaves_when_one_has_caught_up(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    async with served(redis_url, tmp_path / "data", manifest(vendor.url)) as gateway:
        settings = gateway.gateway.settings
        async with journalling(settings):
            await published(redis, "step-0")
            (early,) = await results(redis, 1)
            await journalled(redis)
            assert 0 < await ttl_of(redis, early["data"]["call"]) <= settings.answer_ttl == 3600
        await published(redis)
        _, first = await results(redis, 2)
        call = first["data"]["call"]
        assert await ttl_of(redis, call) > DAY_S - 60, "the journal is down: it may be behind for hours"
        await published(redis)
        *_, again = await results(redis, 3)
        assert again == first
        async with journalling(settings):
            await journalled(redis)
            assert 0 < await ttl_of(redis, call) <= 3600
    assert vendor.counts().effects_total == 2


async def test_a_duplicate_waits_for_a_journal_that_is_away_and_is_never_made_again(
    soon: None, redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    data = tmp_path / "data"
    async with served(redis_url, data, manifest(vendor.url), answer_ttl=1) as gateway:
        settings = gateway.gateway.settings
        async with journalling(settings):
            await published(redis)
            (first,) = await results(redis, 1)
            await gone(redis, first["data"]["call"])
        aside = [(file, file.with_suffix(file.suffix + ".aside")) for file in data.glob("journal.db*")]
        for here, there in aside:
            here.rename(there)
        await gateway.gateway.history.database.close()
        (key,) = [key async for key in redis.scan_iter(match="*:idem:*")]
        await redis.expire(key, 30)
        await published(redis)
        await published(redis, "step-2")
        _, other = await results(redis, 2)
        assert other["data"]["idempotency_key"] == "step-2", "what comes behind it is not held up"
        await asyncio.sleep(0.5)
        assert (await redis.xpending("tool-calls", GROUP))["pending"] == 1
        assert await redis.ttl(key) > 3600, "what waits is a duplicate for as long as it waits"
        assert await redis.xlen("tool-results") == 2
        for here, there in aside:
            there.rename(here)
        *_, again = await results(redis, 3)
        assert alike(first, again)
        assert (await redis.xpending("tool-calls", GROUP))["pending"] == 0
        stats = await gateway.gateway.lanes.stats()
        assert (stats["received"], stats["accepted"], stats["duplicates"]) == (3, 2, 1)
    assert vendor.counts().effects_total == 2


async def test_a_journal_that_was_emptied_costs_the_answer_and_no_second_effect(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    async with served(redis_url, tmp_path / "data", manifest(vendor.url), journals=True) as gateway:
        await published(redis)
        (first,) = await results(redis, 1)
        await journalled(redis)
        await redis.delete(Shard().answer(first["data"]["call"]))

        async def emptied(_: str) -> None:
            return None

        gateway.gateway.intake.recall = recall.Recall(emptied, away=(), monotonic=lambda: 0.0, answer_ttl_s=1).endings
        await published(redis)

        async def counted() -> bool:
            return (await gateway.gateway.lanes.stats()).get("duplicates") == 1

        await until(counted)
        assert (await redis.xpending("tool-calls", GROUP))["pending"] == 0
        assert await redis.xlen("tool-results") == 1
    assert vendor.counts().effects_total == 1


async def test_what_the_journal_does_not_keep_whole_and_what_has_an_open_letter_stays(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    more: dict[str, Any] = {"journals": True, "journal_result_bytes": 100}
    async with served(redis_url, tmp_path / "data", manifest(vendor.url), **more) as gateway:
        large = (await gateway.publish("crm.echo", {}, idempotency_key="large")).json()["call"]
        await journalled(redis)
        assert await ttl_of(redis, large) > DAY_S - 60
    async with served(redis_url, tmp_path / "data", manifest(vendor.url), journals=True) as gateway:
        vendor.script("*", Behaviour(do=Kind.RESET, forever=True))
        lost = (await gateway.publish("crm.messages.send", SENT, idempotency_key="lost")).json()
        assert lost["error"]["dead_letter"]
        await journalled(redis)
        assert await ttl_of(redis, lost["call"]) == -1


async def test_a_redis_that_was_killed_still_knows_when_an_answer_leaves(vendor: VendorProcess) -> None:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        server = EmbeddedRedis(Path(folder) / "redis")
        await server.start()
        watching = asyncio.create_task(server.watch(_nothing))
        try:
            async with _gateway_on(server, Path(folder) / "data", vendor) as (gateway, redis):
                await published(redis)
                (first,) = await results(redis, 1)
                await journalled(redis)
                call, pid = first["data"]["call"], server.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                await until(lambda: _back(server, pid, redis))
                assert 0 < await ttl_of(redis, call) <= 3600
                await redis.delete(Shard().answer(call))
                await published(redis)
                _, again = await results(redis, 2)
                assert alike(first, again)
                assert (await gateway.gateway.lanes.stats())["duplicates"] == 1
        finally:
            await server.stop()
            await watching
    assert vendor.counts().effects_total == 1


@contextlib.asynccontextmanager
async def _gateway_on(server: EmbeddedRedis, data: Path, vendor: VendorProcess) -> AsyncIterator[tuple[Any, Any]]:
    async with (
        served(server.url, data, manifest(vendor.url), journals=True) as gateway,
        connect(server.url) as redis,
    ):
        yield gateway, redis


async def _back(server: EmbeddedRedis, before: int, redis: "Redis") -> bool:
    with contextlib.suppress(*PASSING):
        return server.pid not in {before, None} and bool(await redis.ping())
    return False


async def _nothing(_: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("kept", "outlasts"),
    [
        ({}, True),
        ({"journal_keep_done": 0}, True),
        ({"journal_keep_done": 0.5}, False),
        ({"scope_ttl": 700_000}, False),
    ],
)
def test_answers_leave_redis_only_for_a_journal_that_keeps_calls_as_long_as_their_keys(
    kept: dict[str, Any], *, outlasts: bool
) -> None:
    assert outlasts_keys(Settings(**kept)) is outlasts

"""What every bus promises its worker, on a real Redis and on a real Kafka alike."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from gateway.entrypoints.bus import Bus
from gateway.entrypoints.bus import choice as buses
from gateway.flow.intake import Entry
from gateway.lanes.fleet import Fleet
from gateway.lanes.queue import Lanes, Terms
from gateway.lanes.spread.queue import AllLanes
from gateway.lanes.spread.shards import Seat, Shards
from gateway.settings import Settings
from schemas.topics import GROUP, Shard, Topics
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import NUMBERS
from tests.kafka.mock import MockBroker

pytestmark = [pytest.mark.kafka, pytest.mark.stand_in, pytest.mark.timeout(300)]

WITHIN_S = 30.0


@dataclass
class Inbox:
    """Stands where intake does: keeps what is read, and acknowledges it where the bus is that Redis."""

    acknowledge: Callable[[list[str]], Awaitable[Any]]
    seen: list[bytes] = field(default_factory=list)
    poisoned: list[bytes] = field(default_factory=list)
    failures: int = 0
    waiting: set[bytes] = field(default_factory=set)
    """What cannot be answered now."""
    held: asyncio.Event | None = None

    async def from_bus(self, entries: list[Entry]) -> list[str]:
        if self.held is not None:
            await self.held.wait()
        if self.failures:
            self.failures -= 1
            raise RuntimeError("a bug of a moment")
        waiting = [entry.id for entry in entries if entry.raw in self.waiting]
        taken = [entry for entry in entries if entry.id not in waiting]
        self.seen += [entry.raw for entry in taken]
        if taken:
            await self.acknowledge([entry.id for entry in taken])
        return waiting

    async def poison(self, entry: Entry) -> None:
        self.poisoned.append(entry.raw)
        await self.acknowledge([entry.id])


@dataclass
class Ground:
    """One bus, and how a producer reaches it."""

    make: Callable[[], Bus]
    inbox: Inbox
    publish: Callable[[str], Awaitable[Any]]

    async def reads(self, word: str, within_s: float = WITHIN_S) -> bool:
        """Publish a word and tell whether it is read in time."""
        await self.publish(word)
        return await self.has(word, within_s)

    async def has(self, word: str, within_s: float = WITHIN_S) -> bool:
        give_up = asyncio.get_running_loop().time() + within_s
        while word.encode() not in self.inbox.seen:
            if asyncio.get_running_loop().time() > give_up:
                return False
            await asyncio.sleep(0.05)
        return True


async def nothing_lost() -> None:
    return


@pytest.fixture(params=["redis", "kafka"])
async def ground(
    request: pytest.FixtureRequest, redis: "Redis", redis_url: str, tmp_path: Path
) -> AsyncIterator[Ground]:
    topics = Topics(f"p{next(NUMBERS)}-")
    shard, stream = Shard(topics.prefix), topics.calls
    fleet = Fleet(redis, shard, "one", dead_after_s=1)
    await fleet.beat()
    terms = Terms(items=1, size_bytes=1, wait_s=0.01, most_bytes=1)
    lanes = AllLanes([Lanes(redis, topics, shard=shard, terms=terms, plans=dict)])
    shards = Shards([Seat(shard=shard, topics=topics, redis=redis, listener=redis)])

    def around(inbox: Any, **more: Any) -> buses.Around:
        settings = Settings(redis_url=redis_url, data=tmp_path, topic_prefix=topics.prefix, bus_session=3, **more)
        return buses.Around(
            settings=settings,
            topics=topics,
            shards=shards,
            lanes=lanes,
            fleet=fleet,
            intake=inbox,
            epochs=[str],
            forgot=nothing_lost,
        )

    if request.param == "redis":
        inbox = Inbox(lambda ids: redis.xack(stream, GROUP, *ids))
        yield Ground(lambda: buses.bus_of(around(inbox)), inbox, lambda word: redis.xadd(stream, {"data": word}))
        return
    broker: KafkaBroker = request.getfixturevalue("broker")
    if isinstance(broker, MockBroker):
        await asyncio.to_thread(broker.touch, [topics.calls, *topics.outgoing])

    async def nothing(_: list[str]) -> None:
        return

    inbox = Inbox(nothing)
    producer = AIOKafkaProducer(bootstrap_servers=broker.servers, acks="all")
    await producer.start()
    url = f"kafka://{broker.servers}"
    yield Ground(
        lambda: buses.bus_of(around(inbox, bus_url=url)),
        inbox,
        lambda word: producer.send_and_wait(stream, word.encode()),
    )
    await producer.stop()


@pytest.fixture
async def bus(ground: Ground) -> AsyncIterator[Bus]:
    made = ground.make()
    await made.prepare()
    await made.start()
    yield made
    await made.stop()


async def test_what_was_published_before_the_first_start_is_read(ground: Ground) -> None:
    bus = ground.make()
    await bus.prepare()
    await ground.publish("early")
    await bus.start()
    assert await ground.has("early")
    await bus.stop()


async def test_preparing_twice_changes_nothing(ground: Ground, bus: Bus) -> None:
    await bus.prepare()
    assert await ground.reads("word")


async def test_a_paused_bus_reads_nothing_until_it_is_resumed(ground: Ground, bus: Bus) -> None:
    assert await ground.reads("before")
    await bus.pause()
    assert bus.paused
    await bus.look_after()  # a pause is not a subscription that gave up
    await asyncio.sleep(1.2)  # a read that had begun may still come back
    assert not await ground.reads("meanwhile", within_s=1.5)
    await bus.resume()
    assert not bus.paused
    assert await ground.reads("after")
    assert await ground.has("meanwhile")


async def test_whatever_is_asked_for_after_a_stop_reads_nothing(ground: Ground, bus: Bus) -> None:
    assert await ground.reads("before")
    await bus.pause()
    await asyncio.gather(bus.stop(), bus.resume(), bus.look_after())
    await bus.look_after()
    assert not await ground.reads("too late", within_s=1.5)


async def test_a_stop_waits_for_the_batch_in_hand(ground: Ground, bus: Bus) -> None:
    assert await ground.reads("before")
    ground.inbox.held = asyncio.Event()
    await ground.publish("in hand")
    await asyncio.sleep(1.5)
    stopping = asyncio.create_task(bus.stop())
    await asyncio.sleep(0.3)
    assert not stopping.done()
    ground.inbox.held.set()
    await stopping
    assert b"in hand" in ground.inbox.seen


async def test_what_a_reader_left_the_next_one_reads(ground: Ground) -> None:
    first = ground.make()
    await first.prepare()
    await first.start()
    assert await ground.reads("before")
    await first.stop()
    await ground.publish("between")
    second = ground.make()
    await second.start()
    assert await ground.has("between")
    await second.stop()
    assert ground.inbox.seen == [b"before", b"between"], "what was acknowledged is not read again"


async def test_a_batch_that_failed_is_read_again(ground: Ground, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.entrypoints.bus import on_redis  # noqa: PLC0415 - shortens its patience

    monkeypatch.setattr(on_redis, "FORGOTTEN_MS", 100)
    assert await ground.reads("before")
    ground.inbox.failures = 1
    await ground.publish("failed")
    await asyncio.sleep(1)
    assert await ground.reads("later")  # and what came after it has not jumped over it
    give_up = asyncio.get_running_loop().time() + WITHIN_S
    while not await ground.has("failed", within_s=0.2) and asyncio.get_running_loop().time() < give_up:
        await bus.sweep()
    assert b"failed" in ground.inbox.seen
    assert not ground.inbox.poisoned


async def test_what_waits_for_the_journal_holds_up_nothing_and_is_taken_in_later(
    ground: Ground, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.entrypoints.bus import on_redis  # noqa: PLC0415 - shortens its patience

    monkeypatch.setattr(on_redis, "FORGOTTEN_MS", 100)
    ground.inbox.waiting = {b"known"}
    await ground.publish("known")
    assert await ground.reads("behind it")
    await bus.sweep()
    assert b"known" not in ground.inbox.seen
    ground.inbox.waiting.clear()
    give_up = asyncio.get_running_loop().time() + WITHIN_S
    while not await ground.has("known", within_s=0.2) and asyncio.get_running_loop().time() < give_up:
        await bus.sweep()
    assert b"known" in ground.inbox.seen

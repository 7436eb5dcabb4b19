"""The relay: nothing leaves the outbox without the broker's word, whoever dies, hangs or is fenced in between."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import OutOfOrderSequenceNumber, ProducerFenced
from redis.asyncio import Redis

from gateway.entrypoints.relay import Relay
from gateway.kafka.producer import Message, Producer, Unsent
from gateway.kafka.topics import Unfit, Wanted, ensure
from gateway.lanes.connect import connect
from gateway.lanes.fleet import Fleet
from gateway.lanes.outbox import Outbox, Wires
from schemas.topics import Shard, Topics
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import NUMBERS
from tests.kafka.mock import MockBroker
from tests.kafka.stage import Stage, plain, records
from tests.kafka.test_intake import sends, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


class Post:
    """An outbox with one topic, and producers for it."""

    def __init__(self, redis: "Redis", listener: "Redis", broker: KafkaBroker) -> None:
        self.topics = Topics(f"r{next(NUMBERS)}-")
        self.shard = Shard(self.topics.prefix)
        self.redis = redis
        self.listener = listener
        self.broker = broker
        self.made = 0

    def outbox(self, worker: str) -> Outbox:
        wires = Wires(redis=self.redis, listener=self.listener)
        return Outbox(wires, self.shard, [self.topics.results], Fleet(self.redis, self.shard, worker, dead_after_s=60))

    def producer(self, within_s: float = 10) -> Producer:
        wanted = Wanted(names=[self.topics.results], partitions=1)

        async def measure() -> int:
            self.made += 1
            return await ensure(plain(self.broker.servers), wanted)

        return Producer(plain(self.broker.servers), name="test", within_s=within_s, measure=measure)

    async def put(self, *numbers: int) -> None:
        for number in numbers:
            event = json.dumps({"id": f"e{number}", "data": {"call": f"c{number}", "session": f"s{number % 3}"}})
            await self.redis.xadd(self.topics.results, {"data": event})

    async def place(self) -> int:
        """Return how many entries the outbox still holds behind its place."""
        (place,) = (await self.outbox("looker").places()).values()
        left: Any = await self.redis.xrange(self.topics.results, f"({place}")
        return len(left)


@pytest.fixture
async def post(redis: "Redis", redis_url: str, broker: KafkaBroker) -> AsyncIterator[Post]:
    async with connect(redis_url, timeout_s=None) as listener:
        made = Post(redis, listener, broker)
        if isinstance(broker, MockBroker):
            await asyncio.to_thread(broker.touch, [made.topics.results])
        yield made


async def test_what_the_broker_has_not_confirmed_stays_and_a_producer_that_hangs_is_replaced(post: Post) -> None:
    producer = post.producer(within_s=2)
    relay = Relay(post.outbox("one"), producer)
    await post.put(1, 2)
    assert await relay.turn(10)
    assert await post.place() == 0
    await post.put(3, 4)
    post.broker.suspend()
    try:
        began = time.monotonic()
        with pytest.raises(Unsent):
            await relay.turn(10)
        assert time.monotonic() - began < 8
        assert await post.place() == 2
    finally:
        post.broker.wake()
    made = post.made
    assert await relay.turn(10)
    assert (await post.place(), post.made) == (0, made + 1)
    await producer.close()
    told = await asyncio.to_thread(read, post)
    assert [event["id"] for event in told][-1] == "e4"
    assert {event["id"] for event in told} == {"e1", "e2", "e3", "e4"}


@pytest.mark.stand_in
@pytest.mark.parametrize("error", [ProducerFenced, OutOfOrderSequenceNumber])
async def test_a_producer_that_was_fenced_is_replaced(
    post: Post, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    producer = post.producer()
    relay = Relay(post.outbox("one"), producer)
    await post.put(1)
    assert await relay.turn(10)
    send = AIOKafkaProducer.send

    async def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(AIOKafkaProducer, "send", refuse)
    await post.put(2)
    with pytest.raises(Unsent):
        await relay.turn(10)
    assert await post.place() == 1
    monkeypatch.setattr(AIOKafkaProducer, "send", send)
    assert await relay.turn(10)
    assert (await post.place(), post.made) == (0, 2)
    await producer.close()


@pytest.mark.stand_in
async def test_one_process_sends_at_a_time_and_the_place_is_moved_by_nobody_else(post: Post) -> None:
    await Fleet(post.redis, post.shard, "one", dead_after_s=60).beat()
    first, second = post.outbox("one"), post.outbox("two")
    one, two = Relay(first, post.producer()), Relay(second, post.producer())
    await post.put(1)
    assert await one.turn(10)
    assert not await two.turn(10)
    await post.put(2)
    places = await first.places()
    ((topic, before),) = places.items()
    (entry,) = await first.read(places, most=10, wait_ms=10)
    assert not await second.sent(topic, before, entry.id, 1), "whoever has not the turn moves nothing"
    await post.redis.delete(post.shard.key("worker:one"))  # it gives no sign of life any more
    assert await two.turn(10)
    assert not await first.sent(topic, before, entry.id, 1), "nor whoever had it"
    assert await post.place() == 0
    for relay in (one, two):
        relay.stop()
        await relay.run()


async def test_an_event_that_is_too_large_for_its_topic_does_not_hold_up_those_behind_it(post: Post) -> None:
    producer = post.producer()
    relay = Relay(post.outbox("one"), producer)
    large = json.dumps({"id": "big", "data": {"call": "c", "state": "completed", "result": "x" * (9 << 20)}})
    await post.redis.xadd(post.topics.results, {"data": large})
    await post.put(1)
    assert await relay.turn(10)
    assert await post.place() == 0
    await producer.close()
    told = {event["id"]: event["data"] for event in await asyncio.to_thread(read, post)}
    assert told["big"] == {"call": "c", "state": "completed", "left_out": ["result"]}
    assert "e1" in told


async def test_topics_are_created_once_and_one_that_cannot_be_is_told(post: Post) -> None:
    wanted = Wanted(names=post.topics.outgoing, partitions=2)
    largest = await asyncio.gather(*(ensure(plain(post.broker.servers), wanted) for _ in range(3)))
    assert set(largest) == {8 << 20}
    with pytest.raises(Unfit, match="could not be created: InvalidTopicError"):
        await ensure(plain(post.broker.servers), Wanted(names=["not a name"], partitions=1))


@pytest.mark.stand_in
async def test_messages_of_one_key_arrive_in_order(post: Post) -> None:
    producer = post.producer()
    topic = post.topics.results
    await producer.send([Message(topic=topic, key=b"s", value=json.dumps({"id": str(n)}).encode()) for n in range(500)])
    await producer.close()
    assert [event["id"] for event in await asyncio.to_thread(read, post)] == [str(n) for n in range(500)]


def read(post: Post) -> list[dict[str, Any]]:
    return [json.loads(value) for _, value in asyncio.run(records(post.broker.servers, post.topics.results))]


def test_a_worker_killed_while_the_broker_hangs_has_taken_nothing_out_of_the_outbox(stage: Stage) -> None:
    stage.create()
    worker = stage.workers.start()
    stage.publish(sends(0, 20))
    stage.until_told(stage.topics.results, 20)
    stage.publish(sends(20, 30))
    until(lambda: stage.sums()["received"] == 50)
    stage.broker.suspend()
    try:
        stage.until(50)
        time.sleep(1)
        worker.kill()
        worker.wait()
    finally:
        stage.broker.wake()
    stage.workers.start()
    told = stage.until_told(stage.topics.results, 50)
    assert {event["data"]["request"]["id"] for event in told} == {f"u{n}" for n in range(50)}
    assert stage.vendor.counts().repeated_refs == []

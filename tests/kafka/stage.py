"""Workers on Kafka and a vendor that counts, each test with topics of its own; events go in and are read as any client would."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.record.util import calc_crc32c
from redis import Redis

from gateway.kafka.cluster import Cluster
from gateway.settings import Settings
from schemas.topics import Shard, Topics
from tests.demo.ledger import Sums
from tests.faults.conftest import Workers
from tests.kafka.broker import KafkaBroker
from tests.kafka.mock import MockBroker
from tests.vendor.client import VendorProcess

Headers = Sequence[tuple[str, bytes | None]]

QUIET_WITHIN_S = 60.0
"""A ceiling: a dead member's partitions wait for the end of its session."""

SHORT = {"SLUICE_BUS_SESSION": "3", "SLUICE_BUS_PARTITIONS": "4"}
"""A real broker allows six seconds and more; ours is told to allow less."""


class Stage:
    """What a test acts on."""

    def __init__(
        self, broker: KafkaBroker, workers: Workers, books: "Redis", vendor: VendorProcess, prefix: str
    ) -> None:
        self.broker = broker
        self.workers = workers
        self.books = books
        self.vendor = vendor
        self.topics = Topics(prefix)
        self.shard = Shard(prefix)
        workers.environment |= {
            **SHORT,
            "SLUICE_BUS_URL": f"kafka://{broker.servers}",
            "SLUICE_TOPIC_PREFIX": prefix,
        }
        if isinstance(broker, MockBroker):
            broker.touch([self.topics.calls, *self.topics.outgoing])

    def settings(self, **more: Any) -> Settings:
        """Return the workers' settings."""
        names = {
            name.removeprefix("SLUICE_").lower(): value
            for name, value in self.workers.environment.items()
            if name.startswith("SLUICE_")
        }
        return Settings(**{**names, **more})

    def publish(self, bodies: Sequence[bytes | None], *, headers: Headers = (), key: str | None = None) -> None:
        """Send records and wait until the broker has them."""
        asyncio.run(self._publish([(body, headers) for body in bodies], key))

    def publish_each(self, records: Sequence[tuple[bytes | None, Headers]]) -> None:
        """Send records with headers of their own."""
        asyncio.run(self._publish(records, None))

    async def _publish(self, records: Sequence[tuple[bytes | None, Headers]], key: str | None) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.broker.servers, acks="all") as producer:
            sent = [
                await producer.send(
                    self.topics.calls,
                    body,
                    headers=list(headers),
                    key=(key or "k").encode() if key or body is None else None,
                )
                for body, headers in records
            ]
            await asyncio.gather(*sent)

    def publish_unreadable(self, *, partition: int) -> None:
        """Send a record with a header whose name is not UTF-8, between two good ones; no client lets one do that by its front door."""
        asyncio.run(self._publish_unreadable(partition))

    async def _publish_unreadable(self, partition: int) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.broker.servers, acks="all") as producer:
            batch = producer.create_batch()
            batch.append(key=None, value=b"{}", timestamp=None, headers=[("NAME", b"")])
            batch.close()
            buffer = bytearray(batch._build()).replace(b"NAME", b"\xff\xfe\xfd\xfc")
            buffer[17:21] = calc_crc32c(memoryview(bytes(buffer[21:]))).to_bytes(4, "big")
            batch._buffer = buffer
            await (await producer.send_batch(batch, self.topics.calls, partition=partition))

    def create(self, *, partitions: int = 4) -> None:
        """Create the topic of calls before anybody reads it; a stand-in has it already."""
        if isinstance(self.broker, MockBroker):
            return
        asyncio.run(self._create(self.topics.calls, partitions))

    async def _create(self, topic: str, partitions: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.servers)
        await admin.start()
        try:
            answer = await admin.create_topics([NewTopic(topic, partitions, 1)])
            assert all(code == 0 for _, code, *_ in answer.topic_errors), answer
        finally:
            await admin.close()

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until it is gone."""
        asyncio.run(self._delete(topic))

    async def _delete(self, topic: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.servers)
        await admin.start()
        try:
            await admin.delete_topics([topic])
            for _ in range(100):
                if topic not in await admin.list_topics():
                    return
                await asyncio.sleep(0.1)
            raise AssertionError(f"{topic} does not go")
        finally:
            await admin.close()

    def flood(self, *, on: bool) -> None:
        """Fill Redis above the mark that `mark` has set, with as many calls as would be worth waiting for; or let it drain."""
        if on:
            self.books.setrange("ballast", 50_000_000, "x")
            self.books.hset(self.shard.key("runs"), mapping=dict.fromkeys(range(1000), ""))
        else:
            self.books.delete("ballast", self.shard.key("runs"))

    def mark(self) -> None:
        """Put the watermark between what Redis holds and what `flood` adds."""
        used = int(self.books.info("memory")["used_memory"])
        self.workers.environment |= {"SLUICE_MEMORY_HIGH": str(used + 40_000_000), "SLUICE_MEMORY_LOW": "0.8"}

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Read a topic from beginning to end, as an outsider."""
        return [json.loads(value) for _, value in asyncio.run(records(self.broker.servers, topic))]

    def read_keyed(self, topic: str) -> list[tuple[bytes | None, dict[str, Any]]]:
        """Read a topic with its keys."""
        return [(key, json.loads(value)) for key, value in asyncio.run(records(self.broker.servers, topic))]

    def committed(self) -> dict[int, int]:
        """Return the group's next record of each partition."""
        return asyncio.run(self._committed())

    async def _committed(self) -> dict[int, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.servers)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(f"{self.topics.prefix}sluice")
        except GroupCoordinatorNotAvailableError:  # nobody has asked for the group yet
            return {}
        finally:
            await admin.close()
        return {place.partition: told.offset for place, told in found.items()}

    def members(self) -> int:
        """Count the members of the group that is stable; 0 while it is not."""
        return asyncio.run(self._members())

    async def _members(self) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.servers)
        await admin.start()
        try:
            (answer,) = await admin.describe_consumer_groups([f"{self.topics.prefix}sluice"])
        finally:
            await admin.close()
        _, _, state, _, _, members, *_ = answer.groups[0]
        return len(members) if state == "Stable" else 0

    def sums(self) -> Sums:
        """Read both lines at one moment."""
        with self.books.pipeline(transaction=True) as pipe:
            pipe.hgetall(self.shard.key("stats"))
            pipe.hlen(self.shard.key("runs"))
            counts, live = pipe.execute()
        return Sums(counts={name.decode(): int(count) for name, count in counts.items()}, live=live)

    def until(self, received: int, within_s: float = QUIET_WITHIN_S) -> Sums:
        """Wait until so many events were received and none is live."""
        give_up = time.monotonic() + within_s
        while (sums := self.sums())["received"] < received or sums.live:
            if time.monotonic() > give_up:
                pytest.fail(f"not quiet after {within_s} s: {sums}\n{self.workers.log[-6000:]}")
            time.sleep(0.05)
        return sums

    def wait_for(self, word: str, within_s: float = QUIET_WITHIN_S) -> None:
        """Wait until a worker has logged something."""
        give_up = time.monotonic() + within_s
        while word not in self.workers.log:
            assert time.monotonic() < give_up, self.workers.log[-6000:]
            time.sleep(0.05)

    def until_told(self, topic: str, ids: int, within_s: float = QUIET_WITHIN_S) -> list[dict[str, Any]]:
        """Wait until a topic holds events of so many different ids, and return all of them."""
        give_up = time.monotonic() + within_s
        while True:
            found = self.read(topic)
            if len({event["id"] for event in found}) >= ids:
                return found
            if time.monotonic() > give_up:
                pytest.fail(f"{len(found)} events after {within_s} s\n{self.workers.log[-6000:]}")
            time.sleep(0.1)


def plain(servers: str) -> Cluster:
    """Reach brokers as they are."""
    return Cluster(servers=tuple(servers.split(",")))


async def records(servers: str, topic: str) -> list[tuple[bytes | None, bytes]]:
    """Read a topic from beginning to end, as an outsider."""
    found: list[tuple[bytes | None, bytes]] = []
    # A seek to the beginning may be overtaken by the library's own look for the end.
    outsider = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with outsider as consumer:
        places = list(consumer.assignment())
        assert places, f"there is no {topic}"
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.key, record.value) for record in records]
    return found


@contextlib.contextmanager
def staged(broker: KafkaBroker, redis_url: str, vendor: VendorProcess, folder: Path, prefix: str) -> Iterator[Stage]:
    """Give a stage on an empty Redis."""
    books = Redis.from_url(redis_url)
    books.flushall()
    workers = Workers(redis_url, folder, vendor.url)
    try:
        yield Stage(broker, workers, books, vendor, prefix)
    finally:
        workers.stop()
        books.close()

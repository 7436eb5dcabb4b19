"""A stage whose bus is a real Kafka broker: everything else, and what is asked of it at the end, is as on every stage."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.faults.matrix.stage import Setting, Stage
from tests.kafka.broker import KafkaBroker
from tests.kafka.stage import SHORT, records
from tests.vendor.client import VendorProcess

PARTITIONS = 4
CALLS, GROUP = "tool-calls", "sluice"
CONFIRMED_S = 120.0

T = TypeVar("T")


class KafkaStage(Stage):
    """One run's processes, with a broker of its own."""

    def __init__(self, setting: Setting, folder: Path, vendor: VendorProcess, dice: Random) -> None:
        super().__init__(setting, folder, vendor, dice)
        self.broker = KafkaBroker(folder / "kafka")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._producer: AIOKafkaProducer | None = None
        self.workers.environment |= {**SHORT, "SLUICE_BUS_URL": f"kafka://{self.broker.servers}"}

    def start_broker(self) -> None:
        """Start it, with the topic of calls."""
        self.broker.start()
        self._run(self._open())

    def publish_raw(self, raw: bytes) -> None:
        """Publish, and wait until the broker has it: its producer repeats what was not confirmed, under the same number."""
        assert self._producer is not None
        self._run(self._producer.send_and_wait(CALLS, raw))
        with self._publishing:
            self.published += 1

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Read a topic from its beginning; one that nobody has written to is not there."""
        return self._run(self._read(topic))

    def entries(self) -> int:
        """Count what the broker has confirmed: its producer sends nothing twice."""
        return self.published

    def pending(self) -> int:
        """Count the records that the group has not committed."""
        return self._run(self._lag())

    def break_bus(self) -> Callable[[], None]:
        """Kill the broker."""
        self.broker.kill()
        return self.broker.start

    def close(self) -> None:
        """Stop all, the broker last."""
        super().close()
        if self._producer is not None:
            self._run(self._producer.stop())
        self.broker.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CONFIRMED_S)

    async def _open(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(CALLS, PARTITIONS, 1)])
        finally:
            await admin.close()
        producer = AIOKafkaProducer(
            bootstrap_servers=self.broker.servers, enable_idempotence=True, request_timeout_ms=int(CONFIRMED_S * 1000)
        )
        await producer.start()
        self._producer = producer

    async def _read(self, topic: str) -> list[dict[str, Any]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.servers)
        await admin.start()
        try:
            there = topic in await admin.list_topics()
        finally:
            await admin.close()
        return [json.loads(value) for _, value in await records(self.broker.servers, topic)] if there else []

    async def _lag(self) -> int:
        places = [TopicPartition(CALLS, number) for number in range(PARTITIONS)]
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.servers)
        await admin.start()
        try:
            told = await admin.list_consumer_group_offsets(GROUP)
        finally:
            await admin.close()
        async with AIOKafkaConsumer(bootstrap_servers=self.broker.servers) as consumer:
            ends = await consumer.end_offsets(places)
        return sum(ends[one] - (told[one].offset if one in told else 0) for one in places)

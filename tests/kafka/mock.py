"""librdkafka's mock cluster, for machines without Java: a stand-in that knows groups, commits and idempotent producers.

It creates a topic when it is asked about it, and not otherwise; it knows no configuration, no TLS and no restart.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from aiokafka import AIOKafkaProducer

from tests.kafka.broker import KafkaBroker
from tests.vendor.client import ROOT


class MockBroker(KafkaBroker):
    """One such cluster, in a process of its own that ends with its standard input."""

    def __init__(self, folder: Path, *, why: str) -> None:
        """`why` says what is missing for a real one."""
        super().__init__(folder)
        self.why = why
        self.address = ""

    @property
    def servers(self) -> str:
        """The bootstrap address."""
        return self.address

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kafka.mock"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().decode().strip()
        assert self.address, "the mock cluster did not start"

    def stop(self) -> None:
        """Let it end."""
        if self._process is not None:
            self._process.communicate()

    def touch(self, topics: Iterable[str]) -> None:
        """Ask about topics, so that they are there."""
        asyncio.run(self._touch(topics))

    async def _touch(self, topics: Iterable[str]) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.servers) as producer:
            for topic in topics:
                await producer.partitions_for(topic)


def main() -> None:
    """Print the address, and stay."""
    from confluent_kafka import Producer  # noqa: PLC0415 - only this process needs it

    producer = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    print(f"{broker.host}:{broker.port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

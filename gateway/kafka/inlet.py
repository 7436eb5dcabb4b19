"""Publishing events on Kafka as any producer would: structured CloudEvents, acknowledged by every copy. Never looks into what it sends."""

from collections.abc import Sequence
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from gateway.kafka.cluster import Cluster


class KafkaInlet:
    """The producer's side of one topic."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        """Connects when it is entered."""
        self._cluster = cluster
        self._topic = topic
        self._producer: Any = None

    async def __aenter__(self) -> Self:
        """Connect."""
        self._producer = AIOKafkaProducer(enable_idempotence=True, **self._cluster.options())
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._producer.stop()

    async def publish(self, events: Sequence[str | bytes]) -> list[str]:
        """Send structured CloudEvents and return where they lie, as `partition:offset`.

        When this raises, none, some or all of them are on the topic; events with an `id` of their own may be published again.
        """
        sent = [
            await self._producer.send(self._topic, event.encode() if isinstance(event, str) else event)
            for event in events
        ]
        told = [await future for future in sent]
        return [f"{one.partition}:{one.offset}" for one in told]

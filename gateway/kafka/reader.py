"""The journal's topics on Kafka: read as a group of its own, committed only when the entries are dealt with for good."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError, KafkaError

from gateway.kafka.cluster import Cluster, refusal
from gateway.kafka.topics import AWAY
from schemas.topics import TopicEntry, Unread

log = structlog.get_logger()

REJOIN_MS: Final = 60_000
COMMIT_S: Final = 5.0
"""How long a commit may take; one that is given up only makes entries be read again."""


class KafkaReader:
    """One consumer of some topics."""

    def __init__(self, cluster: Cluster, topics: Sequence[str], *, group: str, name: str) -> None:
        """`name` is this process's."""
        self._cluster = cluster
        self._topics = tuple(topics)
        self._group = group
        self._name = name
        self._consumer: Any = None
        self._owed: dict[TopicPartition, int] = {}
        """The first record of each partition that was read and not acknowledged."""

    async def read(self, *, most: int, wait_ms: int) -> list[TopicEntry]:
        """Return what the group has not read; waits a while when there is nothing."""
        try:
            consumer = await self._opened()
            found = await consumer.getmany(timeout_ms=wait_ms, max_records=most)
        except KafkaError as error:
            await self.close()  # some errors stay with a consumer for ever
            if isinstance(error, KafkaConnectionError) and (told := await refusal(self._cluster)):
                raise KafkaConnectionError(told.why) from error
            raise
        for place, records in found.items():
            self._owed.setdefault(place, records[0].offset)
        return [
            TopicEntry(topic=place.topic, id=f"{place.partition}:{record.offset}", raw=record.value or b"")
            for place, records in found.items()
            for record in records
        ]

    async def abandoned(self, *, idle_ms: int, most: int) -> list[TopicEntry]:  # noqa: ARG002 - what the port asks for
        """Go back to what was read and never acknowledged: it is read again. What others have left the group hands out by itself."""
        for place, offset in self._owed.items():
            if self._consumer is not None and place in self._consumer.assignment():
                self._consumer.seek(place, offset)
        self._owed.clear()
        return []

    async def acknowledge(self, entries: Iterable[TopicEntry]) -> None:
        """Say that entries are dealt with for good."""
        done: dict[TopicPartition, int] = {}
        for entry in entries:
            partition, _, offset = entry.id.partition(":")
            place = TopicPartition(entry.topic, int(partition))
            done[place] = max(done.get(place, 0), int(offset) + 1)
        for place in done:
            self._owed.pop(place, None)
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._consumer.commit(done)
        except (CommitFailedError, IllegalStateError) as error:
            # Another journal has the partition now and reads it once more, which does no harm.
            log.info("journal.commit_dropped", error=type(error).__name__)

    async def retire(self, idle_ms: int) -> int:  # noqa: ARG002 - what the port asks for
        """Forget nobody: the group does that itself."""
        return 0

    async def unread(self) -> list[Unread]:
        """Say how far this consumer is behind on each topic."""
        consumer = self._consumer
        if consumer is None:
            return []
        behind = dict.fromkeys(self._topics, 0)
        for place in consumer.assignment():
            behind[place.topic] += max(0, (consumer.highwater(place) or 0) - await consumer.position(place))
        return [Unread(topic=topic, entries=entries, consumers=1, oldest_us=None) for topic, entries in behind.items()]

    async def close(self) -> None:
        """Leave the group."""
        consumer, self._consumer = self._consumer, None
        self._owed.clear()
        if consumer is not None:
            try:
                async with asyncio.timeout(COMMIT_S):
                    await consumer.stop()
            except AWAY as error:
                log.info("journal.left_late", error=type(error).__name__)

    async def _opened(self) -> Any:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                client_id=self._name,
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                rebalance_timeout_ms=REJOIN_MS,
                **self._cluster.options(),
            )
            consumer.subscribe(self._topics, listener=_Forgets(self._owed))
            self._consumer = consumer
            await consumer.start()
        return self._consumer


class _Forgets(ConsumerRebalanceListener):  # type: ignore[misc] # the library has no types
    """After a rebalance partitions are read from where they were committed."""

    def __init__(self, owed: dict[TopicPartition, int]) -> None:
        self._owed = owed

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        del revoked

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        del assigned
        self._owed.clear()

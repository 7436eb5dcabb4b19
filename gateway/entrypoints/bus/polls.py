"""Reading by ourselves for FastStream's loop: it would sleep after each empty read, and for seconds after an error.

A record that the client library itself cannot read (a header whose name is not UTF-8) makes a read fail that may have records of other
partitions in hand already, and would do so for ever. So after a failure every partition goes back to where it was, and records are read
one by one past the bad one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from gateway.entrypoints.bus.records import Unreadable

log = structlog.get_logger()

POLL_MS: Final = 1000
"""How long one read waits for records, milliseconds."""

LOOK_MS: Final = 300
"""The same for one partition, when records are read one by one."""

AGAIN_S: Final = 0.5
"""Pause after a read that failed."""

Read = Callable[..., Awaitable[Any]]


class Polls:
    """The reads of one consumer after another."""

    def __init__(self) -> None:
        self._reached: dict[TopicPartition, int] = {}
        """The next record of each partition that was handed on."""
        self._failing_s: float | None = None

    def of(self, consumer: Any) -> None:
        """Stand between the consumer and whoever reads it."""
        read: Read = consumer.getmany
        self._failing_s = None
        self._reached.clear()

        async def getmany(*, timeout_ms: int, max_records: int) -> Any:
            del timeout_ms
            try:
                found = await read(timeout_ms=POLL_MS, max_records=max_records)
            except Exception as error:  # noqa: BLE001 - the library's, for what a record holds: told, and stepped over
                found = await self._failed(consumer, read, error)
            else:
                self._failing_s = None
            self._reached |= {place: records[-1].offset + 1 for place, records in found.items()}
            return found

        consumer.getmany = getmany

    def assigned(self) -> None:
        """Begin anew: positions come from the group now."""
        self._reached.clear()

    def back(self, consumer: Any, place: TopicPartition, offset: int) -> None:
        """Read on from there; raises `IllegalStateError` where the partition is another's now."""
        consumer.seek(place, offset)
        self._reached[place] = offset

    def went_back(self, place: TopicPartition, next_: int) -> bool:
        """Tell whether the partition was sent back after records below `next_` were handed on: they come again."""
        return self._reached.get(place, next_) != next_

    def failing_for(self) -> float:
        """Return for how many seconds there was nothing but errors."""
        return 0.0 if self._failing_s is None else asyncio.get_running_loop().time() - self._failing_s

    async def _failed(self, consumer: Any, read: Read, error: Exception) -> dict[TopicPartition, list[Any]]:
        if self._failing_s is None:
            self._failing_s = asyncio.get_running_loop().time()
            log.warning("bus.unread", error=f"{type(error).__name__}: {error}"[:300])
        try:
            await self._back(consumer)
            if not isinstance(error, KafkaError):
                return await self._one(consumer, read)
        except (KafkaError, IllegalStateError):
            pass  # a rebalance, or an error that goes on: whoever looks after the bus sees for how long
        await asyncio.sleep(AGAIN_S)
        return {}

    async def _back(self, consumer: Any) -> None:
        """Go back: what was drained of other partitions before the failure was handed to nobody."""
        for place in consumer.assignment():
            reached = self._reached.get(place)
            if reached is None:
                reached = await consumer.committed(place)
            if reached is None:
                await consumer.seek_to_beginning(place)
            else:
                consumer.seek(place, reached)

    async def _one(self, consumer: Any, read: Read) -> dict[TopicPartition, list[Any]]:
        """Read one record of any partition; the one that cannot be read is stepped over, and handed on as such."""
        for place in consumer.assignment() - consumer.paused():
            try:
                found: dict[TopicPartition, list[Any]] = await read(place, timeout_ms=LOOK_MS, max_records=1)
            except KafkaError:
                raise
            except Exception as error:  # noqa: BLE001 - as above
                offset = await consumer.position(place)
                consumer.seek(place, offset + 1)
                self._failing_s = None
                return {place: [Unreadable(place.topic, place.partition, offset, f"{type(error).__name__}: {error}")]}
            if found:
                return found
        return {}

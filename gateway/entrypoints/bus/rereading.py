"""Reading again what a lost state had taken in. Decided in ADR 0023.

When a copy of Redis takes over, or Redis has lost its data, the group's committed places say more than the state knows. A copy knows
itself what it has: below one number a partition everything is stored, and above it each record is marked. So a partition goes back to that
number; where the state knows nothing of it, so many seconds back from the moment the loss was found.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from aiokafka import TopicPartition

from gateway.entrypoints.bus.polls import Polls
from gateway.entrypoints.bus.records import Record
from gateway.flow.intake import Again, Entry
from gateway.lanes.offsets import Kept, Note
from gateway.lanes.spread.above import AllOffsets

log = structlog.get_logger()

ASK_S: Final = 5.0
"""How long the bus may take to say where something lies."""

IN_HAND: Final = 256
"""A reader that died may have stored so many records beyond what it had committed: the largest batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What to do about a loss."""

    seconds: float
    """How far to go back where the state knows nothing of a partition."""
    forgot: Callable[[], Awaitable[None]]
    """Asks for the state's name."""


class Rereading:
    """One process's care for losses of the state."""

    def __init__(self, offsets: AllOffsets, terms: Terms) -> None:
        """`offsets` knows what is stored."""
        self._offsets = offsets
        self._terms = terms

    async def find_out(self) -> None:
        """Ask which state this is."""
        await self._terms.forgot()

    async def look(self, consumer: Any, polls: Polls) -> list[TopicPartition]:
        """Send back each partition of ours that lost something, and return those."""
        places = {place.partition: place for place in consumer.assignment()}
        if not places:
            return []
        kept = await self._offsets.kept(list(places))
        behind = [place for partition, place in places.items() if kept[partition].behind]
        for place in behind:
            async with asyncio.timeout(ASK_S):
                await self._go_back(consumer, polls, place, kept[place.partition])
        return behind

    async def _go_back(self, consumer: Any, polls: Polls, place: TopicPartition, kept: Kept) -> None:
        """Whoever dies in here leaves to the next what was read before the loss, and that it is not read again yet."""
        assert kept.loss is not None  # noqa: S101 - else nothing is behind
        reached = await consumer.position(place)
        first = min(reached, await self._first(consumer, place, kept))
        note = Note(partition=place.partition, loss=kept.loss.name, below=max(reached, kept.below))
        await self._offsets.note([note])
        await consumer.commit({place: first})
        polls.back(consumer, place, first)
        await self._offsets.note([Note(partition=note.partition, loss=note.loss, below=note.below, done=True)])
        log.warning("bus.read_again", topic=place.topic, partition=place.partition, first=first, below=note.below)

    async def _first(self, consumer: Any, place: TopicPartition, kept: Kept) -> int:
        if kept.stored is not None:
            return kept.stored
        assert kept.loss is not None  # noqa: S101 - as above
        at_ms = max(0, kept.loss.at_ms - int(self._terms.seconds * 1000))
        found = (await consumer.offsets_for_times({place: at_ms}))[place]
        return int(found.offset) if found is not None else await consumer.position(place)


def again(entry: Entry, record: Record, kept: Kept) -> Entry:
    """Say of an entry that a lost state may have taken it in, and acted on it.

    It lies where somebody had read before the loss. Of a reader that died only the commits are known; just beyond them the record's time
    tells.
    """
    if kept.loss is None or record.offset >= kept.below + IN_HAND:
        return entry
    if record.offset >= kept.below and record.timestamp > kept.loss.at_ms:
        return entry
    return replace(entry, again=Again(since_us=record.timestamp * 1000, covered=kept.loss.covered))

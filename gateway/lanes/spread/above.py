"""All shards from above: sums of what each holds, the mark above which nothing new is taken, and the topics that each writes."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

import msgspec

from gateway.lanes.answers import Answers
from gateway.lanes.offsets import Kept, Note, Offsets
from gateway.lanes.overview import Overview
from gateway.lanes.places import Places
from gateway.lanes.spread.shards import Shards, Spread, together
from gateway.lanes.topic_reader import unread
from gateway.lanes.topic_tail import TopicTail
from gateway.lanes.watermark import Level, Watermark
from gateway.ports.alerts import Entry, Tallied, Tally
from gateway.ports.load import Closing, Gauges, Load, Waits
from schemas.topics import GROUP, Topics, Unread


class AllOverviews(Spread[Overview]):
    """The queue from above."""

    async def load(self) -> Load:
        """Read the sums. Of memory it is the node that has least left that counts."""
        loads = await self.everywhere(Overview.load)
        fullest = max(loads, key=lambda one: one.memory_bytes / (one.memory_high_bytes or float("inf")))
        return replace(
            fullest,
            calls=sum(one.calls for one in loads),
            call_bytes=sum(one.call_bytes for one in loads),
            flooded=any(one.flooded for one in loads),
        )

    async def closed(self) -> list[Closing]:
        """List what is closed now."""
        return [one for found in await self.everywhere(Overview.closed) for one in found]

    async def gauges(self) -> Gauges:
        """Read everything that monitoring is told."""
        found = await self.everywhere(Overview.gauges)
        calls: Counter[str] = Counter()
        letters: Counter[str] = Counter()
        waits: dict[str, Waits] = {}
        for one in found:
            waits |= one.waits  # a connector lies in one shard
            calls.update(one.calls)
            letters.update(one.letters)
        closed = [closing for one in found for closing in one.closed]
        load = found[0].load if len(found) == 1 else await self.load()
        return Gauges(load=load, calls=dict(calls), closed=closed, letters=dict(letters), waits=waits)


class AllWatermarks(Spread[Watermark]):
    """A mark in each shard, since calls that come in ask their own."""

    async def look(self) -> Level:
        """Look at each; the bus is read for all of them, so it waits while one is flooded."""
        levels = await self.everywhere(Watermark.look)
        return next((one for one in levels if one.flooded), levels[0])


class AllPlaces(Spread[Places]):
    """Turns, places and counts have their home in the first shard; each topic is read where it lies."""

    def __init__(self, parts: Sequence[Places], topics: Mapping[str, Places]) -> None:
        """`topics` says by its name who reads a topic that does not lie in the first shard."""
        super().__init__(parts)
        self._topics = topics

    async def turn(self, name: str, *, lease_s: float) -> bool:
        """Take or keep the turn; false when another process has it."""
        return await self.home.turn(name, lease_s=lease_s)

    async def now_ms(self) -> int:
        """Return Redis' time."""
        return await self.home.now_ms()

    async def place(self, reader: str) -> str:
        """Return the last entry a reader is done with; empty when it never read."""
        return await self.home.place(reader)

    async def move(self, reader: str, before: str, after: str) -> bool:
        """Move on; false when somebody else did."""
        return await self.home.move(reader, before, after)

    async def read(self, stream: str, after: str, most: int) -> list[Entry]:
        """Read what stands behind a place."""
        return await self._topics.get(stream, self.home).read(stream, after, most)

    async def add(self, reader: str, before: str, after: str, tallies: Sequence[Tally]) -> bool:
        """Count and move on in one step; false when somebody else did."""
        return await self.home.add(reader, before, after, tallies)

    async def within(self, spans_ms: Mapping[str, int], default_ms: int) -> list[Tallied]:
        """Count what lies within the span of each name."""
        return await self.home.within(spans_ms, default_ms)


class AllAnswers(Spread[Answers]):
    """The answers of calls that ended, as the journal sees them."""

    async def shorten(self, calls: Sequence[str]) -> None:
        """Let the answers of these calls end in a while."""

        async def those(part: Answers, some: Sequence[str]) -> Sequence[None]:
            await part.shorten(some)
            return [None] * len(some)

        await self.sorted_out(calls, self.of_id, those)


class AllTails(Spread[TopicTail]):
    """The ends of the topics, for those who follow one call."""

    @contextlib.asynccontextmanager
    async def follow(self, call: str) -> AsyncIterator[asyncio.Queue[bytes]]:
        """Give a queue that is filled with the events of a call that come from now on."""
        async with self.of_id(call).follow(call) as queue:
            yield queue


class AllOffsets(Spread[Offsets]):
    """How far another bus was read: each shard marks what it stored, and forgets what is committed; notes are kept in each."""

    def __init__(self, parts: Sequence[Offsets]) -> None:
        """In the order of the shards."""
        super().__init__(parts)
        self._losses: dict[str, Offsets] = {}

    async def note(self, notes: Sequence[Note]) -> None:
        """Write down; what makes a partition another one goes everywhere before anything of it is stored. Raises `Forgotten`."""
        own = [note for note in notes if note.loss is not None]
        for note in own:
            await self._losses.get(note.loss or "", self.home).note([note])
        if len(own) < len(notes):
            await self.everywhere(lambda one: one.note([note for note in notes if note.loss is None]))

    async def put_aside(self, entries: Mapping[str, bytes]) -> None:
        """Keep records that wait for the journal where the call is that they repeat: there they are acknowledged."""
        for part in self.parts:
            await part.put_aside({entry: raw for entry, raw in entries.items() if self.of_tool(_tool(raw)) is part})

    async def aside(self) -> dict[str, bytes]:
        """Return some of the records that wait."""
        found: dict[str, bytes] = {}
        for some in await self.everywhere(Offsets.aside):
            found |= some
        return found

    async def stored(self, entry: str) -> bool:
        """Tell whether a record was dealt with in any shard."""
        return any(await self.everywhere(lambda one: one.stored(entry)))

    async def kept(self, partitions: Sequence[int]) -> dict[int, Kept]:
        """Look up what is known: of a shard that lost something and was not read again yet, else of them together."""
        told = await self.everywhere(lambda one: one.kept(partitions))
        for part, known in zip(self.parts, told, strict=True):
            self._losses |= {kept.loss.name: part for kept in known.values() if kept.loss is not None}
        return {partition: known_of([known[partition] for known in told]) for partition in partitions}


def known_of(told: Sequence[Kept]) -> Kept:
    """Put together what the shards say of a partition."""
    home, below = told[0], max(kept.below for kept in told)
    for kept in told:
        if kept.behind:
            # Where another shard was read again before, the reader's place says nothing any more of how far it had come.
            return msgspec.structs.replace(kept, in_hand=home.in_hand, noted_ms=home.noted_ms, below=below)
    losses = [kept.loss for kept in told if kept.loss is not None]
    if len(told) == 1 or not losses:
        return home
    last = max(losses, key=lambda loss: loss.at_ms)
    covered = all(loss.covered for loss in losses)
    return msgspec.structs.replace(home, loss=msgspec.structs.replace(last, covered=covered), below=below)


class _Data(msgspec.Struct):
    tool: str = ""


class _Event(msgspec.Struct):
    data: _Data


_event = msgspec.json.Decoder(_Event).decode


def _tool(raw: bytes) -> str:
    try:
        return _event(raw).data.tool
    except (msgspec.DecodeError, UnicodeDecodeError):  # it was read before, so nobody comes here
        return ""


async def unread_of(shards: Shards, which: Callable[[Topics], Sequence[str]], group: str = GROUP) -> list[Unread]:
    """Say how far a group of ours is behind on topics, wherever they lie."""
    found = await together(shards.writing, lambda seat: unread(seat.redis, which(seat.topics), group))
    return [one for some in found for one in some]

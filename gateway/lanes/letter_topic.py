"""The topics as letters are rebuilt from them: every letter from the beginning, and what was told of letters since."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime

import msgspec
from redis.asyncio import Redis

from gateway.lanes.letters import CHUNK, LettersKnown, record_of
from gateway.lanes.replies import text
from gateway.lanes.scripts import run
from gateway.ports.reindex import Change, Found, History, Restoring
from schemas.letter import CHANGED
from schemas.moment import moment
from schemas.topics import FIELD, Shard, Topics

EVENTS = 1000
"""Lifecycle events that are read at once."""

_FIELD = FIELD.encode()
_MARK = f'"type":"{CHANGED}"'.encode()
_pack = msgspec.msgpack.Encoder().encode


class _Event(msgspec.Struct):
    data: Change


_change = msgspec.json.Decoder(_Event).decode


class LetterTopic(LettersKnown):
    """One shard's."""

    def __init__(self, redis: "Redis", topics: Topics, shard: Shard) -> None:
        """Whoever restores needs no lanes."""
        super().__init__(redis, shard)
        self._topics = topics

    async def length(self) -> int:
        """Count the entries."""
        return int(await self._redis.xlen(self._topics.letters))

    async def now(self) -> datetime:
        """Return the time of Redis."""
        seconds, us = await self._redis.time()
        return moment(seconds * 1_000_000 + us)

    async def history(self) -> History:
        """Read what was told of letters, as far back as it lies there."""
        changes: dict[str, list[Change]] = defaultdict(list)
        events: dict[str, list[bytes]] = defaultdict(list)
        first_ms: int | None = None
        async for entry, raw in self._entries(self._topics.events, EVENTS):
            first_ms = _ms(entry) if first_ms is None else first_ms
            if _MARK in raw and (change := _read(raw)) is not None:
                changes[change.letter].append(change)
                events[change.letter].append(raw)

        def reaches(entry: str) -> bool:
            # The end of a call is told right before its letter is written, in the same step.
            return first_ms is not None and first_ms <= _ms(entry)

        return History(changes=changes, events=events, reaches=reaches)

    async def letters(self) -> AsyncIterator[tuple[int, list[Found]]]:
        """Yield entries, oldest first: how many were read, and which of them are letters."""
        batch: list[tuple[str, bytes]] = []
        async for one in self._entries(self._topics.letters, CHUNK):
            batch.append(one)
            if len(batch) == CHUNK:
                yield len(batch), list(_found(batch))
                batch = []
        if batch:
            yield len(batch), list(_found(batch))

    async def restore(self, items: Sequence[Restoring]) -> list[str]:
        """Write down how letters stand; see `restore.lua`."""
        keys = [self._shard.tag, self._topics.letters, self._topics.events]
        packed = [{name: value for name, value in asdict(item).items() if value is not None} for item in items]
        return [text(answer) for answer in await run(self._redis, "restore", keys, [_pack(packed)])]

    async def _entries(self, topic: str, most: int) -> AsyncIterator[tuple[str, bytes]]:
        at = "-"
        while entries := await self._redis.xrange(topic, min=at, count=most):
            for entry, fields in entries:
                yield text(entry), fields.get(_FIELD, b"")
            at = f"({text(entries[-1][0])}"


def _found(batch: Sequence[tuple[str, bytes]]) -> Iterator[Found]:
    for entry, raw in batch:
        record = record_of(raw)
        if record is not None:
            yield Found(entry=entry, raw=raw, record=record)


def _read(raw: bytes) -> Change | None:
    try:
        return _change(raw).data
    except msgspec.DecodeError:  # somebody else's
        return None


def _ms(entry: str) -> int:
    return int(entry.partition("-")[0])

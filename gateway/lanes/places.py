"""Turns and places: who of the fleet reads a topic just now, and how far it was read; Python's side of `turn`, `cursor` and `tally`.

A turn only saves work: what must happen once is decided by the place, which moves in the same step as what was made of the entries.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from gateway.lanes.replies import text
from gateway.lanes.scripts import run
from gateway.ports.alerts import Entry, Tallied, Tally
from schemas.topics import FIELD, Shard

MOST: Final = 2000
"""Names that are counted; those not seen longest are forgotten."""

_pack = msgspec.msgpack.Encoder().encode


class _Kept(msgspec.Struct):
    total: int
    starts: list[int]
    counts: list[int]
    last_ms: int
    keep_ms: int
    sample: str


_kept = msgspec.msgpack.Decoder(_Kept).decode


class Places:
    """One shard's."""

    def __init__(self, redis: "Redis", shard: Shard, holder: str, *, most: int = MOST) -> None:
        """`holder` names this process."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._shard = shard
        self._holder = holder
        self._most = most
        self._cursors = shard.key("cursors")

    async def turn(self, name: str, *, lease_s: float) -> bool:
        """Take or keep the turn; false when another process has it."""
        return text(await self._call("turn", [name, self._holder, int(lease_s * 1000)])) == "yours"

    async def now_ms(self) -> int:
        """Return Redis' time."""
        seconds, us = await self._redis.time()
        return int(seconds) * 1000 + int(us) // 1000

    async def place(self, reader: str) -> str:
        """Return the last entry a reader is done with; empty when it never read."""
        found = await self._redis.hget(self._cursors, reader)
        return "" if found is None else text(found)

    async def move(self, reader: str, before: str, after: str) -> bool:
        """Move on; false when somebody else did."""
        return text(await self._call("cursor", [reader, before, after])) == "moved"

    async def read(self, stream: str, after: str, most: int) -> list[Entry]:
        """Read what stands behind a place."""
        found = await self._redis.xrange(stream, f"({after}" if after else "-", "+", count=most)
        return [Entry(text(entry), fields.get(FIELD.encode(), b"")) for entry, fields in found]

    async def add(self, reader: str, before: str, after: str, tallies: Sequence[Tally]) -> bool:
        """Count and move on in one step; false when somebody else did."""
        return text(await self._call("tally", [reader, before, after, _pack(tallies), self._most])) == "moved"

    async def within(self, spans_ms: Mapping[str, int], default_ms: int) -> list[Tallied]:
        """Count what lies within the span of each name, which is `default_ms` for those that are not listed."""
        now = await self.now_ms()
        names = [text(one) for one in await self._redis.zrangebyscore(self._shard.key("tallied"), now, "+inf")]
        if not names:
            return []
        packed = await self._redis.hmget(self._shard.key("tallies"), names)
        return [
            _told(name, _kept(one), now - spans_ms.get(name, default_ms))
            for name, one in zip(names, packed, strict=True)
            if one is not None
        ]

    async def _call(self, name: str, arguments: list[Any]) -> Any:
        return await run(self._redis, name, [self._shard.tag], arguments)


def _told(name: str, kept: _Kept, since_ms: int) -> Tallied:
    pairs = zip(kept.starts, kept.counts, strict=True)  # a stretch that began before the window is not in it
    count = sum(int(number) for start, number in pairs if int(start) > since_ms)
    return Tallied(name=name, count=count, total=kept.total, sample=kept.sample)

"""How far another bus was read: notes of what is in hand, and what is committed. The marks themselves are set by `enqueue` and `refuse`.

Marks make a record count once, whoever reads it how often; notes tell the next reader which records the last one may have died of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.lanes import scripts
from gateway.lanes.replies import text
from schemas.topics import Shard

SOME = 100
"""Records that are looked at again at once, about."""

_pack = msgspec.msgpack.Encoder().encode


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is written down of one partition; field names are those of `note.lua`."""

    partition: int
    first: int | None = None
    last: int | None = None
    """The records that are taken in hand now."""
    committed: int | None = None
    """The next record, as the bus keeps it."""
    anew: bool = False
    """The partition is another one than before."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one partition."""

    in_hand: int = -1
    """The last record that any reader took in hand."""
    noted_ms: int | None = None
    """When that was; None: never."""


class Offsets:
    """The partitions of one topic."""

    def __init__(self, redis: "Redis", shard: Shard) -> None:
        """Kept beside the lanes."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._shard = shard

    async def note(self, notes: Sequence[Note]) -> None:
        """Write down."""
        await scripts.run(self._redis, "note", [self._shard.tag], [_pack(notes)])

    async def put_aside(self, entries: Mapping[str, bytes]) -> None:
        """Keep records that wait for the journal, so that those behind them need not; whoever acknowledges one takes it away."""
        held: dict[Any, Any] = dict(entries)
        if held:
            await self._redis.hset(self._shard.key("aside"), mapping=held)

    async def aside(self) -> dict[str, bytes]:
        """Return some of the records that wait."""
        _, found = await self._redis.hscan(self._shard.key("aside"), count=SOME)
        return {text(entry): raw for entry, raw in found.items()}

    async def stored(self, entry: str) -> bool:
        """Tell whether a record was dealt with here."""
        partition, _, offset = entry.partition(":")
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(self._shard.key("offsets"), partition)
            pipe.zscore(self._shard.key(f"marks:{partition}"), offset)
            below, mark = await pipe.execute()
        return mark is not None or int(offset) < int(below or 0)

    async def kept(self, partitions: Sequence[int]) -> dict[int, Kept]:
        """Look up what is known."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(self._shard.key("reading"), [str(one) for one in partitions])
            pipe.hmget(self._shard.key("noted"), [str(one) for one in partitions])
            reading, noted = await pipe.execute()
        return {
            partition: Kept(
                in_hand=-1 if span is None else int(text(span).partition("-")[2]),
                noted_ms=None if at is None else int(at),
            )
            for partition, span, at in zip(partitions, reading, noted, strict=True)
        }

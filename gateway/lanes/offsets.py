"""How far another bus was read: notes of what is in hand, and what is committed. The marks themselves are set by `enqueue` and `refuse`.

Marks make a record count once, whoever reads it how often; notes tell the next reader which records the last one may have died of, and
whether this state has lost records that the bus believes to be taken in.
"""

from collections.abc import Callable, Mapping, Sequence
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
    loss: str | None = None
    """For this loss the partition is read again ..."""
    below: int | None = None
    """... and what lies below was read before it."""
    done: bool = False
    """From here on it will be, whoever reads on."""


class Forgotten(Exception):  # noqa: N818 - it names a situation
    """Nothing was noted: this is another state than the reader believed. Ask for its name, then whether partitions must be read again."""


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """That this state was lost, or a part of it."""

    name: str
    at_ms: int
    covered: bool
    """Each `sending` mark of before was on a copy, and is here."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one partition."""

    in_hand: int = -1
    """The last record that any reader took in hand."""
    noted_ms: int | None = None
    """When that was; None: never."""
    stored: int | None = None
    """All records below are stored here; None: nothing is known."""
    loss: Loss | None = None
    """The last one."""
    below: int = 0
    """Records that had been read before that loss end here."""
    behind: bool = False
    """It must be read again because of it."""


class Offsets:
    """The partitions of one topic."""

    def __init__(self, redis: "Redis", shard: Shard, epoch: Callable[[], str] = str) -> None:
        """Kept beside the lanes; `epoch` names the state this process works on, empty: any."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._shard = shard
        self._epoch = epoch

    async def note(self, notes: Sequence[Note]) -> None:
        """Write down; raises `Forgotten`."""
        told = await scripts.run(self._redis, "note", [self._shard.tag], [_pack(notes), self._epoch()])
        if (found := text(told)) != "noted":
            raise Forgotten(found)

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
        fields = [str(one) for one in partitions]
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in ("reading", "noted", "offsets", "reread"):
                pipe.hmget(self._shard.key(name), fields)
            pipe.mget(self._shard.key("forgot"), self._shard.key("covered"))
            *columns, (forgot, covered) = await pipe.execute()
        loss = None
        if forgot is not None:
            at_us = int(text(forgot).partition("|")[0])
            loss = Loss(name=text(forgot), at_ms=at_us // 1000, covered=forgot == covered)
        return {
            partition: _kept(row, loss) for partition, row in zip(partitions, zip(*columns, strict=True), strict=True)
        }


def _kept(row: tuple[Any, ...], loss: Loss | None) -> Kept:
    reading, noted, stored, read = row
    below, done, of = (text(read) if read is not None else "0||").split("|", 2)
    same = loss is not None and of == loss.name
    return Kept(
        in_hand=-1 if reading is None else int(text(reading).partition("-")[2]),
        noted_ms=None if noted is None else int(noted),
        stored=None if stored is None else int(stored),
        loss=loss,
        below=int(below) if same else 0,
        behind=loss is not None and not (same and done == "1"),
    )

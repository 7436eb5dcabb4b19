"""The queue from above: how much it holds, what is closed, how near it is to its bounds. Only reads, and in bounded time."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.lanes.letters import milliseconds
from gateway.lanes.replies import text
from gateway.lanes.watermark import high_mark
from gateway.ports.load import Closing, Gauges, Load, Waits
from schemas.lifecycle import HoldReason
from schemas.topics import Shard

SCAN = 1000
"""Fields of a hash that are read at once."""

MOST = 20_000
"""Fields of a hash that are read at all; what lies beyond is counted under `OTHER`."""

OTHER = "(other)"
"""Stands for the connectors of lanes that were not read."""

LOOKED = 2_000
"""Lanes whose head and length are read for a scrape."""

TENANT = "default"


class _Shut(msgspec.Struct):
    """A closing as `gate.lua` keeps it."""

    until_us: int
    detail: str = ""
    since_us: int = 0


_closings = msgspec.msgpack.Decoder(dict[HoldReason, _Shut]).decode


class Overview:
    """One shard's."""

    def __init__(self, redis: "Redis", shard: Shard, *, high_bytes: int) -> None:
        """`high_bytes` is the setting of the watermark."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._shard = shard
        self._high_bytes = high_bytes

    async def load(self) -> Load:
        """Read the sums."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(self._shard.key("runs"))
            pipe.hget(self._shard.key("bytes"), TENANT)
            pipe.exists(self._shard.key("watermark"))
            pipe.info("memory")
            calls, call_bytes, flooded, memory = await pipe.execute()
        return Load(
            calls=calls,
            call_bytes=int(call_bytes or 0),
            memory_bytes=int(memory["used_memory"]),
            memory_high_bytes=high_mark(self._high_bytes, int(memory.get("maxmemory") or 0)),
            flooded=bool(flooded),
        )

    async def closed(self) -> list[Closing]:
        """List what is closed now: gates, and limits that a vendor asked to leave alone."""
        seconds, us = await self._redis.time()
        kept = await self._fields("gates")
        return list(_open_later(kept, seconds * 1_000_000 + us))

    async def calls(self) -> dict[str, int]:
        """Count the calls that have not ended, by connector."""
        sums: Counter[str] = Counter()
        for lane, held in (await self._fields("held")).items():
            sums[text(lane).partition("|")[0]] += int(held)
        left = await self._redis.hlen(self._shard.key("runs")) - sums.total()
        # A few may have come in between the two looks; only what the bound cut off is told.
        return dict(sums) | ({OTHER: left} if left > 0 and await self._cut_off("held") else {})

    async def gauges(self) -> Gauges:
        """Read everything that monitoring is told."""
        letters = {"open": await self._count("letters"), "over": await self._count("over")}
        return Gauges(
            load=await self.load(),
            calls=await self.calls(),
            closed=await self.closed(),
            letters=letters,
            waits=await self.waits(),
        )

    async def waits(self) -> dict[str, Waits]:
        """Tell by connector how many calls nothing holds, and how old the oldest at the head of a lane is."""
        found: dict[str, Waits] = {}
        seconds, us = await self._redis.time()
        lanes = [text(lane) for lane in await self._fields("held")][:LOOKED]
        for at in range(0, len(lanes), SCAN):
            for connector, waits in await self._heads(lanes[at : at + SCAN], seconds + us / 1_000_000):
                before = found.get(connector, Waits(runnable=0, oldest_s=0.0))
                found[connector] = Waits(
                    runnable=before.runnable + waits.runnable, oldest_s=max(before.oldest_s, waits.oldest_s)
                )
        return found

    async def _heads(self, lanes: Sequence[str], now_s: float) -> list[tuple[str, Waits]]:
        named = [lane.partition("|")[0] for lane in lanes]
        async with self._redis.pipeline(transaction=False) as pipe:
            for connector, lane in zip(named, lanes, strict=True):
                pipe.zcard(self._shard.key(f"lane:{lane}"))
                pipe.zrange(self._shard.key(f"lane:{lane}"), 0, 0)
                pipe.zscore(self._shard.key(f"ready:{connector}"), lane)
            found = await pipe.execute()
        return [
            (connector, Waits(runnable=0 if turn is None else waiting, oldest_s=_age(head, now_s)))
            for connector, waiting, head, turn in zip(named, found[::3], found[1::3], found[2::3], strict=True)
        ]

    async def _count(self, name: str) -> int:
        return int(await self._redis.hlen(self._shard.key(name)))

    async def _cut_off(self, name: str) -> bool:
        return bool(await self._redis.hlen(self._shard.key(name)) > MOST)

    async def _fields(self, name: str) -> dict[bytes, bytes]:
        fields: dict[bytes, bytes] = {}
        cursor = None
        while cursor != 0 and len(fields) < MOST:
            cursor, some = await self._redis.hscan(self._shard.key(name), cursor=cursor or 0, count=SCAN)
            fields.update(some)
        return fields


def _open_later(kept: Mapping[bytes, bytes], now_us: int) -> Iterator[Closing]:
    for key, packed in kept.items():
        for reason, shut in _closings(packed).items():
            if shut.until_us == 0 or shut.until_us > now_us:
                until = shut.until_us or None
                yield Closing(key=text(key), reason=reason, detail=shut.detail, until_us=until, since_us=shut.since_us)


def _age(head: Sequence[bytes], now_s: float) -> float:
    """Return how long ago the call at a lane's head was made; its id tells."""
    made_ms = milliseconds(text(head[0])) if head else None
    return 0.0 if made_ms is None else max(0.0, round(now_s - made_ms / 1000, 3))

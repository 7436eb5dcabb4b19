"""Reads topics as the group `sluice`: what is new, what a reader that died has left, how much is still unread.

What is read stays pending until it is acknowledged, and trimming never passes what is pending or unread.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.lanes.fleet import Fleet
from gateway.lanes.replies import text
from gateway.lanes.scripts import load
from schemas.topics import FIELD, GROUP, TopicEntry, Unread

_FIELD = FIELD.encode()


class TopicReader:
    """One consumer of some topics."""

    def __init__(self, listener: "Redis", fleet: Fleet, topics: Sequence[str]) -> None:
        """`listener` has no time limit of its own, since reading waits; the consumer is the fleet's name of this process."""
        self._redis: Any = listener  # the client's types know neither RESP3 nor several streams at once
        self._fleet = fleet
        self._topics = tuple(topics)

    async def join(self) -> None:
        """Create the group where it is missing, at the very beginning."""
        for topic in self._topics:
            await self._fleet.ensure_group(topic)

    async def read(self, *, most: int, wait_ms: int) -> list[TopicEntry]:
        """Return what nobody has read, at most so much of each topic; waits a while when there is nothing."""
        return await self._joined(lambda: self._read(most, wait_ms))

    async def abandoned(self, *, idle_ms: int, most: int) -> list[TopicEntry]:
        """Take over what was read and not acknowledged for so long; of the living, too: reading twice does no harm."""
        return await self._joined(lambda: self._abandoned(idle_ms, most))

    async def acknowledge(self, entries: Iterable[TopicEntry]) -> None:
        """Say that entries are dealt with for good."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for topic, some in groupby(sorted(entries, key=lambda one: one.topic), key=lambda one: one.topic):
                pipe.xack(topic, GROUP, *(one.id for one in some))
            await pipe.execute()

    async def retire(self, idle_ms: int) -> int:
        """Forget consumers that hold nothing and have not asked for so long; returns how many."""
        gone = 0
        await self.join()
        for topic in self._topics:
            for consumer in await self._redis.xinfo_consumers(topic, GROUP):
                if not consumer["pending"] and consumer["idle"] > idle_ms:
                    gone += await self._redis.eval(load("retire").source, 1, topic, GROUP, consumer["name"])
        return gone

    async def unread(self) -> list[Unread]:
        """Say how far the group is behind on each topic."""
        return await unread(self._redis, self._topics)

    async def _joined(self, do: Any) -> list[TopicEntry]:
        try:
            return await do()  # type: ignore[no-any-return]
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
        await self.join()
        return await do()  # type: ignore[no-any-return]

    async def _read(self, most: int, wait_ms: int) -> list[TopicEntry]:
        told = await self._redis.xreadgroup(
            GROUP, self._fleet.worker, dict.fromkeys(self._topics, ">"), count=most, block=wait_ms
        )
        pairs = told.items() if isinstance(told, dict) else told or ()
        return [
            TopicEntry(topic=text(topic), id=text(key), raw=(fields or {}).get(_FIELD, b""))
            for topic, batches in pairs
            for batch in (batches if batches and isinstance(batches[0], list) else [batches])
            for key, fields in batch
        ]

    async def _abandoned(self, idle_ms: int, most: int) -> list[TopicEntry]:
        found = []
        for topic in self._topics:
            _, taken, *_ = await self._redis.xautoclaim(topic, GROUP, self._fleet.worker, idle_ms, "0-0", count=most)
            found += [
                TopicEntry(topic=topic, id=text(key), raw=(fields or {}).get(_FIELD, b"")) for key, fields in taken
            ]
        return found


async def unread(redis: Any, topics: Sequence[str], ours: str = GROUP) -> list[Unread]:
    """Say how far a group of ours is behind on each topic; a topic without the group is left out."""
    found = []
    for topic in topics:
        try:
            groups = await redis.xinfo_groups(topic)
        except ResponseError:  # no such stream
            continue
        for group in groups:
            if text(group["name"]) == ours:
                oldest = await _oldest(redis, topic, group, ours)
                waiting = group.get("lag")
                found.append(
                    Unread(
                        topic=topic,
                        entries=(waiting or 0) + group["pending"],
                        consumers=group["consumers"],
                        oldest_us=oldest,
                    )
                )
    return found


async def _oldest(redis: Any, topic: str, group: dict[str, Any], ours: str) -> int | None:
    """Return when the oldest entry that is not acknowledged was written; None: there is none."""
    if group["pending"]:
        summary = await redis.xpending(topic, ours)
        return _written_us(summary["min"])
    following = await redis.xrange(topic, min=f"({text(group['last-delivered-id'])}", count=1)
    return _written_us(following[0][0]) if following else None


def _written_us(key: bytes | str | None) -> int | None:
    return None if key is None else int(text(key).partition("-")[0]) * 1000

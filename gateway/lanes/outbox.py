"""The outbox: the streams that the scripts write, read in their order by one process at a time.

Its place on a stream moves only when the bus has given its word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from gateway.lanes import scripts
from gateway.lanes.fleet import Fleet
from gateway.lanes.places import Places
from gateway.lanes.replies import text
from gateway.lanes.topic_reader import unread
from schemas.topics import FIELD, RELAY, Shard, TopicEntry, Unread

TURN: Final = "relay"

_FIELD = FIELD.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wires:
    """Two clients: one that answers at once, and one without a time limit of its own, since reading waits."""

    redis: "Redis"
    listener: "Redis"


class Outbox:
    """One shard's."""

    def __init__(self, wires: Wires, shard: Shard, topics: Sequence[str], fleet: Fleet) -> None:
        """`fleet` names this process."""
        self._redis: Any = wires.redis  # the client's types know neither RESP3 nor several streams at once
        self._listener: Any = wires.listener
        self._shard = shard
        self._topics = tuple(topics)
        self._fleet = fleet
        self._places = Places(wires.redis, shard, fleet.worker)

    async def turn(self, lease_s: float) -> bool:
        """Take or keep the turn; false when another process has it."""
        return await self._places.turn(TURN, lease_s=lease_s)

    async def places(self) -> dict[str, str]:
        """Return how far each topic was sent on; one that nobody sent on yet begins at its beginning."""
        found = {}
        for topic in self._topics:
            await self._fleet.ensure_group(topic, RELAY)
            for group in await self._redis.xinfo_groups(topic):
                if text(group["name"]) == RELAY:
                    found[topic] = text(group["last-delivered-id"])
        return found

    async def read(self, places: dict[str, str], *, most: int, wait_ms: int) -> list[TopicEntry]:
        """Return what stands behind the places, in the order of each topic; waits a while when there is nothing."""
        told = await self._listener.xread(places, count=most, block=wait_ms)
        pairs = told.items() if isinstance(told, dict) else told or ()
        return [
            TopicEntry(topic=text(topic), id=text(key), raw=(fields or {}).get(_FIELD, b""))
            for topic, batches in pairs
            for batch in (batches if batches and isinstance(batches[0], list) else [batches])
            for key, fields in batch
        ]

    async def sent(self, topic: str, before: str, after: str, count: int) -> bool:
        """Move the place of a topic; false when this process may not, or no longer."""
        arguments = [RELAY, self._fleet.worker, before, after, count]
        return text(await scripts.run(self._redis, "relayed", [self._shard.tag, topic], arguments)) == "moved"

    async def waiting(self) -> list[Unread]:
        """Say how much has not been sent on."""
        return await unread(self._redis, self._topics, RELAY)

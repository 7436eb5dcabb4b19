"""An entry that may have killed its reader is taken in alone, and counted before it is touched."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from redis.asyncio import Redis

from gateway.flow.intake import Entry, Intake
from schemas.topics import Shard

Stored = Callable[[str], Awaitable[bool]]


class Alone:
    """Counts deliveries alone; an entry that was delivered so `most` times is poison: it is dead-lettered undecoded."""

    def __init__(self, redis: "Redis", shard: Shard, *, most: int, stored: Stored | None = None) -> None:
        """The count is kept beside the lanes; `stored` tells whether one was dealt with in any shard, where no script can see all."""
        self._redis = redis
        self._key = shard.key("alone")
        self._most = most
        self._stored = stored

    async def take(self, intake: Intake, entry: Entry) -> bool:
        """Take in one; false when it waits for the journal."""
        waiting: list[str] = []
        # Counted before it is touched: whoever dies below has left the count behind.
        deliveries = await self._redis.hincrby(self._key, entry.id, 1)
        try:
            if deliveries >= self._most and self._stored is not None and await self._stored(entry.id):
                pass  # it was stored before its reader died
            elif deliveries >= self._most:
                await intake.poison(replace(entry, deliveries=deliveries))
            else:
                waiting = await intake.from_bus([replace(entry, deliveries=deliveries)])
        except BaseException:
            # Only deaths count: an error of ours, of Redis, or a gentle stop is no proof against the event.
            await asyncio.shield(self._redis.hincrby(self._key, entry.id, -1))
            raise
        await self._redis.hdel(self._key, entry.id)
        return not waiting

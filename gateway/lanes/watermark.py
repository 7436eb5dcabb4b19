"""The global watermark: above it the queue takes nothing new until it has drained, with hysteresis so that it does not flap.

One dead vendor fills its own lane and is refused there; this is for when everything together is too much for Redis.
"""

from dataclasses import dataclass

from redis.asyncio import Redis

from schemas.topics import Shard

MAXMEMORY_SHARE = 0.8
"""Of the server's own limit: beyond it Redis would soon refuse to store anything, also what ends calls."""

STANDS_MS = 10_000
"""A mark that nobody renews falls: the last worker may have died."""


def high_mark(setting_bytes: int, maxmemory_bytes: int) -> int:
    """Return the mark above which nothing new is taken; 0: there is none, because neither number is a bound."""
    marks = (setting_bytes, int(maxmemory_bytes * MAXMEMORY_SHARE))
    return min((mark for mark in marks if mark), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What was found: memory in use, the mark it is held against, and whether the queue is flooded."""

    used_bytes: int
    high_bytes: int
    flooded: bool
    changed: bool


class Watermark:
    """The mark of one shard's Redis; every worker looks, and they agree because the mark is kept in Redis."""

    def __init__(self, redis: "Redis", shard: Shard, *, high_bytes: int, low_share: float) -> None:
        """Flooded from `high_bytes` on, until `low_share` of them is reached."""
        self._redis = redis
        self._key = shard.key("watermark")
        self._high_bytes = high_bytes
        self._low_share = low_share

    async def look(self) -> Level:
        """Read the memory in use and raise, keep or lower the mark."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.info("memory")
            pipe.exists(self._key)
            info, stood = await pipe.execute()
        used, most = int(info["used_memory"]), int(info.get("maxmemory") or 0)
        high = high_mark(self._high_bytes, most)
        flooded = high > 0 and used > (high * self._low_share if stood else high)
        if flooded:
            await self._redis.set(self._key, used, px=STANDS_MS)
        elif stood:
            await self._redis.delete(self._key)
        return Level(used_bytes=used, high_bytes=high, flooded=flooded, changed=flooded != bool(stood))

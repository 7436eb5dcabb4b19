"""The turn at what only one process of the fleet shall do at a time: taken, kept while its holder lives, and left.

It saves work and promises nothing: who is held up longer than its turn may find another at the same work.
"""

from collections.abc import Callable

from redis.asyncio import Redis

from gateway.lanes import replies, scripts
from gateway.lanes.fleet import Fleet
from schemas.topics import Shard

RENEWALS = 4
"""How often a turn is renewed within its time."""


class Turn:
    """One process's hold on one turn."""

    def __init__(
        self, redis: "Redis", shard: Shard, fleet: Fleet, *, name: str, monotonic: Callable[[], float]
    ) -> None:
        """`name` is what is done; the turn lasts as long as a sign of life of the fleet."""
        self._redis = redis
        self._shard = shard
        self._fleet = fleet
        self._name = name
        self._monotonic = monotonic
        self._renew_s = float("-inf")

    async def mine(self) -> bool:
        """Take or keep the turn; mostly it is known to be ours, and nobody is asked."""
        now_s = self._monotonic()
        if now_s < self._renew_s:
            return True
        await self._fleet.sign()
        arguments = [self._name, self._fleet.worker, int(self._fleet.dead_after_s * 1000)]
        told = replies.text(await scripts.run(self._redis, "turn", [self._shard.tag], arguments))
        if told == "yours":
            self._renew_s = now_s + self._fleet.dead_after_s / RENEWALS
        return told == "yours"

    async def leave(self) -> None:
        """Let the next one begin at once."""
        self._renew_s = float("-inf")
        await self._fleet.leave()

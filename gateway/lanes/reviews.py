"""Calls that wait for a person, in Redis; Python's side of `review.lua`."""

from typing import Any

from redis.asyncio import Redis

from gateway.lanes import replies
from gateway.lanes.queue import Lanes
from gateway.ports.reviews import Answer, Changed, Decided, Early, Released, Taken, Word
from schemas.topics import Shard


class Reviews:
    """One shard's."""

    def __init__(self, redis: "Redis", shard: Shard, lanes: Lanes) -> None:
        """`lanes` are the lanes of the same shard."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._key = shard.key("reviews")
        self._lanes = lanes

    async def waiting(self, *, most: int, until_us: int | None = None) -> list[str]:
        """List calls that wait for a person, those whose time ends first at the top; `until_us`: only those whose time ends before."""
        to = "+inf" if until_us is None else until_us
        found = await self._redis.zrangebyscore(self._key, "-inf", to, start=0, num=most)
        return [replies.text(one) for one in found]

    async def now_us(self) -> int:
        """Return Redis' time."""
        seconds, us = await self._redis.time()
        return int(seconds) * 1_000_000 + int(us)

    async def decide(self, word: Word, *, lease_us: int) -> Answer:
        """Write a decision down; the first one counts."""
        arguments = [word.call, word.hash, word.decision, word.by, word.reason, word.event, lease_us]
        kind, *rest = await self._lanes.review(arguments)
        match replies.text(kind):
            case "approved":
                return Released()
            case "taken":
                now, flat = rest
                return Taken(replies.taken(now, flat)[0])
            case "decided":
                return Decided(replies.run(rest[0]))
            case "changed":
                return Changed(replies.text(rest[0]))
            case "early":
                return Early()
            case _:
                return None

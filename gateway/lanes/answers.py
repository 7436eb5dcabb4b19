"""Answers in Redis once the journal has them: they stay for a while, for those who ask soon, and then the journal answers.

An answer that stays until its letter is over has no end yet, and gets none here: the journal may have forgotten it by then.
"""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from schemas.topics import Shard


class Answers:
    """The answers of one shard, as the journal sees them."""

    def __init__(self, redis: "Redis", shard: Shard, *, ttl_s: int) -> None:
        """`ttl_s` is how long an answer stays from when the journal has it."""
        self._redis: Any = redis  # the client's types do not know that the flags of EXPIRE go together
        self._shard = shard
        self._ttl_s = ttl_s

    async def shorten(self, calls: Sequence[str]) -> None:
        """Let the answers of these calls end in a while; one that ends sooner, or has no end, is left alone."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.expire(self._shard.answer(call), self._ttl_s, xx=True, lt=True)
            await pipe.execute()

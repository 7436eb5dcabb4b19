"""Publishing events as any producer would: plain XADD, many to one round trip. Never looks into what it sends."""

from collections.abc import Sequence

from redis.asyncio import Redis

from schemas.topics import FIELD


class Inlet:
    """The producer's side of one topic."""

    def __init__(self, redis: Redis, stream: str) -> None:
        """`redis` must not retry by itself: a repeated XADD is a second event."""
        self._redis = redis
        self._stream = stream

    async def publish(self, events: Sequence[str | bytes]) -> list[str]:
        """Append structured CloudEvents and return their entry ids.

        When this raises, none, some or all of them are on the stream; events with an `id` of their own may be published again.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for event in events:
                pipe.xadd(self._stream, {FIELD: event})
            return [entry.decode() for entry in await pipe.execute()]

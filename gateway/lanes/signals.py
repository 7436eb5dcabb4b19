"""Wake-ups over Redis pub/sub: work has come, a call has ended. A signal is a hint; whoever waits also looks from time to time."""

import asyncio
from collections import defaultdict

import structlog
from redis.asyncio import Redis

from gateway.lanes.queue import PASSING
from schemas.topics import Shard

log = structlog.get_logger()


class Signals:
    """Listens for one process."""

    def __init__(self, redis: "Redis", shard: Shard, *, wait_s: float) -> None:
        """`redis` needs a client without a read timeout; `wait_s` is the pause before listening again."""
        self._redis = redis
        self._shard = shard
        self._wait_s = wait_s
        self._waiters: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self.work = asyncio.Event()
        """Set when there may be something to claim."""

    async def listen(self) -> None:
        """Run until cancelled; whatever goes wrong, it listens again."""
        while True:
            try:
                await self._listen()
            except PASSING:
                pass
            except Exception:
                log.exception("signals.broken")
            await asyncio.sleep(self._wait_s)

    async def _listen(self) -> None:
        wake, settled = self._shard.key("wake").encode(), self._shard.key("settled").encode()
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(wake, settled)
            self.work.set()
            async for message in pubsub.listen():
                if message["type"] != "message":
                    continue
                if message["channel"] == wake:
                    self.work.set()
                else:
                    self._release(message["data"].decode())

    async def settled(self, call: str, timeout_s: float) -> None:
        """Wait until the call may have ended, at most `timeout_s` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[call].add(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            pass
        finally:
            self._waiters[call].discard(future)
            if not self._waiters[call]:
                del self._waiters[call]

    def _release(self, call: str) -> None:
        for future in self._waiters.get(call, ()):
            if not future.done():
                future.set_result(None)

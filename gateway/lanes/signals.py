"""Wake-ups over Redis pub/sub: work has come, a call has ended. A signal is a hint; whoever waits also looks from time to time."""

import asyncio
import contextlib
from collections import defaultdict

import structlog
from redis.asyncio import Redis

from gateway.lanes.queue import PASSING
from schemas.topics import Shard

log = structlog.get_logger()


class Agenda:
    """When there may be something to claim: a signal says now, a settlement or an empty claim says when. One sleeper."""

    def __init__(self) -> None:
        """Nothing is planned."""
        self._at: float | None = None
        self._event = asyncio.Event()

    def now(self) -> None:
        """There may be something at once."""
        self._at = 0.0
        self._event.set()

    def plan(self, now_us: int, due_us: int | None) -> None:
        """There may be something at `due_us` of the queue's clock, which shows `now_us`; None: only a signal will tell."""
        if due_us is None:
            return
        # Half a millisecond later: loops round their timers, and one that fires early would look twice.
        at = asyncio.get_running_loop().time() + max(0, due_us - now_us) / 1_000_000 + 0.0005
        if self._at is None or at < self._at:
            self._at = at
            self._event.set()

    def clear(self) -> None:
        """Forget what was planned: the sleeper goes and looks."""
        self._at = None
        self._event.clear()

    async def sleep(self, most_s: float) -> None:
        """Return when something is due, at the latest after `most_s` seconds."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + most_s
        while (left := min(latest, latest if self._at is None else self._at) - loop.time()) > 0:
            self._event.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), left)


class Signals:
    """Listens for one process."""

    def __init__(self, redis: "Redis", *shards: Shard, wait_s: float) -> None:
        """`redis` needs a client without a read timeout; `wait_s` is the pause before listening again.

        One connection hears of all shards: what is published in a cluster every node tells.
        """
        self._redis = redis
        self._wait_s = wait_s
        self._waiters: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._settled = [shard.key("settled").encode() for shard in shards]
        self._wakes = {shard.key("wake").encode(): Agenda() for shard in shards}
        self.agendas = tuple(self._wakes.values())
        """In the order of the shards."""

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
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(*self._wakes, *self._settled)
            for agenda in self.agendas:
                agenda.now()
            async for message in pubsub.listen():
                if message["type"] != "message":
                    continue
                if message["channel"] in self._wakes:
                    self._wakes[message["channel"]].now()
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

"""Signs of life, the state epoch, and the consumer group: what keeps a fleet of workers honest about each other.

The epoch is a name written into Redis and beside it; when Redis has another one, or none, it has forgotten, and that
is told. A replica that took over gets another one: it may miss what had not reached it.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.lanes.queue import Lanes
from schemas.topics import GROUP, Shard

log = structlog.get_logger()


class Fleet:
    """One process's view of the others."""

    def __init__(self, redis: "Redis", shard: Shard, worker: str, *, dead_after_s: float) -> None:
        """`worker` is this process's name; it counts as dead `dead_after_s` seconds after its last beat."""
        self._redis = redis
        self._shard = shard
        self.worker = worker
        self.dead_after_s = dead_after_s

    async def beat(self) -> None:
        """Give a sign of life: this worker's own, and that of the fleet."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in (self._key(self.worker), self._shard.key("beat")):
                pipe.set(key, 1, px=int(self.dead_after_s * 1000))
            await pipe.execute()

    async def sign(self) -> None:
        """Give a sign of life of this process only: it is none of a worker."""
        await self._redis.set(self._key(self.worker), 1, px=int(self.dead_after_s * 1000))

    async def leave(self) -> None:
        """Say that this process ends on purpose, so that its events are taken over at once."""
        await self._redis.delete(self._key(self.worker))

    async def alive(self, worker: str) -> bool:
        """Tell whether another process has given a sign of life lately."""
        return bool(await self._redis.exists(self._key(worker)))

    async def anybody(self) -> bool:
        """Tell whether any worker has given a sign of life lately."""
        return bool(await self._redis.exists(self._shard.key("beat")))

    async def ensure_group(self, stream: str, group: str = GROUP) -> bool:
        """Create the consumer group at the stream's beginning if it is missing; true when it was."""
        try:
            await self._redis.xgroup_create(stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" in str(error):
                return False
            raise
        return True

    def _key(self, worker: str) -> str:
        return self._shard.key(f"worker:{worker}")


class Epoch:
    """The name of the state Redis holds, kept there and in a file."""

    def __init__(self, lanes: Lanes, path: Path, new_id: Callable[[], str]) -> None:
        """`path` is the file beside Redis."""
        self._lanes = lanes
        self._path = path
        self._new_id = new_id
        self.name = ""
        """The state this process works on; empty before the first check."""
        self._declared = True
        self._untold: str | None = None

    async def check(self, lost: Callable[[str, str], Awaitable[None]]) -> None:
        """Compare both names; `lost(expected, found)` is told when Redis has forgotten. A first start only writes them.

        From then on limits start full, for as long as calls of before may still count at a vendor.
        """
        expected = self.name or self._remembered()
        found, name = await self._lanes.epoch(expected, self._new_id())
        # A loss is found once: what fails below is owed until the next check.
        self.name, self._declared = name, self._declared and found == "same"
        if found in ("lost", "changed", "promoted"):
            log.warning("epoch.changed", found=found, expected=expected, name=name)
            self._untold = expected
        if not self._declared:
            await self._lanes.declare()
            self._declared = True
        if self._untold is not None:
            await lost(self._untold, name)
            self._untold = None
        try:
            if name != self._remembered():
                self._write(name)
        except OSError as error:
            # The next start would take a loss for its first: told, but no reason to stand still now.
            log.error("epoch.unwritten", path=str(self._path), error=str(error))  # noqa: TRY400 - the message is the story

    def _remembered(self) -> str:
        return self._path.read_text(encoding="utf-8", errors="replace").strip() if self._path.exists() else ""

    def _write(self, epoch: str) -> None:
        temporary = self._path.with_suffix(f".{os.getpid()}.new")
        temporary.write_text(epoch + "\n", encoding="utf-8")
        temporary.replace(self._path)

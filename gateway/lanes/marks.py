"""`sending` marks, and the replicas that must hold one before a byte leaves: `WAIT` on the connection that wrote it.

Without a replica a mark is one round trip, as ever: the script says when it must be more.
"""

from dataclasses import dataclass
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from connectors.exchange import Marked
from gateway.lanes import replies, scripts
from schemas.topics import Shard

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """How many replicas must hold a mark, None: one, once there has been one; and how long they may take to say so."""

    needed: int | None = None
    wait_ms: int = 500


ANY = Copies()


class Marks:
    """Writes the marks of one process."""

    def __init__(self, redis: "Redis", shard: Shard, copies: Copies) -> None:
        """Marks go to `shard`'s server and to as many of its replicas as `copies` says."""
        self._redis: Any = redis
        self._shard = shard
        self._wait_ms = copies.wait_ms
        self.replicas = -1 if copies.needed is None else copies.needed
        """As the scripts take it."""
        self._awaited = copies.needed or 0

    async def write(self, items: bytes) -> list[Marked]:
        """Mark packed claims; `unconfirmed` is what too few replicas had in time."""
        while True:
            awaited = self._awaited
            (needed, answers), holding = await self._write(items, awaited)
            self._awaited = needed
            if needed <= awaited:
                break
        told = [cast("Marked", replies.text(answer)) for answer in answers]
        if holding >= needed:
            return told
        log.warning("mark.unconfirmed", needed=needed, replicas=holding, calls=told.count("marked"))
        return ["unconfirmed" if answer == "marked" else answer for answer in told]

    async def _write(self, items: bytes, awaited: int) -> tuple[Any, int]:
        """Run the script, and wait for replicas if there may be any; returns its answer and how many hold it."""
        keys, arguments = [self._shard.tag], [items, self.replicas, awaited]
        if not awaited:
            return await scripts.run(self._redis, "mark", keys, arguments), 0
        script = scripts.load("mark")
        answer, holding = await self._waited(awaited, "EVALSHA", script.sha, keys, arguments)
        if isinstance(answer, NoScriptError):
            answer, holding = await self._waited(awaited, "EVAL", script.source, keys, arguments)
        if isinstance(answer, RedisError):
            raise answer
        # A server that was made a replica meanwhile refuses to wait: nobody has confirmed anything.
        return answer, 0 if isinstance(holding, RedisError) else holding

    async def _waited(self, awaited: int, *script: Any) -> list[Any]:
        verb, source, keys, arguments = script
        # One connection: WAIT is about what was written on its own.
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.execute_command(verb, source, len(keys), *keys, *arguments)
            pipe.execute_command("WAIT", awaited, self._wait_ms)
            return cast("list[Any]", await pipe.execute(raise_on_error=False))

"""What a topic tells from now on, for those who follow one call. One reader a process, and only while somebody follows.

Holds nothing back and acknowledges nothing: who must not miss anything asks the journal as well.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from gateway.lanes.queue import PASSING
from gateway.lanes.replies import text
from schemas.topics import FIELD

log = structlog.get_logger()

WAIT_MS = 1000
MOST = 500
"""Entries of one read."""

BACKLOG = 1000
"""Events that wait for one follower; what goes beyond is found in the journal."""

AGAIN_S = 0.5

_FIELD = FIELD.encode()


class _Data(msgspec.Struct):
    call: str | None = None


class _Event(msgspec.Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Event).decode


class TopicTail:
    """The end of one topic."""

    def __init__(self, listener: "Redis", topic: str) -> None:
        """`listener` has no time limit of its own, since reading waits."""
        self._redis: Any = listener
        self._topic = topic
        self._followers: dict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def follow(self, call: str) -> AsyncIterator[asyncio.Queue[bytes]]:
        """Give a queue that is filled with the events of a call that come from now on."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(BACKLOG)
        self._followers[call].add(queue)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            yield queue
        finally:
            self._followers[call].discard(queue)
            if not self._followers[call]:
                del self._followers[call]
            if not self._followers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        last = None
        while True:
            try:
                last = last or await self._newest()
                last = await self._read(last)
            except PASSING:
                await asyncio.sleep(AGAIN_S)
            except Exception:
                log.exception("tail.broken")
                last = None
                await asyncio.sleep(AGAIN_S)

    async def _newest(self) -> str:
        found = await self._redis.xrevrange(self._topic, count=1)
        return text(found[0][0]) if found else "0-0"

    async def _read(self, last: str) -> str:
        told = await self._redis.xread({self._topic: last}, count=MOST, block=WAIT_MS)
        for batches in told.values() if isinstance(told, dict) else [entries for _, entries in told or ()]:
            for batch in batches if batches and isinstance(batches[0], list) else [batches]:
                for key, fields in batch:
                    last = text(key)
                    self._hand_on((fields or {}).get(_FIELD, b""))
        return last

    def _hand_on(self, raw: bytes) -> None:
        try:
            call = _decode(raw).data.call
        except msgspec.DecodeError:
            return
        for queue in self._followers.get(call or "", ()):
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(raw)

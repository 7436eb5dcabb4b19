"""Replays in Redis: a plan, its letters, and how far each is; Python's side of `replay.lua` and `lead.lua`."""

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.lanes.queue import Lanes
from gateway.lanes.replies import text
from gateway.ports.replays import Move
from schemas.replay import Progress, ReplayItem, ReplayPlan, ReplayState
from schemas.topics import Shard

_pack = msgspec.msgpack.Encoder().encode
_plan = msgspec.msgpack.Decoder(ReplayPlan).decode
_item = msgspec.msgpack.Decoder(ReplayItem).decode
_progress = msgspec.msgpack.Decoder(Progress).decode


class Replays:
    """One shard's."""

    def __init__(self, redis: "Redis", shard: Shard, lanes: Lanes) -> None:
        """`lanes` are the lanes of the same shard."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._shard = shard
        self._lanes = lanes

    async def save(self, plan: ReplayPlan, items: Sequence[ReplayItem]) -> None:
        """Keep a new one, whole or not at all."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._shard.key("replays"), plan.id, _pack(plan))
            if items:
                pipe.rpush(self._items(plan.id), *map(_pack, items))
            await pipe.execute()

    async def know(self, plan: ReplayPlan, state: ReplayState) -> None:
        """Write down how one stands that has its home in another shard: letters of this one are taken only while it runs."""
        told = msgspec.structs.replace(plan, state=state)
        await self._redis.hset(self._shard.key("replays"), plan.id, _pack(told))

    async def plan(self, replay: str) -> ReplayPlan | None:
        """Return one."""
        packed = await self._redis.hget(self._shard.key("replays"), replay)
        return None if packed is None else _plan(packed)

    async def plans(self) -> list[ReplayPlan]:
        """Return all, newest first."""
        found = [_plan(packed) for packed in await self._redis.hvals(self._shard.key("replays"))]
        return sorted(found, key=lambda plan: plan.id, reverse=True)

    async def items(self, replay: str) -> list[ReplayItem]:
        """Return the letters of one, in their order."""
        return [_item(packed) for packed in await self._redis.lrange(self._items(replay), 0, -1)]

    async def progress(self, replay: str) -> dict[str, Progress]:
        """Return how far its letters are."""
        found = await self._redis.hgetall(self._progress(replay))
        return {text(letter): _progress(packed) for letter, packed in found.items()}

    async def skip(self, replay: str, letter: str, why: str) -> None:
        """Write down that a letter is left out after all; not when something became of it already."""
        await self._redis.hsetnx(self._progress(replay), letter, _pack(Progress(status="skipped", why=why)))

    async def move(self, replay: str, move: Move) -> tuple[bool, ReplayPlan] | None:
        """Bring it from one of the given states to another."""
        arguments = [replay, _pack(sorted(move.given)), move.to, move.by, move.why, move.forgiven]
        kind, *rest = await self._lanes.replay(arguments)
        return None if text(kind) == "gone" else (text(kind) == "moved", _plan(rest[0]))

    async def forget(self, replay: str) -> None:
        """Keep it no longer."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(self._shard.key("replays"), replay)
            pipe.delete(self._items(replay), self._progress(replay))
            await pipe.execute()

    async def lead(self, worker: str, lease_ms: int) -> int:
        """Ask to be the one who runs replays; the fence, or 0."""
        return await self._lanes.lead(worker, lease_ms)

    def _items(self, replay: str) -> str:
        return self._shard.key(f"replay:{replay}")

    def _progress(self, replay: str) -> str:
        return self._shard.key(f"progress:{replay}")

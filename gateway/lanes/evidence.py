"""Evidence in Redis: what attempts of all processes have shown of each lane, how limits stand, and whose turn it is to probe.

Chosen over one write a call: a process sums for half a second and tells what it has seen in one script call, as breakers do, so that
a call costs two additions. Chosen over the breakers' windows: those are per origin, forget at each change of state, and know no operation.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.lanes.queue import PASSING
from gateway.lanes.scripts import run
from gateway.policy.evidence import NOTHING, SLICE_S, Evidence, Note, spread
from gateway.policy.makespan import Supply
from schemas.outcome import Outcome
from schemas.topics import Shard

MOST = 5000
"""Lanes of which something is remembered."""

GROUPS = 128
"""Groups of slots that are told of one limit."""

_pack = msgspec.msgpack.Encoder().encode


class _Sums(msgspec.Struct):
    ok: int
    failed: int
    ms: int
    squares: int


class _Kept(msgspec.Struct, kw_only=True):
    slice: int
    sums: _Sums
    before: _Sums
    ok_us: int
    failed_us: int
    failure: str
    message: str


_kept = msgspec.msgpack.Decoder(_Kept).decode


class Witness:
    """One process's notes, and the shared memory they go to."""

    def __init__(self, redis: "Redis", shard: Shard) -> None:
        """Nothing has been seen."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._shard = shard
        self._notes: dict[str, Note] = {}

    def saw(self, lane: str, outcome: Outcome) -> None:
        """Take notice of one attempt; only counts."""
        note = self._notes.get(lane)
        if note is None:
            note = self._notes[lane] = Note(lane=lane)
        note.add(outcome)

    async def flush(self) -> None:
        """Tell what was seen; what cannot be told is forgotten."""
        notes, self._notes = list(self._notes.values()), {}
        if notes:
            await self._call("witness", [_pack(notes), int(SLICE_S * 1_000_000), MOST])

    async def seen(self, lanes: Sequence[str]) -> dict[str, Evidence]:
        """Return the evidence of each lane."""
        if not lanes:
            return {}
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(self._shard.key("evidence"), lanes)
            (seconds, us), found = await pipe.execute()
        now_us = seconds * 1_000_000 + us
        return {
            lane: _evidence(_kept(packed), now_us) if packed else NOTHING
            for lane, packed in zip(lanes, found, strict=True)
        }

    async def supplies(self, limits: Sequence[Supply]) -> list[Supply]:
        """Return limits as they stand now; only their declaration is read."""
        if not limits:
            return []
        needs = [{"key": one.key, "kind": one.kind, "most": one.most, "window_us": one.window_us} for one in limits]
        now_us, found = await self._call("supply", [_pack(needs), GROUPS])
        return [_supply(one, reply, now_us) for one, reply in zip(limits, found, strict=True)]

    async def live(self, lanes: Sequence[str]) -> list[int]:
        """Count the calls of each lane that have not ended."""
        if not lanes:
            return []
        held = await self._redis.hmget(self._shard.key("held"), lanes)
        return [int(count or 0) for count in held]

    async def may_probe(self, origin: str, every_s: float) -> bool:
        """Take the fleet's one turn to probe an origin; nobody else has one for `every_s`."""
        taken = await self._redis.set(self._shard.key(f"probing:{origin}"), 1, nx=True, px=int(every_s * 1000))
        return bool(taken)

    async def _call(self, name: str, arguments: list[Any]) -> Any:
        return await run(self._redis, name, [self._shard.tag], arguments)


AWAY = PASSING
"""What says that Redis is away."""


def _evidence(kept: _Kept, now_us: int) -> Evidence:
    slices = [kept.sums, kept.before]
    age = now_us // int(SLICE_S * 1_000_000) - kept.slice
    # What lies further back than the slice before the present one is only known by when it was.
    recent = slices if age <= 0 else slices[:1] if age == 1 else []
    ok, failed = sum(one.ok for one in recent), sum(one.failed for one in recent)
    known = recent or slices
    calls = sum(one.ok + one.failed for one in known)
    mean_s, deviation_s = spread(calls, sum(one.ms for one in known), sum(one.squares for one in known))
    return Evidence(
        ok=ok,
        failed=failed,
        mean_s=mean_s,
        deviation_s=deviation_s,
        ok_age_s=_age(kept.ok_us, now_us),
        failed_age_s=_age(kept.failed_us, now_us),
        failure=kept.failure,
        message=kept.message,
    )


def _age(at_us: int, now_us: int) -> float | None:
    return max(0.0, (now_us - at_us) / 1_000_000) if at_us else None


def _supply(one: Supply, reply: Sequence[Any], now_us: int) -> Supply:
    _, learned, stay_us, tat_us, returns = reply
    return Supply(
        key=one.key,
        name=one.name,
        kind=one.kind,
        most=min(one.most, learned) if learned > 0 else one.most,
        window_us=one.window_us,
        busy=tuple((max(0, int(at) - now_us), int(slots)) for at, slots in returns),
        debt_us=max(0, int(tat_us) - now_us),
        stay_us=max(0, stay_us),
    )

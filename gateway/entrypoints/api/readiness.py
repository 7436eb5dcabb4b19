"""Is the gateway able to accept? Asked before a call is stored, so that an outage is answered at once and without doubt."""

import asyncio
from dataclasses import dataclass, field

from gateway.entrypoints.api.parts import ApiParts, Check, Shard
from gateway.entrypoints.api.problems import FieldError, Kind, Problem, ProblemError, plain
from gateway.lanes.checkup import UNANSWERED

FRESH_S = 0.25
"""An answer this old is still believed: a busy API asks Redis four times a second, not once a request."""

WITHIN_S = 2.0
"""Checks that take longer have failed."""


async def look(parts: ApiParts) -> list[Check]:
    """Run the checks."""
    try:
        async with asyncio.timeout(WITHIN_S):
            return await parts.ready()
    except (*UNANSWERED, TimeoutError) as error:
        return [_queue_away(error)]


class Gate:
    """Lets a call in when its shard answered a moment ago; whether workers live does not matter, for calls can wait."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._known: dict[Shard, _Known] = {}

    async def pass_or_raise(self, tool: str) -> None:
        """Raise a 503 problem while the queue of a tool is away."""
        shard = self._parts.shard_of(tool)
        known = self._known.setdefault(shard, _Known())
        async with known.looking:
            now_s = self._parts.ambient.monotonic()
            if known.looked_s is None or now_s - known.looked_s > FRESH_S:
                known.away = await _answers(shard)
                known.looked_s = self._parts.ambient.monotonic()
        if known.away is not None:
            raise ProblemError(not_ready([known.away]))


@dataclass(slots=True)
class _Known:
    """What a shard answered last."""

    away: Check | None = None
    looked_s: float | None = None
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


async def _answers(shard: Shard) -> Check | None:
    try:
        async with asyncio.timeout(WITHIN_S):
            await shard.stats()
    except (*UNANSWERED, TimeoutError) as error:
        return _queue_away(error)
    return None


def _queue_away(error: Exception) -> Check:
    return Check(name="redis", ok=False, detail=f"Redis does not answer ({type(error).__name__})")


def not_ready(failing: list[Check]) -> Problem:
    """Describe what is missing."""
    return plain(
        Kind.NOT_READY,
        "; ".join(f"{check.name}: {check.detail}" for check in failing),
        action="Try again later; an operator looks with: sluice doctor",
        errors=[FieldError(f"/{check.name}", check.detail) for check in failing],
    )

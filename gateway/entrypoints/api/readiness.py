"""Is the gateway able to accept? Asked before a call is stored, so that an outage is answered at once and without doubt."""

import asyncio

from gateway.entrypoints.api.parts import ApiParts, Check
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
    """Lets a call in when the queue answered a moment ago; whether workers live does not matter, for calls can wait."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._away: Check | None = None
        self._looked_s: float | None = None
        self._looking = asyncio.Lock()

    async def pass_or_raise(self) -> None:
        """Raise a 503 problem while the queue is away."""
        async with self._looking:
            now_s = self._parts.ambient.monotonic()
            if self._looked_s is None or now_s - self._looked_s > FRESH_S:
                self._away = await self._queue_answers()
                self._looked_s = self._parts.ambient.monotonic()
        if self._away is not None:
            raise ProblemError(not_ready([self._away]))

    async def _queue_answers(self) -> Check | None:
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._parts.stats()
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

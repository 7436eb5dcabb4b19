"""Duplicates from the bus whose answer has left Redis: fetched from the journal and published again.

While the journal does not answer they wait on the bus, unacknowledged, where the sweeper comes back to them; their call is not made again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from gateway.ports import Refusal

log = structlog.get_logger()

WITHIN_S = 2.0
"""How long one batch waits for the journal: those behind it wait for the batch."""

REST_S = 5.0
"""After the journal did not answer it is not asked for so long."""

COUNTS = ["received", "duplicates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How a call ended, as it was told."""

    event: str
    """Its result event: the same id, type and `data`."""
    attempts_json: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A duplicate: its entry on the bus, and the call that it repeats."""

    entry: str
    call: str


async def nobody(_: Sequence[Asked]) -> list[Refusal]:
    """Let them wait: for a gateway that has no journal to ask."""
    return []


class Recall:
    """The use-case; one instance a process."""

    def __init__(
        self,
        past: Callable[[str], Awaitable[Past | None]],
        *,
        away: tuple[type[Exception], ...],
        monotonic: Callable[[], float],
        answer_ttl_s: int,
    ) -> None:
        """`past` asks the journal, and raises one of `away` when it does not answer; a fetched answer stays in Redis for a while."""
        self._past = past
        self._away: tuple[type[Exception], ...] = (*away, TimeoutError)
        self._monotonic = monotonic
        self._answer_ttl_s = answer_ttl_s
        self._resting_until_s = float("-inf")

    async def endings(self, asked: Sequence[Asked]) -> list[Refusal]:
        """Return how these duplicates end; what is left out waits for the journal."""
        endings: list[Refusal] = []
        if not asked or self._monotonic() < self._resting_until_s:
            return endings
        try:
            async with asyncio.timeout(WITHIN_S):
                for one in asked:
                    endings.append(self._ending(one, await self._past(one.call)))  # noqa: PERF401 - what was fetched before a failure counts
        except self._away as error:
            self._resting_until_s = self._monotonic() + REST_S
            log.warning("duplicate.waits", waiting=len(asked) - len(endings), error=f"{type(error).__name__}: {error}")
        return endings

    def _ending(self, one: Asked, past: Past | None) -> Refusal:
        if past is None:
            # The journal had it when the answer left Redis: it was emptied or replaced. The call ran all the same, so it stays a duplicate.
            log.error("duplicate.answer_lost", call=one.call, entry=one.entry)
            return Refusal(entry=one.entry, counts=COUNTS, events=[], id=one.call)
        return Refusal(
            entry=one.entry,
            counts=COUNTS,
            events=[],
            result=past.event,
            id=one.call,
            attempts_json=past.attempts_json,
            answer_ttl_s=self._answer_ttl_s,
        )

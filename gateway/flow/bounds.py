"""Which bounds of the queue refuse calls at present: told when one begins to and when it has stopped, never for each call."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.ports import Answer, Full, Heavy

log = structlog.get_logger()

QUIET_S = 60.0
"""A bound that has refused nothing for so long has stopped; a lane that hovers at its bound is told once."""


@dataclass(slots=True)
class _Episode:
    last_s: float
    refused: int = 0


class Bounds:
    """What one process has seen; the watermark has lines of its own, since every worker looks at it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic` is a clock in seconds."""
        self._monotonic = monotonic
        self._episodes: dict[tuple[str, str], _Episode] = {}

    def note(self, answer: Answer, lane: str) -> None:
        """Take notice of what the lanes answered to one call."""
        match answer:
            case Full(waiting=waiting):
                self._refused("calls", lane, waiting)
            case Heavy(waiting_bytes=waiting):
                self._refused("bytes", "", waiting)
            case _ if self._episodes:
                self._end_quiet()
            case _:
                pass

    def _refused(self, bound: str, lane: str, waiting: int) -> None:
        now_s = self._monotonic()
        episode = self._episodes.get((bound, lane))
        if episode is None:
            episode = self._episodes[bound, lane] = _Episode(now_s)
            log.warning("queue.full", bound=bound, lane=lane or None, waiting=waiting)
        episode.last_s = now_s
        episode.refused += 1

    def _end_quiet(self) -> None:
        now_s = self._monotonic()
        over = [key for key, episode in self._episodes.items() if now_s - episode.last_s > QUIET_S]
        for key in over:
            bound, lane = key
            log.info("queue.room", bound=bound, lane=lane or None, refused=self._episodes.pop(key).refused)

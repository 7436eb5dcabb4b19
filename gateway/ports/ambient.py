"""Time, chance and identity, handed in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """Time, chance and identity, handed in so that nothing below the composition root owns a clock or dice."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    """Seconds on a clock that counts suspend."""
    new_id: Callable[[], str]
    """A fresh ULID."""
    new_trace: Callable[[], str]
    """A fresh `traceparent`."""
    uniform: Callable[[float, float], float]
    worker: str
    """Name of this process among its kind."""
    placed: Callable[[str, str], str] = lambda identity, _tool: identity
    """Makes a new id say where that lies which belongs to a tool; with one shard it stays as it is."""

    def id_for(self, tool: str) -> str:
        """Return a fresh ULID for a call of a tool or for its letter; for what is no tool's, of an empty one."""
        return self.placed(self.new_id(), tool)

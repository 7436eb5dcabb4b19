"""How calls, lanes and the whole queue stand, for people and for monitoring."""

from dataclasses import dataclass

from gateway.ports.claims import Run
from schemas.lifecycle import HoldReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A call that has not ended."""

    now_us: int
    run: Run
    body: bytes
    position: int | None
    due_us: int | None
    eta_us: int | None = None
    held: "Held | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What keeps a lane's next call from starting."""

    reason: HoldReason
    detail: str
    until_us: int | None
    """None: until somebody acts."""
    key: str
    """Of the limit or gate."""
    limit: str | None = None
    most: int = 0
    window_us: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How one limit of a lane stands."""

    key: str
    name: str
    kind: str
    most: int
    window_us: int
    used: int
    learned: int | None
    """The lower limit that the vendor was seen to apply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """How one lane stands."""

    lane: str
    live: int
    waiting: int
    oldest_us: int | None
    """When its head was put there."""
    eta_us: int | None
    """When the last of those that wait will start."""
    held: Held | None
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that has ended: its result event and its attempts, as JSON."""

    event: bytes
    attempts: bytes


Known = Live | Ended | None

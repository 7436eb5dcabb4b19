"""How full the queue is, and what of it is closed."""

from dataclasses import dataclass, field

from schemas.lifecycle import HoldReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """Why a gate or a limit is closed, and until when."""

    key: str
    reason: HoldReason
    detail: str
    until_us: int | None
    """None: until somebody acts."""
    since_us: int = 0
    """Since when it has been closed without a break; 0: nobody wrote it down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the queue holds, and the memory it takes."""

    calls: int
    """That have not ended."""
    call_bytes: int
    memory_bytes: int
    memory_high_bytes: int
    """The mark above which nothing new is taken; 0: there is none."""
    flooded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How the lanes of one connector wait."""

    runnable: int
    """Calls in lanes that nothing is known to hold."""
    oldest_s: float
    """Age of the oldest call at the head of a lane; 0 where none waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What monitoring is told of the queue."""

    load: Load
    calls: dict[str, int]
    """Calls that have not ended, by connector."""
    closed: list[Closing]
    letters: dict[str, int]
    """Letters that are open, and those that are over and not forgotten yet."""
    waits: dict[str, Waits] = field(default_factory=dict)
    """By connector, those with calls that have not ended."""
    budgets: dict[tuple[str, str], float] = field(default_factory=dict)
    """Connector and rate limit: the share that is free."""
    expiries: dict[tuple[str, str], float] = field(default_factory=dict)
    """Connector and connection: when its token ends, in Unix time."""

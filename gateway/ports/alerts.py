"""What those who watch for patterns say to the store of alerts, and the small protocols between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from schemas.alert import AlertKind, AlertRecord

Verdict = Literal["opened", "resolved", "capped", "open", "pending", "muted", "quiet", "late"]


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """How one pattern was seen; field names are those of `alert.lua`."""

    key: str
    subject: str
    kind: AlertKind
    fires: int
    """1: it holds."""
    since_us: int
    """Since when it is known to hold; 0: since now."""
    for_us: int
    """How long it must hold before an alert opens."""
    quiet_us: int
    """How long it must be quiet before the alert resolves."""
    count: int
    total: int
    """Counts on while the alert is open; `count` of them are why it opens."""
    sentence: str
    action: str
    sample: str
    """As JSON."""
    alert: str
    """The id of the alert that may open."""
    free: int
    """1: the bound on alerts in an hour does not hold for it."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened `count` times in one stretch of a window; field names are those of `tally.lua`."""

    name: str
    at_ms: int
    count: int
    width_ms: int
    keep_ms: int
    sample: str
    """As JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallied:
    """What is in a window."""

    name: str
    count: int
    total: int
    sample: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a topic."""

    id: str
    event: bytes


class Places(Protocol):
    """Turns, and places in topics, that all processes share."""

    async def turn(self, name: str, *, lease_s: float) -> bool:
        """Take or keep the turn; false when another process has it."""

    async def now_ms(self) -> int:
        """Return the queue's time."""

    async def place(self, reader: str) -> str:
        """Return the last entry a reader is done with; empty when it never read."""

    async def move(self, reader: str, before: str, after: str) -> bool:
        """Move on; false when somebody else did."""

    async def read(self, stream: str, after: str, most: int) -> Sequence[Entry]:
        """Read what stands behind a place; empty `after` is the beginning."""


class Windows(Protocol):
    """Counts in sliding windows."""

    async def add(self, reader: str, before: str, after: str, tallies: Sequence[Tally]) -> bool:
        """Count and move on in one step; false when somebody else did."""

    async def within(self, spans_ms: Mapping[str, int], default_ms: int) -> Sequence[Tallied]:
        """Count what lies within the span of each name."""


class AlertBook(Protocol):
    """The alerts of all processes."""

    async def observe(self, turn: str, seen: Sequence[Observation]) -> Sequence[Verdict]:
        """Bring the alerts up to date; all `late` when the turn is over."""

    async def ls(self) -> Sequence[AlertRecord]:
        """List every record."""

    async def end(self, record: AlertRecord, *, by: str, reason: str) -> tuple[Verdict | None, AlertRecord | None]:
        """Resolve one on a person's word."""

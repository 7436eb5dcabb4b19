"""What a run leaves behind, as values: the gateway's side, the vendor's side, and what does not fit together. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.demo.ledger import Sums
from tests.faults.matrix.load import Call
from tests.vendor.record import Arrival

CONFLICT = "ingest.duplicate_conflict"


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: its letter (X: the row could not be played), what happened, and how one can tell."""

    invariant: str
    told: str
    evidence: str = ""

    def __str__(self) -> str:
        return f"{self.invariant}: {self.told}" + (f" [{self.evidence[:600]}]" if self.evidence else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What the vendor may see at most; `window_s` is 0 for a concurrency, no operations mean all of them."""

    most: int
    window_s: float = 1.0
    operations: tuple[str, ...] = ()
    per: Literal["connector", "connection", "operation"] = "connector"

    def __str__(self) -> str:
        return f"{self.most} per {self.window_s:g} s" if self.window_s else f"{self.most} at once"


@dataclass(frozen=True, slots=True)
class Size:
    """How much a process holds."""

    rss: int
    fds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """The vendor's own record: how often each (operation, ref) took effect, and every arrival."""

    effects: Mapping[tuple[str, str], int]
    arrivals: Sequence[Arrival]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The gateway's side of a run, read from outside after it."""

    calls: Sequence[Call]
    """Each event that was published, once."""
    published_total: int
    """Entries that were published: duplicates and garbage too."""
    sums: Sums
    entries: int | None = None
    """How many the bus itself has counted: one whose answer was lost was published again, and may be there twice."""
    pending: int = 0
    results: Sequence[Mapping[str, Any]] = ()
    """The data of each result; the same one told twice is here once."""
    events: Sequence[Mapping[str, Any]] = ()
    letters: Sequence[Mapping[str, Any]] = ()
    journal: Mapping[str, str] | None = None
    """The state of each call in the journal; None when none ran."""
    leaks: Sequence[tuple[str, str]] = ()
    """(Place, canary)."""
    limits: Sequence[Limit] = ()
    bound_s: float = 60.0
    quiet_s: float | None = None
    """From the last healing to quiet; None when it never came."""
    sizes: Sequence[tuple[str, Size, Size]] = ()
    demands: Sequence[Violation] = ()
    """What the row itself asked for and did not find."""
    counted: bool = True
    """Whether each published entry is received exactly once; not where Redis itself has lost some."""
    may_be_lost: frozenset[str] = frozenset()
    approved: Mapping[str, int] = field(default_factory=dict)
    """How many more effects an operator has approved, by ref."""
    bystanders: Mapping[str, int] = field(default_factory=dict)
    """The agents that must not notice, and their p95 in ms at most."""

    @property
    def ended(self) -> list[Mapping[str, Any]]:
        """The results of calls; what was refused since its key speaks of another call is none."""
        return [one for one in self.results if (one.get("error") or {}).get("class") != CONFLICT]

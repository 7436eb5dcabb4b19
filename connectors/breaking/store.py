"""What breakers say to the rest of the fleet, and what they hear. Times are epoch seconds of this process's clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.breaking.breaker import Move, Permit
from connectors.breaking.standing import Standing
from connectors.breaking.window import Counts


class StoreAwayError(Exception):
    """The shared state does not answer: what is known here decides until it does."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A standing as all share it; `revision` rises with every change."""

    standing: Standing
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The fleet's answer to one who wants to probe."""

    granted: bool
    begun: bool
    """Whether the breaker is half-open because of it: to be told once, whatever news came before the answer."""
    shared: Shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Evidence of one breaker that the others do not have yet."""

    key: str
    generation: int
    window_s: float
    ages: Mapping[int, Counts]
    """By age in buckets."""
    row: int
    broken: bool
    successes: int
    release: str
    """Token of a probe that has ended; empty when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSums:
    """The fleet's evidence of one breaker."""

    shared: Shared
    ages: Mapping[int, Counts]
    row: int
    successes: int


class BreakerStore(Protocol):
    """Where breakers of all processes meet; every method raises `StoreAwayError`."""

    async def look(self) -> Mapping[str, Shared]:
        """Read how all breakers stand, by key."""

    async def move(self, key: str, move: Move) -> tuple[bool, Shared]:
        """Change a standing if nobody has before; tells whether it was, and how it stands now."""

    async def probe(self, permit: Permit, lease_s: float) -> Probed:
        """Take the fleet's one place for a probe, if it is free."""

    async def flush(self, sequence: int, deltas: Sequence[Delta]) -> Sequence[FleetSums]:
        """Add evidence and return the sums, in the order given; the same sequence again adds nothing."""

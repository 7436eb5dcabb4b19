"""What calls have shown of a lane lately, over all processes: the passive evidence of health. Pure values and sums."""

import math
from dataclasses import dataclass

import msgspec

from schemas.failure import FACTS, Blame, Failure
from schemas.outcome import Outcome

SLICE_S = 300.0
"""Attempts are summed in slices of so long; the present one and the one before are kept."""

FRESH_S = 60.0
"""Evidence that is older is stale: then a probe is worth its request."""

_QUIET = frozenset({Failure.SCHEMA_BREAKING, Failure.SCHEMA_UNDECODABLE})
"""Told by the contract's own findings."""


class Note(msgspec.Struct, kw_only=True):
    """Attempts that one process has not told yet; field names are those of `witness.lua`."""

    lane: str
    ok: int = msgspec.field(default_factory=int)
    failed: int = msgspec.field(default_factory=int)
    ms: int = msgspec.field(default_factory=int)
    squares: int = msgspec.field(default_factory=int)
    failure: str = msgspec.field(default_factory=str)
    """Of the last attempt that failed."""
    message: str = msgspec.field(default_factory=str)
    last: str = msgspec.field(default_factory=str)
    """How the last attempt ended: `ok` or `failed`."""

    def add(self, outcome: Outcome) -> None:
        """Count one attempt."""
        failed = unwell(outcome)
        self.ok, self.failed = self.ok + (not failed), self.failed + failed
        self.ms, self.squares = self.ms + outcome.duration_ms, self.squares + outcome.duration_ms**2
        self.last = "failed" if failed else "ok"
        if failed:
            self.failure, self.message = str(outcome.failure), outcome.message[:200]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One lane's attempts; ages are seconds, None where there was none."""

    ok: int = 0
    failed: int = 0
    mean_s: float | None = None
    deviation_s: float = 0.0
    ok_age_s: float | None = None
    failed_age_s: float | None = None
    failure: str = ""
    message: str = ""

    @property
    def age_s(self) -> float | None:
        """How long ago the last attempt was."""
        return min((age for age in (self.ok_age_s, self.failed_age_s) if age is not None), default=None)

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.failed_age_s is not None and (self.ok_age_s is None or self.failed_age_s < self.ok_age_s)


NOTHING = Evidence()


def unwell(outcome: Outcome) -> bool:
    """Tell whether an attempt says something bad of the vendor or of our credential; what its caller did wrong does not."""
    if outcome.failure is None or outcome.limited or outcome.failure in _QUIET:
        return False
    return FACTS[outcome.failure].blame in {Blame.VENDOR, Blame.OPERATOR}


def spread(calls: int, ms: int, squares: int) -> tuple[float | None, float]:
    """Return the mean and the standard deviation of durations, in seconds."""
    if calls == 0:
        return None, 0.0
    mean = ms / calls
    return mean / 1000, math.sqrt(max(0.0, squares / calls - mean * mean)) / 1000

"""What the calls of the last minute say, here and in the rest of the fleet: a ring of buckets, and the rule that trips. Pure.

Evidence is kept three times: what the fleet was last told to be true, what was sent and not answered yet, and what is new.
Buckets travel by their age, so that the clocks of two machines need not agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from connectors.breaking.terms import BUCKETS, BreakerTerms


class Counts(NamedTuple):
    """Calls of one bucket: how many, how many failed, how many were slow."""

    calls: int = 0
    failures: int = 0
    slow: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Add two."""
        return Counts(self.calls + other.calls, self.failures + other.failures, self.slow + other.slow)


NOTHING = Counts()


@dataclass(slots=True)
class Evidence:
    """Counts by number of bucket, and how the newest calls ended."""

    buckets: dict[int, Counts] = field(default_factory=dict)
    row: int = 0
    """Failures since the last success."""
    broken: bool = False
    """Whether there was a success: then failures before it are in no row with those after."""
    successes: int = 0

    def __bool__(self) -> bool:
        return bool(self.buckets) or self.successes > 0

    def add(self, bucket: int, *, failed: bool, slow: bool) -> None:
        """Count one call."""
        self.buckets[bucket] = self.buckets.get(bucket, NOTHING).plus(Counts(1, int(failed), int(slow)))
        self.row = self.row + 1 if failed else 0
        self.broken = self.broken or not failed
        self.successes += not (failed or slow)

    def then(self, later: "Evidence") -> "Evidence":
        """Return this and what came after it as one."""
        buckets = dict(self.buckets)
        for bucket, counts in later.buckets.items():
            buckets[bucket] = buckets.get(bucket, NOTHING).plus(counts)
        row = later.row if later.broken else self.row + later.row
        return Evidence(buckets, row, self.broken or later.broken, self.successes + later.successes)


class Sums(NamedTuple):
    """A window as the rule sees it."""

    calls: int
    failures: int
    slow: int
    row: int
    successes: int


class Window:
    """The evidence of one breaker under one generation."""

    def __init__(self, window_s: float) -> None:
        """Nothing is known."""
        self._width_s = window_s / BUCKETS
        self._fleet, self._sent, self._new = Evidence(), Evidence(), Evidence()

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one call that ended `now`."""
        self._new.add(self._bucket(now), failed=failed, slow=slow)

    def sums(self, now: float) -> Sums:
        """Return what is known of the window that ends `now`."""
        known = self._fleet.then(self._sent).then(self._new)
        oldest, total = self._bucket(now) - BUCKETS, NOTHING
        for bucket, counts in known.buckets.items():
            if bucket > oldest:
                total = total.plus(counts)
        return Sums(*total, row=known.row, successes=known.successes)

    def pack(self) -> bool:
        """Make what is new ready to be sent; tell whether there is anything to send."""
        if not self._sent:
            self._sent, self._new = self._new, Evidence()
        return bool(self._sent)

    def delta(self, now: float) -> tuple[dict[int, Counts], Evidence]:
        """Return what was made ready: counts by age in buckets, and the evidence they come from."""
        current = self._bucket(now)
        ages = {current - bucket: counts for bucket, counts in self._sent.buckets.items()}
        return {age: counts for age, counts in ages.items() if 0 <= age < BUCKETS}, self._sent

    def told(self, now: float, ages: Mapping[int, Counts], *, row: int, successes: int) -> None:
        """Take the fleet's sums, which now hold what was sent."""
        current = self._bucket(now)
        self._fleet = Evidence({current - age: counts for age, counts in ages.items()}, row, successes=successes)
        self._sent = Evidence()

    def start_counting(self) -> None:
        """Forget the successes: another step of the slow start counts its own."""
        for evidence in (self._fleet, self._sent, self._new):
            evidence.successes = 0

    def clear(self) -> None:
        """Forget everything: another generation starts."""
        self._fleet, self._sent, self._new = Evidence(), Evidence(), Evidence()

    def _bucket(self, now: float) -> int:
        return int(now // self._width_s)


def trips(sums: Sums, terms: BreakerTerms) -> str | None:
    """Say in words why a breaker trips; None when it does not.

    Five in a row trip at the little traffic of an agent, where a rate over hundreds of calls never would.
    """
    if sums.row >= terms.consecutive:
        return f"{sums.row} failures in a row"
    if sums.calls < terms.min_calls:
        return None
    if sums.failures >= terms.failure_rate * sums.calls:
        return f"{sums.failures} of {sums.calls} calls failed within {terms.window_s:g} s"
    if sums.slow >= terms.slow_rate * sums.calls:
        return f"{sums.slow} of {sums.calls} calls took longer than {terms.slow_over_s:g} s"
    return None

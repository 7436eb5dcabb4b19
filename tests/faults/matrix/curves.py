"""What processes and stores hold over a long run, and which of it must stay flat. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.faults.matrix.recording import Size, Violation

MB = 2**20
WARM_S = 150.0
"""Caches, pools and all that is kept for a time have filled up by then."""
PAGES = 64 * MB
"""Of the journal's database, that SQLite keeps in memory; they fill up as it grows."""
FEWEST = 3
"""Samples after the warm-up from which anything can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is held at one moment in which no call is under way."""

    at_s: float
    calls: int
    faults: int
    violations: int
    worker: Size
    """One that no fault has killed."""
    api: Size
    journal: Size
    keys: int
    redis_bytes: int
    entries: int
    """Of all topics."""
    journal_rows: int
    journal_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One quantity, and how much more of it there may be late than early: a share, and so much besides."""

    name: str
    of: Callable[[Sample], int]
    unit: str = ""
    share: float = 0.25
    besides: int = 0


CURVES = (
    Curve(name="worker memory", of=lambda one: one.worker.rss, unit="MB", share=0.1, besides=16 * MB),
    Curve(name="worker descriptors", of=lambda one: one.worker.fds, share=0, besides=20),
    Curve(name="API memory", of=lambda one: one.api.rss, unit="MB", share=0.1, besides=PAGES + 16 * MB),
    Curve(name="API descriptors", of=lambda one: one.api.fds, share=0, besides=20),
    Curve(name="journal memory", of=lambda one: one.journal.rss, unit="MB", share=0.1, besides=PAGES + 16 * MB),
    Curve(name="journal descriptors", of=lambda one: one.journal.fds, share=0, besides=20),
    Curve(name="Redis keys", of=lambda one: one.keys, besides=1_000),
    Curve(name="Redis memory", of=lambda one: one.redis_bytes, unit="MB", besides=8 * MB),
    Curve(name="topic entries", of=lambda one: one.entries, besides=5_000),
)
"""What must stay flat."""

GROWING = (
    Curve(name="journal rows", of=lambda one: one.journal_rows),
    Curve(name="journal file", of=lambda one: one.journal_bytes, unit="MB"),
)
"""What may grow until its retention, which a short run does not reach: only told."""


def judged(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Return the early and the late samples after the warm-up; nothing of either when there are too few."""
    warm = [one for one in samples if one.at_s >= WARM_S]
    if len(warm) < FEWEST:
        return (), ()
    half = len(warm) // 2
    return warm[:half], warm[half:]


def rising(samples: Sequence[Sample]) -> Iterator[Violation]:
    """M: yield each curve that is higher late than early."""
    early, late = judged(samples)
    for curve in CURVES if early else ():
        before, after = max(map(curve.of, early)), max(map(curve.of, late))
        if after > before * (1 + curve.share) + curve.besides:
            yield Violation("M", f"{curve.name} rises", f"{shown(curve, before)} early, {shown(curve, after)} late")


def shown(curve: Curve, value: int) -> str:
    """Write a value of a curve with its unit."""
    return f"{value / MB:.1f} MB" if curve.unit else f"{value:,}"

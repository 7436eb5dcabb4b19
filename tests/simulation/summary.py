"""Many schedules over all cores, and what came of them in figures."""

import gc
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.simulation.play import Played, play, shrunk
from tests.simulation.schedule import drawn

CHUNK: Final = 100
SPREAD: Final = 10**9
"""Schedules of one seed: the n-th of seed 3 is 3,000,000,000 + n, and that number alone draws it again."""

TOLD_MOST: Final = 5
"""Violations that are shrunk and shown; the others are counted."""

Progress = Callable[["Summary"], None]


@dataclass(slots=True, kw_only=True)
class Summary:
    """What came of so many schedules."""

    seed: int
    schedules: int = 0
    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Those that came to pass, by kind."""
    states: Counter[str] = field(default_factory=Counter)
    """How calls ended."""
    steps: int = 0
    """How often a worker reached out of itself: each is a place where it could have died."""
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    seconds: float = 0.0
    failed: dict[int, list[str]] = field(default_factory=dict)
    """The seeds of schedules that broke a promise, and which."""
    shrunk: list[str] = field(default_factory=list)
    """Some of them, as small as they were found to be."""

    def add(self, played: Played) -> None:
        """Count one schedule."""
        self.schedules += 1
        self.calls += played.calls
        self.faults.update(fault.kind for fault in played.struck)
        self.states.update(played.states)
        self.steps += played.steps
        self.virtual_s += played.seconds
        if played.violations:
            self.failed[played.schedule.seed] = [str(one) for one in played.violations]

    def join(self, other: "Summary") -> None:
        """Count those of another one too."""
        self.schedules += other.schedules
        self.calls += other.calls
        self.faults.update(other.faults)
        self.states.update(other.states)
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.cpu_s += other.cpu_s
        self.failed.update(other.failed)

    def told(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            **asdict(self),
            "faults": dict(sorted(self.faults.items())),
            "states": dict(sorted(self.states.items())),
            "violations": len(self.failed),
        }


def run(schedules: int, seed: int, *, processes: int | None = None, progress: Progress = lambda _: None) -> Summary:
    """Play the first so many schedules of a seed on all cores."""
    began, whole = time.monotonic(), Summary(seed=seed)
    with ProcessPoolExecutor(
        processes or os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin
    ) as pool:
        parts = [pool.submit(_chunk, seed, first, last) for first, last in _chunks(schedules)]
        for part in as_completed(parts):
            whole.join(part.result())
            whole.seconds = time.monotonic() - began
            progress(whole)
    for failed in sorted(whole.failed)[:TOLD_MOST]:
        smallest = shrunk(drawn(failed))
        whole.shrunk.append("\n".join([str(smallest.schedule), *map(str, smallest.violations)]))
    return whole


def _chunks(schedules: int) -> Iterator[tuple[int, int]]:
    for first in range(0, schedules, CHUNK):
        yield first, min(schedules, first + CHUNK)


def _chunk(seed: int, first: int, last: int) -> Summary:
    found, began = Summary(seed=seed), time.process_time()
    for number in range(first, last):
        found.add(play(drawn(seed * SPREAD + number)))
    found.cpu_s = time.process_time() - began
    return found


def _begin() -> None:
    """What was imported lives as long as the process: the collector need not look at it each time."""
    gc.freeze()

"""What a long run may hold: a curve that rises is told, one that is flat or falls is not, and too little is not judged."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.matrix.curves import CURVES, GROWING, MB, WARM_S, Sample, judged, rising
from tests.faults.matrix.recording import Size

FIRST = Sample(
    at_s=60,
    calls=0,
    faults=0,
    violations=0,
    worker=Size(140 * MB, 40),
    api=Size(130 * MB, 20),
    journal=Size(150 * MB, 20),
    keys=20_000,
    redis_bytes=40 * MB,
    entries=100_000,
    journal_rows=10_000,
    journal_bytes=20 * MB,
)
RISES: dict[str, Callable[[float], dict[str, Any]]] = {
    "worker memory": lambda by: {"worker": Size(round(140 * MB * by), 40)},
    "worker descriptors": lambda by: {"worker": Size(140 * MB, round(40 * by))},
    "Redis keys": lambda by: {"keys": round(20_000 * by)},
    "Redis memory": lambda by: {"redis_bytes": round(40 * MB * by)},
    "topic entries": lambda by: {"entries": round(100_000 * by)},
}


def run(name: str, growth: float, *, minutes: int = 10) -> list[Sample]:
    """Return a sample a minute of a run in which one quantity grows by so much a minute."""
    return [replace(FIRST, at_s=60.0 * minute, **RISES[name](1 + growth * minute)) for minute in range(1, minutes)]


@pytest.mark.parametrize("name", RISES)
def test_a_curve_that_rises_is_told_and_a_flat_one_is_not(name: str) -> None:
    assert [one.told for one in rising(run(name, 0.2))] == [f"{name} rises"]
    assert list(rising(run(name, 0.0))) == []
    assert list(rising(run(name, -0.05))) == []


def test_what_rises_in_the_warm_up_alone_is_not_told() -> None:
    samples = [replace(FIRST, at_s=60.0 * minute, keys=20_000 if minute > 2 else 100) for minute in range(10)]
    assert list(rising(samples)) == []


def test_a_run_that_is_too_short_is_not_judged() -> None:
    short = [one for one in run("Redis keys", 1.0) if one.at_s < WARM_S + 90]
    assert judged(short) == ((), ())
    assert list(rising(short)) == []


def test_the_journal_may_grow() -> None:
    samples = [replace(FIRST, at_s=60.0 * minute, journal_rows=minute * 10**6) for minute in range(10)]
    assert list(rising(samples)) == []
    assert not set(CURVES) & set(GROWING)

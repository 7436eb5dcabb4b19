"""Ten thousand crash schedules of the way from intake to settlement, and the proof that they would find what is broken."""

import os
from typing import Any

import pytest

from tests.simulation import run
from tests.simulation.defects import DEFECTS, Defect
from tests.simulation.play import play, shrunk
from tests.simulation.schedule import drawn

SCHEDULES = 10_000
SEED = 1
TRIED = range(500, 3_000)
"""Schedules within which every defect is found; a fence that nobody checks is the rarest to be seen, once in a thousand or two."""

pytestmark = pytest.mark.faults


@pytest.mark.timeout(900)
def test_no_schedule_breaks_a_promise(record_property: Any) -> None:
    schedules = int(os.environ.get("SLUICE_SCHEDULES", SCHEDULES))
    summary = run(schedules, SEED)
    told = f"{summary.schedules} schedules, {summary.calls} calls, {summary.faults.total()} faults, {summary.seconds:.0f} s"
    record_property("summary", f"simulation: {told}")
    assert summary.schedules == schedules
    assert not summary.failed, "\n\n".join(summary.shrunk)
    # Otherwise it would be a proof about nothing.
    assert (
        min(summary.faults[kind] for kind in ("kill", "pause", "lose", "away", "stall", "refuse", "all", "step"))
        > schedules / 50
    )
    assert {"completed", "failed", "escalated", "expired"} <= set(summary.states)


def test_the_same_seed_goes_the_same_way() -> None:
    first, second = play(drawn(7)), play(drawn(7))
    assert (first.steps, first.seconds, first.states, first.struck) == (
        second.steps,
        second.seconds,
        second.states,
        second.struck,
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_and_the_schedule_that_shows_it_is_small(name: str) -> None:
    defect = DEFECTS[name]
    seed = next(seed for seed in TRIED if _broken(seed, defect))
    smallest = shrunk(drawn(seed), defect.altered(), tries=60)
    assert smallest.violations
    assert len(smallest.schedule.faults) + len(smallest.schedule.behaviours) <= 3, str(smallest.schedule)


def _broken(seed: int, defect: Defect) -> bool:
    broken = {one.invariant for one in play(drawn(seed), defect.altered()).violations}
    assert not broken or broken & set(defect.breaks), f"another promise than expected: {broken}"
    return bool(broken)

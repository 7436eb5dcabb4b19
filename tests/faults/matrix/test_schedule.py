"""The shrinker keeps what a failure needs, and lets go of the rest."""

from tests.faults.matrix.schedule import Fault, Schedule, shrink

KINDS = ("kill_worker", "redis_kill", "stop_worker", "redis_stop", "kill_worker", "vendor.latency", "clock")
LONG = Schedule(seed=1, calls=100, faults=tuple(Fault(at_s=at, kind=kind) for at, kind in enumerate(KINDS)))


def test_it_finds_the_two_faults_that_a_failure_needs_and_the_fewest_calls() -> None:
    def fails(schedule: Schedule) -> bool:
        kinds = {fault.kind for fault in schedule.faults}
        return {"redis_kill", "clock"} <= kinds and schedule.calls >= 10

    shortest = shrink(LONG, fails, tries=100)
    assert [fault.kind for fault in shortest.faults] == ["redis_kill", "clock"]
    assert shortest.calls == 12


def test_a_failure_that_does_not_come_again_is_told_as_it_was() -> None:
    assert shrink(LONG, lambda _: False, tries=100) == LONG


def test_it_stops_after_its_tries() -> None:
    asked: list[Schedule] = []

    def fails(schedule: Schedule) -> bool:
        asked.append(schedule)
        return True

    shrink(LONG, fails, tries=3)
    assert len(asked) == 3


def test_a_schedule_is_told_in_full() -> None:
    told = str(LONG)
    assert "seed 1" in told
    assert all(kind in told for kind in KINDS)

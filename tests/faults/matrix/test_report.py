"""The report keeps what it has: a line that was written is read again as it was."""

from collections import Counter
from random import Random

from tests.faults.matrix import report
from tests.faults.matrix.recording import Violation
from tests.faults.matrix.scenario import NotRun, Run, Scenario
from tests.faults.matrix.schedule import Schedule

ROW = Scenario(
    number=3, title="a death", invariants="LDU", bound_s=1, plan=lambda _, seed: Schedule(seed=seed, calls=1)
)
SILENT = NotRun(number=48, title="Kafka", invariants="LDT", reason="no broker here")


def run(seed: int, *violations: Violation) -> Run:
    return Run(
        number=3,
        schedule=ROW.plan(Random(1), seed),
        operations=100,
        faults=Counter({"die": 2, "redis.reset_peer": 1}),
        seconds=9.6,
        quiet_s=1.0,
        violations=violations,
    )


def test_the_sums_of_a_row_are_told() -> None:
    line = report.line_of(ROW, [run(1), run(2, Violation("L", "lost"))], "abc")
    assert str(line) == "| 3 | a death | L D U | 1 2 | 200 | die 4, redis.reset_peer 2 | 19 | 1 | abc |"


def test_what_was_written_is_read_again() -> None:
    made = report.lines([ROW, SILENT], [run(1), run(2)], {}, "abc")
    again = report.read(report.block(made, {"machine": "one"}))
    assert [str(again[number]) for number in (3, 48)] == [str(line) for line in made]


def test_a_row_that_was_not_played_this_time_keeps_its_line_and_one_that_never_was_says_so() -> None:
    known = report.read(report.block(report.lines([ROW], [run(1)], {}, "old"), {}))
    assert report.lines([ROW], [], known, "new")[0].commit == "old"
    assert report.lines([ROW], [], {}, "new")[0].reason == "not yet played"


def test_the_totals_are_the_sums_of_the_table() -> None:
    told = report.block(report.lines([ROW, SILENT], [run(1), run(2)], {}, "abc"), {})
    assert "- rows: 1 of 2 played, 2 runs" in told
    assert "- operations: 200" in told
    assert "- faults: 6: die 4, redis.reset_peer 2" in told
    assert "- violations: 0" in told

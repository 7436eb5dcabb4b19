"""docs/reliability.md: the table of all rows, between two marks. What was played is replaced, what was not keeps its line."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.report import write
from tests.faults.matrix.scenario import NotRun, Run, Scenario

DOCUMENT = Path(__file__).parents[3] / "docs" / "reliability.md"
NAME = "faults"
HEADS = ("#", "scenario", "invariants", "seeds", "operations", "faults", "seconds", "violations", "commit")
NEVER = "not run: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table; one that is not run has a reason instead of numbers."""

    number: int
    title: str
    invariants: str
    seeds: tuple[int, ...] = ()
    operations: int = 0
    faults: Mapping[str, int]
    seconds: float = 0.0
    violations: int = 0
    commit: str = ""
    reason: str = ""

    def __str__(self) -> str:
        head = (str(self.number), self.title, self.invariants)
        if self.reason:
            return _cells(*head, "", "", NEVER + self.reason, "", "", "")
        faults = ", ".join(f"{kind} {times}" for kind, times in sorted(self.faults.items()))
        seeds = " ".join(map(str, self.seeds))
        return _cells(*head, seeds, self.operations, faults, round(self.seconds), self.violations, self.commit)


def _cells(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def read(text: str) -> dict[int, Line]:
    """Read the lines of a table again."""
    found = (line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d+ \|", line))
    cells = ([cell.strip(" |") for cell in one] for one in found)
    return {line.number: line for line in map(_line, cells)}


def _line(cells: list[str]) -> Line:
    number, title, invariants, seeds, *rest = (*cells, "", "", "", "", "")[:9]
    told = next((cell for cell in cells if cell.startswith(NEVER)), "")
    head = Line(number=int(number), title=title, invariants=invariants, faults={}, reason=told.removeprefix(NEVER))
    if told:
        return head
    operations, faults, seconds, violations, commit = rest
    pairs = (one.rpartition(" ") for one in faults.split(", ") if one)
    return replace(
        head,
        seeds=tuple(int(seed) for seed in seeds.split()),
        operations=int(operations),
        faults={kind: int(times) for kind, _, times in pairs},
        seconds=float(seconds),
        violations=int(violations),
        commit=commit,
    )


def line_of(row: Scenario, runs: Sequence[Run], commit: str) -> Line:
    """Sum up how a row went."""
    faults: Counter[str] = Counter()
    for run in runs:
        faults.update(run.faults)
    return Line(
        number=row.number,
        title=row.title,
        invariants=" ".join(row.invariants),
        seeds=tuple(run.schedule.seed for run in runs),
        operations=sum(run.operations for run in runs),
        faults=faults,
        seconds=sum(run.seconds for run in runs),
        violations=sum(len(run.violations) for run in runs),
        commit=commit,
    )


def lines(rows: Sequence[Scenario | NotRun], runs: Sequence[Run], known: Mapping[int, Line], commit: str) -> list[Line]:
    """Return a line for each row: how it went now, how it went when it was last played, or why it was not."""
    made = []
    for row in rows:
        mine = [run for run in runs if run.number == row.number]
        if isinstance(row, NotRun):
            made.append(_silent(row, row.reason))
        elif mine:
            made.append(line_of(row, mine, commit))
        else:
            old = known.get(row.number)
            made.append(old if old is not None and not old.reason else _silent(row, "not yet played"))
    return made


def _silent(row: Scenario | NotRun, reason: str) -> Line:
    invariants = " ".join(row.invariants)
    return Line(number=row.number, title=row.title, invariants=invariants, faults={}, reason=reason)


def block(made: Sequence[Line], facts: Mapping[str, str]) -> str:
    """Render the totals and the table."""
    played, faults = [line for line in made if not line.reason], Counter[str]()
    for line in played:
        faults.update(line.faults)
    seconds = sum(line.seconds for line in played)
    totals = {
        **facts,
        "rows": f"{len(played)} of {len(made)} played, {sum(len(line.seeds) for line in played)} runs",
        "operations": f"{sum(line.operations for line in played):,}",
        "faults": f"{faults.total():,}: " + ", ".join(f"{kind} {times:,}" for kind, times in faults.most_common()),
        "seconds": f"{seconds:,.0f}",
        "violations": f"{sum(line.violations for line in played)}",
    }
    head = [f"- {name}: {fact}" for name, fact in totals.items()]
    return "\n".join([*head, "", _cells(*HEADS), _cells(*("---" for _ in HEADS)), *map(str, made)])


def publish(rows: Sequence[Scenario | NotRun], runs: Sequence[Run], facts: Mapping[str, str]) -> None:
    """Write it into the document."""
    known = read(DOCUMENT.read_text(encoding="utf-8"))
    write(DOCUMENT, NAME, block(lines(rows, runs, known, facts["commit"]), facts))

"""What a run found, as a table: on a terminal, and between two marks of `docs/benchmarks.md`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HEADINGS = ("measure", "by the clock", "server time", "ratio", "gate", "kept")
WIDTHS = (28, 12, 11, 11, 8, 4)
"""Columns of a terminal: 79 together with the gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measure."""

    measure: str
    clock: str = ""
    server: str = ""
    ratio: str = ""
    gate: str = ""
    kept: bool | None = None
    """None: it is only told."""

    def cells(self) -> tuple[str, ...]:
        kept = "" if self.kept is None else "yes" if self.kept else "NO"
        return (self.measure, self.clock, self.server, self.ratio, self.gate, kept)


def plain(lines: Sequence[Line], facts: Mapping[str, str]) -> str:
    """Render for a terminal."""
    rows = [HEADINGS, tuple("-" * width for width in WIDTHS), *(line.cells() for line in lines)]
    table = [" ".join(cell.ljust(width) for cell, width in zip(row, WIDTHS, strict=True)).rstrip() for row in rows]
    return "\n".join([*table, "", *(f"{name}: {fact}" for name, fact in facts.items())])


def markdown(lines: Sequence[Line], facts: Mapping[str, str]) -> str:
    """Render for a document."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(line.cells() for line in lines)]
    table = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*(f"- {name}: {fact}" for name, fact in facts.items()), "", *table])


def write(document: Path, name: str, block: str) -> None:
    """Put a block between its marks; raises ValueError when the document has none for it."""
    text = document.read_text(encoding="utf-8")
    marked = re.compile(rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- measured -->)", re.DOTALL)
    fresh, found = marked.subn(lambda marks: f"{marks[1]}\n{block}\n\n{marks[2]}", text)
    if not found:
        raise ValueError(f"{document} has no marks for {name}")
    document.write_text(fresh, encoding="utf-8")

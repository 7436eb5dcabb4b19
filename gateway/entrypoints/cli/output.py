"""How commands speak: data on stdout as a table, JSON or JSON lines; messages on stderr; exit codes from one list."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from enum import IntEnum, StrEnum
from typing import Any, NoReturn

import typer

from gateway.policy.visible import visible

WIDE = 200
"""Columns of a table that goes into a file or a pipe."""

_GAP = 2
"""Columns between two columns of a table."""

_LEAST = 8
"""Characters that a column of a narrow table has at least, if it has so many."""

_SENTENCE, _LONG_WORD = 16, 28
"""Characters of a line that a column of sentences has at least; more for a long word in it, up to the second."""

_SPANS = ((86_400, "d"), (3600, "h"), (60, "m"))


class Exit(IntEnum):
    """What an exit code means, for every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    AUTH = 4
    UNAVAILABLE = 5
    PARTIAL = 6


class Format(StrEnum):
    """How data is written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


_asked: ContextVar[Format | None] = ContextVar("asked")
"""What this command was asked for; not set where a command has no choice."""


def asked(wanted: Format | None) -> Format | None:
    """Note what a command was asked for: a refusal is data too."""
    _asked.set(wanted)
    return wanted


def show_refusal(problem: Mapping[str, Any]) -> None:
    """Write the API's problem document where the command's data would be written as JSON."""
    try:
        wanted = _asked.get()
    except LookupError:
        return
    if chosen(wanted) is not Format.TABLE:
        show_one(problem, wanted)


def say(message: str) -> None:
    """Tell the person something; never data."""
    print(visible(message), file=sys.stderr, flush=True)  # noqa: T201 - this is the one place that speaks


def stop(code: Exit, message: str, next_step: str = "") -> NoReturn:
    """End the command with a message and, where there is one, the next command to run."""
    say(message)
    if next_step:
        say(f"  next: {next_step}")
    raise typer.Exit(code)


def chosen(wanted: Format | None) -> Format:
    """Return the format: what was asked for, else a table on a terminal and JSON elsewhere."""
    return wanted or (Format.TABLE if sys.stdout.isatty() else Format.JSON)


def show_rows(
    rows: Sequence[Mapping[str, Any]], wanted: Format | None, *, columns: Sequence[str], spare: Sequence[str] = ()
) -> None:
    """Write a list; a table has `columns` only, and in a narrow terminal not those of `spare`, the first one goes first."""
    match chosen(wanted):
        case Format.JSON:
            _write(json.dumps(list(rows), indent=2, ensure_ascii=False))
        case Format.JSONL:
            for row in rows:
                _write(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
        case Format.TABLE:
            _table(rows, columns, spare)


def show_one(fields: Mapping[str, Any], wanted: Format | None, *, table: Mapping[str, Any] | None = None) -> None:
    """Write one thing; `table` is its short form for people."""
    match chosen(wanted):
        case Format.JSON:
            _write(json.dumps(fields, indent=2, ensure_ascii=False))
        case Format.JSONL:
            _write(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))
        case Format.TABLE:
            _pairs(fields if table is None else table)


def cell(value: object) -> str:
    """Render a value for a table."""
    match value:
        case None:
            return "-"
        case str():
            return visible(value)
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return visible(json.dumps(value, ensure_ascii=False))
        case _:
            return str(value)


def span(seconds: float | None) -> str | None:
    """Write a time span shortly: 250ms, 4.2s, 12m, 3h."""
    if seconds is None:
        return None
    for size, unit in _SPANS:
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:.0f}ms"


def _write(text: str) -> None:
    print(visible(text))  # noqa: T201 - this is the one place that writes data


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], spare: Sequence[str]) -> None:
    from rich.table import Table  # noqa: PLC0415 - only when a table is shown
    from rich.text import Text  # noqa: PLC0415

    console = _console()
    cells = {column: [column, *(cell(row.get(column)) for row in rows)] for column in columns}
    left_out = too_many(cells, spare, console.width)
    columns = [column for column in columns if column not in left_out]
    lines = [[cells[column][at] for column in columns] for at in range(1, len(rows) + 1)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(columns, widths(columns, lines, console.width), strict=True):
        # What does not fit goes on below: half an id is worth nothing.
        table.add_column(column.upper(), overflow="fold", width=width)
    for line in lines:
        table.add_row(*(Text(one) for one in line))
    console.print(table)
    if left_out and rows:
        say(f"  no room for {', '.join(left_out)}: -o json has all")


def too_many(cells: Mapping[str, Sequence[str]], spare: Sequence[str], most: int) -> list[str]:
    """Return what of `spare`, in its order, is left out so that the others fit."""
    left_out: list[str] = []
    for column in spare:
        kept = [found for name, found in cells.items() if name not in left_out]
        if sum(map(_least, kept)) + _GAP * (len(kept) - 1) <= most:
            break
        left_out.append(column)
    return left_out


def widths(columns: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> list[int | None]:
    """Keep columns of single words, such as ids, whole while there is room; None: the table shares out what is left."""
    by_column = list(zip(columns, *rows, strict=True))
    whole = [max(map(len, cells)) for cells in by_column]
    words = [
        natural if _single_words(cells) else _longest_word(cells)
        for cells, natural in zip(by_column, whole, strict=True)
    ]
    if sum(whole) + _GAP * (len(columns) - 1) <= most:
        return [None] * len(columns)
    left = most - _GAP * (len(columns) - 1) - sum(min(word, _LEAST) for word in words)
    found: list[int | None] = []
    for natural, word in zip(whole, words, strict=True):
        more = natural - min(word, _LEAST)
        fits = natural == word and more <= left
        left -= more if fits else 0
        found.append(natural if fits else None)
    return found


def _least(found: Sequence[str]) -> int:
    """Return the width below which a column is no good: ids and names whole, sentences some words wide."""
    natural = max(map(len, found))
    return natural if _single_words(found) else min(natural, max(_SENTENCE, min(_longest_word(found), _LONG_WORD)))


def _single_words(found: Sequence[str]) -> bool:
    """Tell whether no cell has a space inside; one before is an indentation."""
    return not any(" " in one.strip() for one in found)


def _longest_word(found: Sequence[str]) -> int:
    return max(len(word) for one in found for word in one.split() or [""])


def _pairs(fields: Mapping[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        table.add_row(Text(visible(name), style="bold"), Text(cell(value)))
    _console().print(table)


def _console() -> Any:
    from rich.console import Console  # noqa: PLC0415

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)

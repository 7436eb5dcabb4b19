"""YAML text to plain trees in which every path knows its line and column.

Built on ruamel's event stream, so that nothing is constructed that we did not choose: no tags, no merge keys, YAML 1.2 scalars, dates
stay text. Size, depth and the number of nodes (aliases expanded) are bounded while reading, not afterwards.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from connectors.manifest.problem import Finding, Path, Problem, Severity, quoted

MAX_BYTES = 1 << 20
"""A manifest is written by people; a megabyte is a mistake or an attack."""
MAX_DEPTH = 64
"""The same depth that intake allows in arguments."""
MAX_NODES = 100_000
"""Nodes of a file after its aliases are expanded."""

_INT = re.compile(r"[-+]?[0-9]{1,40}|0x[0-9a-fA-F]{1,32}|0o[0-7]{1,40}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Position:
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a path is written: its key (for items of a list, the item itself), its value, and the value's text."""

    key: Position
    value: Position
    text: str | None


@dataclass(frozen=True, slots=True)
class Document:
    file: str
    tree: Any
    marks: dict[Path, Mark] = field(repr=False)

    def mark(self, path: Path) -> Mark:
        """Return the mark of a path, or of its nearest parent that was written here."""
        while path not in self.marks:
            path = path[:-1]
        return self.marks[path]

    def position(self, path: Path, *, at_key: bool = False) -> Position:
        mark = self.mark(path)
        return mark.key if at_key else mark.value

    def problem(self, finding: Finding) -> Problem:
        at = self.position(finding.path, at_key=finding.at_key)
        return Problem(
            file=self.file,
            line=at.line,
            column=at.column,
            severity=finding.severity,
            message=finding.message,
            hint=finding.hint,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


class _Unreadable(Exception):  # noqa: N818 - a verdict on the file; it never leaves this module
    """Reading cannot go on behind this position."""

    def __init__(self, at: Position, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.at, self.message, self.hint = at, message, hint


def read(file: str, raw: bytes) -> Reading:
    """Read the documents of one file; what stands before a syntax error is still read."""
    documents: list[Document] = []
    problems: list[Problem] = []
    try:
        text = _decode(raw)
        for document in _documents(file, text, problems):
            documents.append(document)  # noqa: PERF402 - one by one, so that an error keeps those before it
    except _Unreadable as broken:
        problems.append(_error(file, broken.at, broken.message, broken.hint))
    return Reading(tuple(documents), tuple(problems))


def _error(file: str, at: Position, message: str, hint: str | None = None) -> Problem:
    return Problem(file=file, line=at.line, column=at.column, severity=Severity.ERROR, message=message, hint=hint)


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise _Unreadable(Position(1, 1), f"the file is larger than {MAX_BYTES // 1024} KiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as bad:
        before = raw[: bad.start].decode("utf-8", errors="replace")
        raise _Unreadable(_at_offset(before, len(before)), "the file is not UTF-8 from here on") from None


def _at_offset(text: str, offset: int) -> Position:
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _documents(file: str, text: str, problems: list[Problem]) -> Iterator[Document]:
    events = _events(text)
    nodes = 0
    for event in events:
        if isinstance(event, DocumentStartEvent):
            builder = _Builder(events, nodes)
            tree, _ = builder.node(next(events), (), None)
            nodes = builder.nodes
            problems.extend(_error(file, at, message) for at, message in builder.duplicates)
            if tree is not None:
                yield Document(file, tree, builder.marks)


def _events(text: str) -> Iterator[Any]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as bad:
        mark = bad.problem_mark or bad.context_mark
        at = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
        # Never the snippet that the library would print: the line may hold a secret somebody typed in.
        raise _Unreadable(at, f"not valid YAML: {bad.problem or bad.context}", _syntax_hint(text, at)) from None
    except ReaderError as bad:
        at = _at_offset(text, bad.position)
        raise _Unreadable(at, "a control character that YAML does not allow") from None
    except Exception:  # noqa: BLE001 - odd escapes and directives make ruamel raise whatever it met
        raise _Unreadable(Position(1, 1), "not valid YAML") from None


def _syntax_hint(text: str, at: Position) -> str | None:
    lines = text.split("\n")
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    if "${" in line:
        return 'inside {…} a reference needs quotes: "${env:NAME}"'
    return "indent with spaces" if "\t" in line[: at.column] else None


class _Builder:
    """Builds one document. `node` is recursive; the depth bound keeps it far from Python's own."""

    def __init__(self, events: Iterator[Any], nodes: int) -> None:
        self.events = events
        self.nodes = nodes
        self.marks: dict[Path, Mark] = {}
        self.duplicates: list[tuple[Position, str]] = []
        self._anchors: dict[str, tuple[Any, int]] = {}

    def node(self, event: Any, path: Path, key: Position | None) -> tuple[Any, int]:
        """Return the value that starts with this event, and how many nodes it stands for."""
        at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
        self.marks[path] = Mark(key or at, at, event.value if isinstance(event, ScalarEvent) else None)
        self._count(1, at)
        if len(path) > MAX_DEPTH:
            raise _Unreadable(at, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, AliasEvent):
            return self._alias(event, at)
        if event.tag is not None:
            raise _Unreadable(at, f"YAML tags such as {quoted(event.tag)} are not allowed")
        if isinstance(event, ScalarEvent):
            _whole_characters(event.value, at)
        before = self.nodes
        if isinstance(event, MappingStartEvent):
            value: Any = self._mapping(path)
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = _scalar(event)
        size = self.nodes - before + 1
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, size)
        return value, size

    def _count(self, size: int, at: Position) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            raise _Unreadable(at, f"more than {MAX_NODES} values, aliases expanded")

    def _alias(self, event: Any, at: Position) -> tuple[Any, int]:
        if event.anchor not in self._anchors:
            raise _Unreadable(at, f"the alias {quoted('*' + event.anchor)} names no anchor that ends before it")
        value, size = self._anchors[event.anchor]
        self._count(size, at)
        return value, size

    def _mapping(self, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
            if not isinstance(event, ScalarEvent):
                raise _Unreadable(at, "a key must be plain text")
            self._count(1, at)
            _whole_characters(event.value, at)
            key = event.value
            if key in entries:
                first = self.marks[(*path, key)].key
                self.duplicates.append((at, f"duplicate key {quoted(key)}, first written in line {first.line}"))
            entries[key], _ = self.node(next(self.events), (*path, key), at)
        return entries

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            value, _ = self.node(event, (*path, len(items)), None)
            items.append(value)
        return items


def _whole_characters(text: str, at: Position) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        raise _Unreadable(at, "an escape stands for half a character")


def _scalar(event: Any) -> object:
    text: str = event.value
    if not event.implicit[0]:  # quoted or block: text, whatever it looks like
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text

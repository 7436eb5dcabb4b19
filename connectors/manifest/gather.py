"""Files to judged documents: finds them, reads them, and checks each on its own."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.manifest.checks import check_connector
from connectors.manifest.document import MAX_BYTES, Document, read
from connectors.manifest.model import Manifest
from connectors.manifest.problem import Problem, Severity
from connectors.manifest.shape import check_shape

SUFFIXES = frozenset({".yaml", ".yml"})
_AGENT = re.compile(rb"kind[\"']?\s*:\s*[\"']?agent", re.IGNORECASE)
_OPERATOR = re.compile(rb"kind[\"']?\s*:\s*[\"']?operator", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One document; without a manifest its shape is wrong, and that has been said."""

    document: Document
    manifest: Manifest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    files: tuple[str, ...]
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    mentions_agent: frozenset[str]
    """Files that seem to declare an agent, whether or not they can be read to the end."""
    mentions_operator: frozenset[str]


def gather(directories: Sequence[Path]) -> Gathered:
    """Read every manifest below these directories; never raises."""
    files: list[str] = []
    entries: list[Entry] = []
    problems: list[Problem] = []
    agents: set[str] = set()
    operators: set[str] = set()
    for path in _files(directories, problems):
        name = str(path)
        files.append(name)
        raw = _bytes(path, problems)
        if _AGENT.search(raw):
            agents.add(name)
        if _OPERATOR.search(raw):
            operators.add(name)
        reading = read(name, raw)
        problems.extend(reading.problems)
        entries.extend(_judged(document, problems) for document in reading.documents)
    return Gathered(
        files=tuple(files),
        entries=tuple(entries),
        problems=tuple(problems),
        mentions_agent=frozenset(agents),
        mentions_operator=frozenset(operators),
    )


def _judged(document: Document, problems: list[Problem]) -> Entry:
    manifest, findings = check_shape(document)
    if isinstance(document.tree, dict) and document.tree.get("kind") == "Connector":
        findings = [*findings, *check_connector(document.tree)]
    problems.extend(document.problem(finding) for finding in findings)
    return Entry(document, manifest)


def _files(directories: Sequence[Path], problems: list[Problem]) -> Iterator[Path]:
    seen: set[Path] = set()
    for place in directories:
        try:
            found = sorted(place.iterdir()) if place.is_dir() else [place]
        except OSError as error:
            problems.append(_unreadable(place, f"the directory cannot be read: {error.strerror}"))
            continue
        for path in found:
            wanted = path == place or (path.suffix in SUFFIXES and not path.name.startswith("."))
            if not wanted or (path != place and not path.is_file()) or path.resolve() in seen:
                continue
            seen.add(path.resolve())
            yield path


def _bytes(path: Path, problems: list[Problem]) -> bytes:
    try:
        if not path.is_file():
            problems.append(_unreadable(path, "there is no such file or directory"))
            return b""
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        problems.append(_unreadable(path, f"the file cannot be read: {error.strerror}"))
        return b""


def _unreadable(path: Path, message: str) -> Problem:
    return Problem(file=str(path), line=1, column=1, severity=Severity.ERROR, message=message)

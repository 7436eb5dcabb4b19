"""What can be declared but is not built in this version, and what happens instead.

`lint` names every row that a manifest uses: a guard is never silently ignored. Whoever builds one deletes its row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.manifest.problem import Finding, Path, Severity

ANY = "*"


@dataclass(frozen=True, slots=True)
class Unbuilt:
    path: tuple[str, ...]
    """Where the key stands in a connector; `*` is every operation."""
    now: str


UNBUILT: tuple[Unbuilt, ...] = ()


def unbuilt(tree: dict[str, Any]) -> Iterator[Finding]:
    """Name every key of a connector that is declared but not built."""
    for row in UNBUILT:
        for path in _matches(tree, row.path, ()):
            yield Finding(path=path, message=row.now, severity=Severity.WARNING, at_key=True)


def _matches(tree: Any, pattern: tuple[str, ...], path: Path) -> Iterator[Path]:
    if not pattern:
        yield path
        return
    if not isinstance(tree, dict):
        return
    head, rest = pattern[0], pattern[1:]
    for key in tree if head == ANY else [head] * (head in tree):
        yield from _matches(tree[key], rest, (*path, key))

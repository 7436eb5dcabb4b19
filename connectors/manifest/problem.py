"""What a reader of manifests is told: one place in a file, one sentence, and where possible the way out.

Messages never contain the value of a field that may hold a secret.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

SHOWN = 60
"""Characters of a foreign word that are repeated in a message."""


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    file: str
    line: int
    column: int
    severity: Severity
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        warning = "warning: " if self.severity is Severity.WARNING else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {warning}{self.message}{hint}"


Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem that still points into a document; the document knows the line and column.

    `at_key` points at the key of the path instead of its value.
    """

    path: Path
    message: str
    hint: str | None = None
    severity: Severity = Severity.ERROR
    at_key: bool = False


def quoted(word: object) -> str:
    """Return a word safe to print: one line, bounded, in quotes."""
    text = str(word)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """Return `did you mean 'x'?` for the nearest known word."""
    near = nearest(word, known)
    return f"did you mean {quoted(near[0])}?" if near else None


def nearest(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return known words that look like this one, nearest first."""
    by_folded = {name.casefold(): name for name in known}
    return [by_folded[found] for found in get_close_matches(word[:SHOWN].casefold(), by_folded, n=count, cutoff=0.6)]

"""What is said between those who rebuild what is known of letters: the topics, the journal, and what Redis keeps."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from schemas.dead_letter import DeadLetter
from schemas.effect import Effect
from schemas.letter import LetterState, LetterStatus, Over


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What `letter.changed` tells, or the row of a journal."""

    letter: str
    status: LetterStatus
    at: str
    effect: Effect | None = None
    by: str | None = None
    reason: str | None = None
    replay: str | None = None
    replayed_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A letter of the topic."""

    entry: str
    raw: bytes
    record: DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What lies in the topic of events about letters."""

    changes: Mapping[str, Sequence[Change]]
    events: Mapping[str, Sequence[bytes]]
    """The same as it lies there."""
    reaches: Callable[[str], bool]
    """Whether all that was told since an entry of the letters still lies there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoring:
    """One letter to be restored; field names are those of `restore.lua`."""

    letter: str
    entry: str
    over: Over | None
    state: LetterState | None
    call: str | None
    doubted: LetterState | None
    event: str | None


class Topic(Protocol):
    """What Redis has."""

    async def now(self) -> datetime:
        """Return the time of its clock."""

    async def history(self) -> History:
        """Read what was told of letters."""

    def letters(self) -> AsyncIterator[tuple[int, list[Found]]]:
        """Yield entries, oldest first: how many were read, and which of them are letters."""

    async def states(self, letters: Sequence[str]) -> list[LetterState | None]:
        """Return how letters stand that are not over."""

    async def over(self, letters: Sequence[str]) -> list[Over | None]:
        """Return what became of those that are."""

    async def restore(self, items: Sequence[Restoring]) -> list[str]:
        """Write down how letters stand; see `restore.lua`."""


class Journal(Protocol):
    """What the journal has."""

    async def known(self, letters: Sequence[str]) -> Mapping[str, Change]:
        """Return how it has letters."""

    async def write(self, raws: Sequence[bytes]) -> int:
        """Fold letters and their changes into its rows; returns how many are new or changed."""

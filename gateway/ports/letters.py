"""What is asked of letters: which there are, how each stands, and what was decided about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from schemas.dead_letter import DeadLetter
from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.letter import LetterState, LetterStatus

MOST_GROUPS = 100
"""Groups of one answer, the largest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters; what is None does not matter. Times are of the last failure, from `since_us` to before `until_us`."""

    status: LetterStatus | None = None
    error_class: str | None = None
    effect: str | None = None
    fingerprint: str | None = None
    tool: str | None = None
    connector: str | None = None
    connection: str | None = None
    agent: str | None = None
    session: str | None = None
    call: str | None = None
    root: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Became:
    """What became of a letter that is over."""

    status: LetterStatus
    effect: Effect
    by: str | None
    reason: str | None
    replay: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterRow:
    """One letter in a list."""

    letter: str
    status: LetterStatus
    call: str | None
    tool: str | None
    connector: str | None
    connection: str | None
    op_class: OperationClass | None
    agent: str | None
    session: str | None
    error_class: Failure
    message: str
    action: str
    effect: Effect
    fingerprint: str
    first_us: int
    last_us: int
    root: str
    parent: str | None
    generation: int
    decided_by: str | None = None
    reason: str | None = None
    replay: str | None = None

    def standing(self, state: LetterState | None, became: Became | None) -> "LetterRow":
        """Return it as it stands now, as far as that is known."""
        if state is not None:
            return replace(self, status=state.status, effect=state.effect, decided_by=state.by, replay=state.replay)
        if became is None:
            return self
        return replace(
            self,
            status=became.status,
            effect=became.effect,
            decided_by=became.by,
            reason=became.reason,
            replay=became.replay,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterPage:
    """Letters, newest first; with a cursor there may be more. `whole` is false when not all were looked at."""

    rows: list[LetterRow]
    cursor: str | None
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterGroup:
    """Letters with one fingerprint: how many, of what, by effect, since when; `newest` is an example."""

    fingerprint: str
    letters: int
    open: int
    effects: dict[str, int]
    error_class: str
    tool: str | None
    message: str
    first_us: int
    last_us: int
    newest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterChange:
    """What somebody decided about a letter; field names are those of `letter.lua`."""

    letter: str
    status: LetterStatus
    effect: Effect | None
    by: str
    reason: str
    event: str
    scope_ttl_s: int
    answer_ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of a change: None is that it was made, else how the letter stands."""

    stands: str | None = None


class LetterIndex(Protocol):
    """Finds letters and reads them."""

    async def find(self, wanted: LetterFilter, *, cursor: str | None, limit: int) -> LetterPage:
        """Return letters, newest first."""

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return what is alike, the largest groups first."""

    async def record(self, letter: str) -> DeadLetter | None:
        """Return one whole; None: it is not known."""

    async def became(self, letter: str) -> Became | None:
        """Return what became of one that is over; None: that is no longer told."""


class LetterBook(Protocol):
    """How letters stand; decides what must happen once."""

    async def states(self, letters: Sequence[str]) -> list[LetterState | None]:
        """Return how letters stand; None: it is over, or was never one."""

    async def became(self, letters: Sequence[str]) -> list[Became | None]:
        """Return what became of letters that are over; None: it is not, or that is no longer told."""

    async def change(self, changes: Sequence[LetterChange]) -> list[Told]:
        """Write decisions down; only an open letter takes one."""

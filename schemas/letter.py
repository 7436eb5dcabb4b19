"""How a dead letter stands: its status, and what must be known of it while it is not over."""

from enum import StrEnum

import msgspec

from schemas.effect import Effect, OperationClass

CHANGED = "letter.changed"
"""The event that tells of a new status."""


class LetterStatus(StrEnum):
    """What became of a letter; meanings in docs/glossary.md."""

    OPEN = "open"
    REPLAYING = "replaying"
    REPLAYED_OK = "replayed_ok"
    REPLAYED_FAILED = "replayed_failed"
    """Its replay failed and left a letter of its own, which is open now."""
    RESOLVED = "resolved"
    DISCARDED = "discarded"
    CLOSED = "closed"
    """It is over; what became of it is no longer told here."""


FINAL = frozenset(set(LetterStatus) - {LetterStatus.OPEN, LetterStatus.REPLAYING})


class LetterState(msgspec.Struct, frozen=True, kw_only=True):
    """A letter that is not over, as the scripts keep it; it is forgotten when it is."""

    status: LetterStatus
    call: str | None = None  # a script drops what is nil
    """The call that left it; None: it was no call."""
    effect: Effect
    op_class: OperationClass | None = None
    root: str
    """The first letter of a chain of replays."""
    generation: int
    first_us: int
    """When the vendor first may have seen the vendor key; 0: never."""
    fingerprint: str
    kept: list[list[str]]
    """Idempotency scope and call of itself and of the letters before it in its chain: remembered while it is open."""
    count: int = 0
    """How often a replay has begun."""
    entry: str = ""
    """Where it lies in its topic."""
    replay: str | None = None
    by: str | None = None
    """Who decided about its effect, or replays it."""


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a letter that is over, as the scripts keep it: as long as its entry lies in its topic."""

    status: LetterStatus
    effect: Effect
    by: str | None = None
    reason: str | None = None
    replay: str | None = None
    at_us: int
    entry: str
    """Where it lies in its topic."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A letter that is written now."""

    id: str
    state: LetterState


class Taking(msgspec.Struct, frozen=True, kw_only=True):
    """A call takes a letter to replay it: only while the letter is open and its replay is running."""

    letter: str
    replay: str
    by: str
    effect: Effect
    """What is known of the effect before the call begins."""
    first_us: int
    event: str
    """Tells of it."""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of a call does to the letter that it replays."""

    letter: str
    replay: str
    status: LetterStatus
    """Of the letter from now on."""
    state: str
    """Of the call at its end."""
    fingerprint: str | None
    """Of the failure, if it failed."""
    reason: str
    event: str

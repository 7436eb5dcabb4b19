"""A replay: which letters, frozen, what is done with each, and how far it is."""

from enum import StrEnum

import msgspec

from schemas.effect import Effect, OperationClass


class ReplayState(StrEnum):
    """Where a replay is; meanings in docs/glossary.md."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    """It stopped itself: too much failed again."""
    CANCELLED = "cancelled"
    DONE = "done"


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One replay, as the scripts keep it."""

    id: str
    state: ReplayState
    by: str
    created_us: int
    selection: str
    """What was asked for, as JSON."""
    canary: int
    """Letters that go first, and alone."""
    share: float
    """Of the pace of each lane."""
    stop_after: int
    """How often the same failure may come again."""
    forgiven: int = 0
    """Failures that came before somebody let it go on."""
    changed_us: int = 0
    said_by: str = ""
    why: str = ""
    deadline: str | None = None
    patch: str | None = None
    """A sealed JSON Patch, as JSON."""
    override: str | None = None
    """Why letters that were replayed often enough are replayed once more."""


class ReplayItem(msgspec.Struct, frozen=True, kw_only=True):
    """One letter of a replay; never changed."""

    letter: str
    record_sha256: str
    action: str
    reason: str
    next_step: str
    effect: Effect
    op_class: OperationClass | None
    tool: str | None
    lane: str | None
    fingerprint: str
    costs: dict[str, int] | None = None
    """What its call takes of weighted limits."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one letter is."""

    status: str
    """`replaying`, `replayed_ok`, `replayed_failed`, `open` (its call ended before anything was sent) or `skipped`."""
    call: str | None = None
    state: str | None = None
    """Of the call at its end."""
    fingerprint: str | None = None
    letter: str | None = None
    """That the replay left."""
    why: str | None = None

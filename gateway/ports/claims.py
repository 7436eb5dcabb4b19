"""What a worker takes and how it ends; field names are those of the scripts."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from schemas.effect import Effect
from schemas.letter import Moved, Opened
from schemas.lifecycle import CallState
from schemas.review import Review


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of an operation takes of one limit; field names are those of `shared/pacing.lua`."""

    name: str
    per: str
    kind: str
    most: int
    window_us: int
    cost: int
    weighted: bool
    hold_us: int = 0
    """How long a call may be under way of any operation that takes of the same limit; after a loss it is waited for."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What every call of an operation takes, and how long one may be under way."""

    hold_us: int
    safe: bool = msgspec.field(default_factory=bool)
    """Whether a call of it may be the one that finds out if a vendor is well again, before others."""
    needs: list[Need]


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim holds of one limit."""

    key: str
    name: str
    kind: str
    most: int
    window_us: int
    hold_us: int = 0
    """How long a claim may hold it at most."""
    cost: int
    ends_us: int | None = None
    """Where its share of a soft limit ends, and what it paid for each unit of cost: no more than what is left is given back."""
    interval_us: int | None = None


class Lesson(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer taught about a shared limit, or about a gate; it only ever tightens."""

    limit: str
    """Key of the limit or gate."""
    close_us: int | None = None
    """Nobody may use it for so long."""
    left: int | None = None
    """What the vendor says is left."""
    most: int | None = None
    """The vendor's own limit, where it is lower than the declared one."""
    reset_us: int | None = None
    """How long until what is left is reset."""


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """A call that nobody knows the effect of, and that waits in the lane of a read to find out."""

    since_us: int
    """When its request was last under way, by the clock of the queue; 0: now."""
    looks: int = 0
    """How often the vendor was asked."""
    failed: int = 0
    """Of these, how often its answer proved nothing."""
    absent: int = 0
    """How often in a row it had no such thing."""
    lane: str
    """Its own lane, and what it takes there."""
    timeout_us: int
    deadline_us: int
    costs: dict[str, int] | None = None


class Way(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a deferred call waits from now on: in the lane of a read, or in its own again."""

    lane: str
    timeout_us: int
    deadline_us: int
    costs: dict[str, int] | None = None
    doubt: Doubt | None = None
    """None: it goes back to its own lane, and the doubt is over."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The changing part of a call, as the scripts keep it; what `enqueue` does not write is as it is when nothing has happened yet."""

    state: CallState
    lane: str
    scope: str
    fence: int = 0
    seq: int = 1
    attempts: int = 0
    tries: int = 0
    crashes: int = 0
    marked: int = 0
    """The fence under which sending began, 0 when it did not, -1 when the call was only taken to be cancelled."""
    first_us: int = 0
    effect: Effect = Effect.NOT_EXECUTED
    tag: int
    since: int
    timeout_us: int
    deadline_us: int
    history: str = "[]"
    lease_us: int = 0
    costs: dict[str, int] | None = None
    doubtful: bool = False
    """A copy of Redis took over while it waited, and may not know that it was sent."""
    permit: int = 0
    """The fence under which its slots were taken."""
    permits: list[Permit] | None = None
    review: Review | None = None
    doubt: Doubt | None = None

    @property
    def home(self) -> str:
        """Its own lane, wherever it waits."""
        return self.lane if self.doubt is None else self.doubt.lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A call in a worker's hands until its lease ends."""

    id: str
    fence: int
    lease_us: int
    claimed_us: int
    run: Run
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The answer to a claim: work, and when there may be more."""

    now_us: int
    claims: tuple[Claim, ...] = ()
    due_us: int | None = None
    forgot: bool = False
    """Redis holds another state than the one this process knows: nothing is given until that is dealt with."""


Slots = Literal["unused", "answered", "doubt", "lost"]
"""What became of a claim's request, as far as the vendor's own count goes; see `shared/release.lua`."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a claim ends, or until when it is deferred; field names are those of `settle.lua`."""

    id: str
    fence: int
    state: CallState
    seq: int
    events: list[str]
    attempts_json: str
    # Factories, because a plain default of 0 would be left out of what is sent, and the script compares these.
    answer_ttl_s: int = msgspec.field(default_factory=int)
    scope_ttl_s: int = msgspec.field(default_factory=int)
    slots: Slots
    costs: dict[str, int] | None = None
    """Actual costs, by limit, of those whose cost is only known afterwards."""
    lessons: list[Lesson] | None = None
    result: str | None = None
    letter: str | None = None
    opens: Opened | None = None
    moves: Moved | None = None
    due_us: int | None = None
    attempts: int | None = None
    tries: int | None = None
    crashes: int | None = None
    effect: Effect | None = None
    first_us: int | None = None
    way: Way | None = None
    """With a deferral: it goes on in another lane."""
    flow: str | None = None
    """Whose turn a call that was never tried has kept; it gets it back."""
    weight: int | None = None


class Mark(msgspec.Struct, frozen=True):
    """A claim whose sending is about to begin."""

    id: str
    fence: int


Settled = Literal["settled", "stale", "gone"]

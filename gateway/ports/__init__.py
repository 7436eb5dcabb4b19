"""What the use-cases and the lanes say to each other: frozen messages and the small protocols between them.

Times are integers in microseconds of the queue's own clock (Redis `TIME`), named `…_us`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from schemas.effect import Effect
from schemas.letter import Moved, Opened, Taking
from schemas.lifecycle import CallState, HoldReason
from schemas.review import Review


class Admission(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call to put into its lane; field names are those of `enqueue.lua`."""

    id: str
    lane: str
    scope: str
    print: str
    body: str
    event: str
    timeout_us: int
    deadline_us: int
    limit: int
    flow: str
    """Whose turn it is within the lane: one session of one agent."""
    weight: int
    costs: dict[str, int] | None = None
    """What it takes of limits whose cost differs from call to call."""
    entry: str | None = None
    review: Review | None = None
    takes: Taking | None = None


class Admitted(msgspec.Struct, frozen=True, tag="admitted"):
    """The call is in its lane."""

    call: str


class Duplicate(msgspec.Struct, frozen=True, tag="duplicate"):
    """The same call is known already."""

    call: str


class Conflict(msgspec.Struct, frozen=True, tag="conflict"):
    """The key is known with another payload."""

    call: str


class Full(msgspec.Struct, frozen=True, tag="full"):
    """The lane holds as many calls as it may."""

    waiting: int


class Heavy(msgspec.Struct, frozen=True, tag="heavy"):
    """The tenant's calls take as many bytes as they may."""

    waiting_bytes: int


class Flooded(msgspec.Struct, frozen=True, tag="flooded"):
    """The queue's memory is past its high watermark."""

    nothing: int = 0


class Late(msgspec.Struct, frozen=True, tag="late"):
    """At the lane's pace it would start after its deadline."""

    eta_us: int


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """The source entry was dealt with before."""

    entry: str


class Barred(msgspec.Struct, frozen=True, tag="barred"):
    """The letter that the call would replay is not open, or its replay does not run."""

    because: str
    """The letter's status, or `halted`."""


Answer = Admitted | Duplicate | Conflict | Full | Heavy | Flooded | Late | Seen | Barred


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that never reaches a lane; field names are those of `refuse.lua`."""

    entry: str
    counts: list[str]
    events: list[str]
    result: str | None = None
    letter: str | None = None
    opens: Opened | None = None
    id: str | None = None
    answer_ttl_s: int = 0


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


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The changing part of a call, as the scripts keep it."""

    state: CallState
    lane: str
    scope: str
    fence: int
    seq: int
    attempts: int
    tries: int
    crashes: int
    marked: int
    """The fence under which sending began, 0 when it did not, -1 when the call was only taken to be cancelled."""
    first_us: int
    effect: Effect
    tag: int
    since: int
    timeout_us: int
    deadline_us: int
    history: str
    lease_us: int = 0
    costs: dict[str, int] | None = None
    permit: int = 0
    """The fence under which its slots were taken."""
    permits: list[Permit] | None = None
    review: Review | None = None


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
    flow: str | None = None
    """Whose turn a call that was never tried has kept; it gets it back."""
    weight: int | None = None


class Mark(msgspec.Struct, frozen=True):
    """A claim whose sending is about to begin."""

    id: str
    fence: int


Settled = Literal["settled", "stale", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A call that has not ended."""

    now_us: int
    run: Run
    body: bytes
    position: int | None
    due_us: int | None
    eta_us: int | None = None
    held: "Held | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What keeps a lane's next call from starting."""

    reason: HoldReason
    detail: str
    until_us: int | None
    """None: until somebody acts."""
    key: str
    """Of the limit or gate."""
    limit: str | None = None
    most: int = 0
    window_us: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How one limit of a lane stands."""

    key: str
    name: str
    kind: str
    most: int
    window_us: int
    used: int
    learned: int | None
    """The lower limit that the vendor was seen to apply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """How one lane stands."""

    lane: str
    live: int
    waiting: int
    oldest_us: int | None
    """When its head was put there."""
    eta_us: int | None
    """When the last of those that wait will start."""
    held: Held | None
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that has ended: its result event and its attempts, as JSON."""

    event: bytes
    attempts: bytes


Known = Live | Ended | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """Time, chance and identity, handed in so that nothing below the composition root owns a clock or dice."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    """Seconds on a clock that counts suspend."""
    new_id: Callable[[], str]
    """A fresh ULID."""
    new_trace: Callable[[], str]
    """A fresh `traceparent`."""
    uniform: Callable[[float, float], float]
    worker: str
    """Name of this process among its kind."""


class IntakeQueue(Protocol):
    """What intake needs of the lanes."""

    async def enqueue(self, admissions: Sequence[Admission]) -> list[Answer]:
        """Store calls and acknowledge their sources in one step."""

    async def admit(self, admission: Admission) -> Answer:
        """Store one call together with those that arrive at the same time."""

    async def refuse(self, refusals: Sequence[Refusal]) -> list[str]:
        """End events that never reach a lane."""


class DeliveryQueue(Protocol):
    """What delivery needs of the lanes."""

    async def mark(self, mark: Mark) -> bool:
        """Tell whether the claim may begin to send; the mark is durable before this returns true."""

    async def settle(self, settlement: Settlement) -> Settled:
        """End or defer a claim."""

    async def hold(self, gate: str, reason: HoldReason, detail: str) -> None:
        """Close a gate until somebody opens it; does not return before it is closed."""


class StatusQueue(Protocol):
    """What status and cancelling need of the lanes."""

    async def inspect(self, call: str) -> Known:
        """Look at one call."""

    async def seize(self, call: str) -> Claim | Literal["busy", "gone"]:
        """Take one waiting call out of its lane."""

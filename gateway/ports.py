"""What the use-cases and the lanes say to each other: frozen messages and the small protocols between them.

Times are integers in microseconds of the queue's own clock (Redis `TIME`), named `…_us`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from schemas.effect import Effect
from schemas.lifecycle import CallState


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
    entry: str | None = None


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


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """The source entry was dealt with before."""

    entry: str


Answer = Admitted | Duplicate | Conflict | Full | Seen


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that never reaches a lane; field names are those of `refuse.lua`."""

    entry: str
    counts: list[str]
    events: list[str]
    result: str | None = None
    letter: str | None = None
    id: str | None = None
    answer_ttl_s: int = 0


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
    """The answer to a claim: work, or when there will be some."""

    now_us: int
    claims: tuple[Claim, ...] = ()
    due_us: int | None = None


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
    result: str | None = None
    letter: str | None = None
    due_us: int | None = None
    attempts: int | None = None
    tries: int | None = None
    crashes: int | None = None
    effect: Effect | None = None
    first_us: int | None = None


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


class StatusQueue(Protocol):
    """What status and cancelling need of the lanes."""

    async def inspect(self, call: str) -> Known:
        """Look at one call."""

    async def seize(self, call: str) -> Claim | Literal["busy", "gone"]:
        """Take one waiting call out of its lane."""

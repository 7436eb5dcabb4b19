"""What intake asks of the lanes, and what they answer."""

import msgspec

from schemas.letter import Opened, Taking
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
    sent_us: int | None = None
    """It may have been sent since then: the state that knew was lost."""


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


class Journalled(msgspec.Struct, frozen=True, tag="journalled"):
    """A duplicate from the bus of a call that ended, whose answer only the journal has; its entry is not acknowledged."""

    call: str


Answer = Admitted | Duplicate | Conflict | Full | Heavy | Flooded | Late | Seen | Barred | Journalled


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that never reaches a lane; field names are those of `refuse.lua`."""

    entry: str
    counts: list[str]
    events: list[str]
    result: str | None = None
    letter: str | None = None
    opens: Opened | None = None
    id: str | None = None
    attempts_json: str | None = None
    answer_ttl_s: int = 0

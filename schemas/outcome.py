"""What one attempt came to. Made once, by classify; after it nobody looks at an exception."""

from typing import Any

import msgspec

from schemas.contracts.finding import Finding
from schemas.effect import Effect
from schemas.failure import Failure


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the vendor's answer that is kept for a letter; the body is encrypted there."""

    status: int
    headers: dict[str, str]
    """Allow-listed headers only."""
    body: bytes
    truncated: bool


class RateReading(msgspec.Struct, frozen=True, kw_only=True):
    """One budget as the vendor reports it; None is what it does not tell."""

    bucket: str = ""
    """The vendor's name for it, in lower case."""
    limit_name: str | None = None
    """The declared limit it speaks of, where the manifest says so."""
    most: int | None = None
    """Calls, or whatever it counts, per window."""
    left: int | None = None
    reset_s: float | None = None
    """Seconds until it is full again, from 0 to 24 h."""
    window_s: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt's end: a result, or a failure with its effect evidence."""

    effect: Effect
    failure: Failure | None = None
    message: str = ""
    status: int | None = None
    result: Any = None
    reply: Reply | None = None
    retry_after_s: float | None = None
    spends_attempt: bool = True
    """False when the vendor only asked us to wait or nothing of ours was tried."""
    held: bool = False
    """A guard held the call back: nothing was tried, and it looks again after `retry_after_s`."""
    duration_ms: int = 0
    bytes_out: int = 0
    rates: tuple[RateReading, ...] = ()
    """What the answer says about the vendor's budgets."""
    limited: bool = False
    """The vendor said "slow down": whoever shares its limit waits as well."""
    contract: str = "unchecked"
    """`ok`, or the worst finding; `unchecked` says that nobody looked."""
    findings: tuple[Finding, ...] = ()
    """How the answer differs from what its operation promises, worst first."""
    read_back: bool = False
    """The effect is what a read of the vendor's state proved."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a call's history, as it stands in results of `GET /v1/calls/{id}` and in letters."""

    n: int
    started: str
    duration_ms: int
    worker: str
    fence: int
    status: int | None
    outcome: str
    """`completed` or the failure class."""
    effect: Effect
    message: str = ""

"""What one attempt came to. Made once, by classify; after it nobody looks at an exception."""

from typing import Any

import msgspec

from schemas.effect import Effect
from schemas.failure import Failure


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the vendor's answer that is kept for a letter; the body is encrypted there."""

    status: int
    headers: dict[str, str]
    """Allow-listed headers only."""
    body: bytes
    truncated: bool


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
    """False when the vendor only asked us to wait (429) or nothing of ours was tried."""
    duration_ms: int = 0
    bytes_out: int = 0


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

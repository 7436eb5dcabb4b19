"""The `data` of a result event and of every terminal HTTP answer (DESIGN §4, field by field)."""

from typing import Any

import msgspec

from schemas.effect import Effect
from schemas.failure import Failure
from schemas.lifecycle import CallState, HoldReason
from schemas.outcome import Attempt
from schemas.tool_call import Request


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call did not complete, and what to do about it."""

    failure: Failure = msgspec.field(name="class")
    message: str
    effect: Effect
    retryable: bool
    fingerprint: str
    dead_letter: str | None
    action: str
    errors: list[dict[str, str]] = []
    """For argument errors: `pointer` and `message` of each."""


class CallResult(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a call."""

    call: str
    request: Request
    idempotency_key: str
    tool: str
    connection: str | None
    session: str | None
    state: CallState
    result: Any
    http_status: int | None
    effect: Effect
    attempts: int
    queued_ms: int
    duration_ms: int
    contract: str = "unchecked"
    """`ok` or the finding once contracts are checked; `unchecked` says that nobody looked."""
    degraded: bool = False
    cost: str | None = None
    replay_of: str | None = None
    summary: str
    error: ErrorInfo | None
    evidence: str | msgspec.UnsetType = msgspec.UNSET
    """`read_back` where not the vendor's answer to the call told its effect, but a look at what the vendor has."""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call waits, and who must act."""

    reason: HoldReason | None
    detail: str
    position: int | None
    eta_s: float | None
    action: str


class CallStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A call that has not ended."""

    call: str
    state: CallState
    hold: Hold
    attempts: list[Attempt] = []

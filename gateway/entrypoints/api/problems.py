"""Everything this API answers when it says no: `application/problem+json` (RFC 9457), one status per failure, in one table.

Never tells what a secret is, and never more about a call than its caller may see.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType

import msgspec

from dlq.grouping import VERSION, fingerprint, template
from schemas.codec import sha256
from schemas.effect import Effect
from schemas.failure import FACTS, Failure

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_S = 5
"""What a client is told to wait when a lane is full or the gateway is not ready."""

MAX_ECHO = 512
"""Characters of one text in a problem: what the caller sent is not sent back at length."""

_URN = "urn:sluice:problem:"

STATUS: Mapping[Failure, int] = MappingProxyType(
    {
        Failure.DECODE_ENCODING: 400,
        Failure.DECODE_JSON: 400,
        Failure.DECODE_DEPTH: 400,
        Failure.DECODE_ENVELOPE: 400,
        Failure.INGEST_MALFORMED: 400,
        Failure.INGEST_AUTH: 401,
        Failure.INGEST_SCOPE: 403,
        Failure.INGEST_DUPLICATE_CONFLICT: 409,
        Failure.INGEST_OVERSIZE: 413,
        Failure.INGEST_UNKNOWN_TOOL: 422,
        Failure.INGEST_UNKNOWN_CONNECTION: 422,
        Failure.INGEST_ARGUMENTS: 422,
        Failure.APPROVAL_DENIED: 422,
        Failure.ADMISSION_DEADLINE: 422,
        Failure.TOKEN_NEEDS_CONSENT: 422,
        Failure.TOKEN_IN_DOUBT: 422,
        Failure.TOKEN_CONFIG: 422,
        Failure.ADMISSION_QUOTA: 429,
        Failure.ADMISSION_QUEUE_FULL: 429,
        Failure.INTERNAL_BUG: 500,
    }
)
"""Every failure that can refuse a request; one that is missing here is answered 422."""

_TITLES = {
    400: "The request cannot be read",
    401: "A key is needed",
    403: "This key may not do that",
    409: "The idempotency key is taken",
    413: "The request is too large",
    422: "The call cannot be accepted",
    429: "There is no room at the moment",
    500: "The gateway made a mistake",
}


class Kind(Enum):
    """Problems that are not about a call's content: slug, status, title, and whether asking again may help."""

    NOT_FOUND = ("not-found", 404, "There is nothing here", False)
    METHOD = ("method-not-allowed", 405, "This resource does not do that", False)
    BAD_REQUEST = ("bad-request", 400, "The request cannot be read", False)
    STARTED = ("already-started", 409, "The call has started", False)
    ENDED = ("already-ended", 409, "The call has ended", False)
    FORGOTTEN = ("answer-forgotten", 409, "The call has ended and its answer is no longer kept", False)
    DECIDED = ("already-decided", 409, "Somebody decided before, or it changed", False)
    SLOW = ("request-timeout", 408, "The request took too long", True)
    CROWDED = ("too-many-waits", 503, "Too many requests wait already", True)
    NOT_READY = ("not-ready", 503, "The gateway is not ready", True)

    def __init__(self, slug: str, status: int, title: str, retryable: bool) -> None:  # noqa: FBT001 - a row of the table
        self.slug = slug
        self.status = status
        self.title = title
        self.retryable = retryable


_NEXT: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.NOT_FOUND: "See /openapi.json.",
        Kind.METHOD: "See /openapi.json.",
        Kind.BAD_REQUEST: "Correct the request; what it may hold: /openapi.json",
        Kind.STARTED: "Wait for its end.",
        Kind.ENDED: "Nothing to do.",
        Kind.FORGOTTEN: "Use a new key if it is meant to run again.",
        Kind.DECIDED: "Look at it again.",
        Kind.SLOW: "Send it again.",
        Kind.CROWDED: "Come back later.",
        Kind.NOT_READY: "Try again; then: sluice doctor",
    }
)
"""The next step where nothing closer to the matter is known."""


class FieldError(msgspec.Struct, frozen=True):
    """One place in the request and what is wrong there."""

    pointer: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error."""

    type: str
    title: str
    status: int
    detail: str
    failure: Failure | None = msgspec.field(name="class")
    effect: Effect
    """Of this request: `unknown` only when it may have been accepted all the same."""
    retryable: bool
    fingerprint: str
    errors: list[FieldError]
    action: str


class ProblemError(Exception):
    """Carries a problem to the one place that answers with it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refused(failure: Failure, detail: str, *, tool: str = "", errors: Sequence[Mapping[str, str]] = ()) -> Problem:
    """Describe why a request was not accepted."""
    connector, _, operation = tool.partition(".")
    for error in errors:
        detail = detail.replace(error["pointer"], _in_body(error["pointer"]))
    detail = _brief(detail)
    facts, status = FACTS[failure], STATUS.get(failure, 422)
    return Problem(
        type=_URN + failure,
        title=_TITLES[status],
        status=status,
        detail=detail,
        failure=failure,
        effect=Effect.UNKNOWN if failure is Failure.INTERNAL_BUG else Effect.NOT_EXECUTED,
        retryable=facts.retryable,
        fingerprint=fingerprint(connector, operation, failure, None, detail),
        errors=[FieldError(_brief(_in_body(error["pointer"])), _brief(error["message"])) for error in errors],
        action=_action(failure, tool),
    )


def plain(
    kind: Kind,
    detail: str,
    *,
    action: str = "",
    effect: Effect = Effect.NOT_EXECUTED,
    errors: Sequence[FieldError] = (),
) -> Problem:
    """Describe a problem that has no failure class: the wrong address, the wrong moment."""
    detail = _brief(detail)
    return Problem(
        type=_URN + kind.slug,
        title=kind.title,
        status=kind.status,
        detail=detail,
        failure=None,
        effect=effect,
        retryable=kind.retryable,
        fingerprint=f"{VERSION}:{sha256(VERSION, kind.slug, template(detail))[:16]}",
        errors=[FieldError(_brief(error.pointer), _brief(error.message)) for error in errors],
        action=action or _NEXT[kind],
    )


def headers(problem: Problem) -> dict[str, str]:
    """Return the headers that belong to a problem's status."""
    match problem.status:
        case 401:
            return {"WWW-Authenticate": 'Bearer realm="sluice"'}
        case 408:
            return {"Connection": "close"}
        case 429 | 503:
            return {"Retry-After": str(RETRY_AFTER_S)}
        case _:
            return {}


def _action(failure: Failure, tool: str) -> str:
    """Return the next step; where the bus keeps a letter to look at, the caller here still has what it sent."""
    action = FACTS[failure].action
    if failure is Failure.INTERNAL_BUG:
        return "Look into the gateway's log."
    if failure is Failure.INGEST_MALFORMED or "{letter}" in action:
        return "Correct the body and send it again; what it may hold: /openapi.json"
    return action.replace("{tool}", _brief(tool))


def _in_body(pointer: str) -> str:
    """Intake points into the event; over HTTP the body is the event's `data`."""
    return pointer.removeprefix("/data")


def _brief(text: str) -> str:
    return text if len(text) <= MAX_ECHO else text[: MAX_ECHO - 1] + "…"

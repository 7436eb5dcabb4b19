"""What a request says: its body, its key, how long it would wait. Reads strictly and in bounded time."""

import asyncio
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException

from gateway.entrypoints.api.problems import FieldError, Kind, ProblemError, plain, refused
from schemas.codec import Undecodable, decode, pointed
from schemas.failure import Failure
from schemas.tool_call import ToolCallData

T = TypeVar("T", bound=msgspec.Struct)

BODY_WITHIN_S = 10.0
"""Seconds a body may take to arrive; who sends byte by byte would hold a connection for ever."""

MAX_WAIT_S = 60
"""Longest a request may stay open for a call's end."""

MOST_NAME = 64
"""Characters of a field's name that are compared with those there are."""

MAX_KEY = 512
"""Characters of an idempotency key."""

_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_PREFER_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)


async def body(request: Request[Any, Any, Any], max_bytes: int) -> ToolCallData:
    """Return the call a request describes, or raise a problem."""
    return await body_as(request, max_bytes, ToolCallData)


async def body_as(request: Request[Any, Any, Any], max_bytes: int, kind: type[T]) -> T:
    """Return a request's body as a struct, or raise a problem."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            raw = await request.body()
    except TimeoutError:
        message = f"the body did not arrive within {BODY_WITHIN_S:g} s"
        raise ProblemError(plain(Kind.SLOW, message, action="Send it again, all at once.")) from None
    except InternalServerException:  # how the framework says that nobody is there to be answered any more
        raise ProblemError(plain(Kind.BAD_REQUEST, "the connection ended before the body did")) from None
    return read(raw, max_bytes, kind)


def read(raw: bytes, max_bytes: int, kind: type[T]) -> T:
    """Return bytes as a struct, or raise a problem."""
    try:
        value = decode(raw, max_bytes=max_bytes)
        return msgspec.convert(value, kind)
    except Undecodable as verdict:
        raise ProblemError(refused(verdict.failure, verdict.message)) from None
    except msgspec.ValidationError as error:
        pointer, message = pointed(error)
        message = _meant(message, kind) if not pointer else message
        errors = [{"pointer": pointer, "message": message}]
        detail = message if not pointer else str(error)
        raise ProblemError(refused(Failure.INGEST_MALFORMED, detail, errors=errors)) from None


def _meant(message: str, kind: type[msgspec.Struct]) -> str:
    """Add the name that was probably meant, or else all there are."""
    found = _UNKNOWN.search(message)
    if found is None:
        return message
    names = kind.__struct_encode_fields__
    near = get_close_matches(found[1][:MOST_NAME], names, 1)
    return f"{message}; did you mean `{near[0]}`?" if near else f"{message}; there are {', '.join(names)}"


def key(header: str | None, data: ToolCallData) -> str | None:
    """Return the idempotency key of the header, which may not contradict the body's."""
    if header is None:
        return None
    if not 0 < len(header) <= MAX_KEY:
        raise ProblemError(plain(Kind.BAD_REQUEST, f"Idempotency-Key is empty or longer than {MAX_KEY} characters"))
    if data.idempotency_key not in {None, header}:
        message = 'the header Idempotency-Key and "idempotency_key" in the body differ'
        raise ProblemError(plain(Kind.BAD_REQUEST, message, errors=[FieldError("/idempotency_key", message)]))
    return header


def preferred_wait(prefer: list[str]) -> int | None:
    """Return the seconds of `Prefer: wait=N`, at most `MAX_WAIT_S`; None when it is not asked for or not lawful (RFC 7240)."""
    found = _PREFER_WAIT.search(",".join(prefer))
    return min(int(found[1]), MAX_WAIT_S) if found else None


def no_parameters(given: Iterable[str]) -> None:
    """Raise a problem when there is a query parameter; one that is passed over reads as one that was heeded."""
    for name in sorted(given):
        message = f"there is no parameter {name[:MOST_NAME]!r} here"
        if name == "wait":
            message = f"there is no parameter 'wait' here; send the header Prefer: wait=N, 0 to {MAX_WAIT_S} seconds"
        raise ProblemError(plain(Kind.BAD_REQUEST, message, errors=[FieldError(f"?{name}", message)]))


def query_wait(text: str | None) -> int:
    """Return the seconds of `?wait=N`, or raise a problem."""
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= MAX_WAIT_S):
        message = f"wait is a whole number of seconds, 0 to {MAX_WAIT_S}"
        raise ProblemError(plain(Kind.BAD_REQUEST, message, errors=[FieldError("?wait", message)]))
    return int(text)

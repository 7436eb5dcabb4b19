"""Calls as the journal has them: a list by filters, the events of one call as a stream or as they are so far.

An Agent sees its own calls only, and whoever else's are as unknown as those that never were.
"""

import math
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.response import Stream

from gateway.entrypoints.api import auth, described
from gateway.entrypoints.api.parts import ApiParts, parts_of
from gateway.entrypoints.api.problems import FieldError, Kind, Problem, ProblemError, plain
from gateway.journal.calls import CallFilter, Page
from gateway.journal.database import Missing
from gateway.journal.follow import Crowded
from gateway.policy.spans import seconds
from schemas.codec import encode
from schemas.failure import Failure
from schemas.lifecycle import CallState
from schemas.moment import microseconds, moment, stamp
from schemas.moment import read as read_moment

MOST, USUAL = 500, 50
"""Calls of one page, and where nothing is said."""

KEEP_ALIVE = 30
"""Looks without an event after which a comment is sent, so that nothing between us and the client gives up: every 15 s."""

FILTERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "session": ("string", "Only this session."),
        "agent": ("string", "Only this agent; an Agent sees its own calls whatever stands here."),
        "tool": ("string", "Only this tool."),
        "connector": ("string", "Only this connector."),
        "state": ("string", "Only this state."),
        "error": ("string", "Only this class of failure."),
        "trace": ("string", "Only this trace id: 32 hex digits."),
        "fingerprint": ("string", "Only failures that are alike: a fingerprint."),
        "since": ("string", "Accepted at or after: RFC 3339, or a span back from now such as 30m."),
        "until": ("string", "Accepted before: RFC 3339, or a span back from now."),
        "confidence_from": ("number", "Confidence of at least this."),
        "confidence_below": ("number", "Confidence below this."),
        "text": ("string", "Words, all of which stand in ids, names or messages, each from its beginning."),
        "limit": ("integer", f"Calls of a page, 1 to {MOST}; {USUAL} where nothing is said."),
        "cursor": ("string", "The `cursor` of the page before."),
    }
)
_COLUMNS = {"error": "error_class", "trace": "trace_id"}
_PLAIN = ("session", "agent", "tool", "connector", "fingerprint", "text")
_TRACE = re.compile(r"[0-9a-f]{32}")
_CURSOR = re.compile(r"[0-9A-Za-z]{1,64}")
_LAST = re.compile(r"[0-9A-Za-z]{1,64}\.(\d{1,9})")
_LONGEST = 1024

Http = Request[Any, Any, Any]


class CallLine(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a list."""

    call: str
    tool: str | None
    connector: str | None
    connection: str | None
    agent: str | None
    session: str | None
    idempotency_key: str | None
    state: str
    effect: str | None
    error: str | None
    message: str | None
    fingerprint: str | None
    dead_letter: str | None
    confidence: float | None
    trace_id: str | None
    accepted: str | None
    ended: str | None
    deadline: str | None
    attempts: int | None
    http_status: int | None
    queued_ms: int | None
    duration_ms: int | None
    contract: str | None
    replay_of: str | None
    root: str | None
    summary: str | None


class CallsView(msgspec.Struct, frozen=True, kw_only=True):
    """One page of calls, newest first."""

    calls: list[CallLine]
    cursor: str | None


class EventsView(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a call so far."""

    call: str
    events: list[dict[str, Any]]


@get("/v1/calls", operation_id="listCalls", summary="Calls by filter, newest first", responses=described.LISTED)
async def ls(request: Http) -> CallsView:
    """List calls as the journal has them, which follows within about a second."""
    parts, caller, query = parts_of(request), auth.caller_of(request), request.query_params
    unknown = sorted(set(query) - set(FILTERS))
    if unknown:
        raise ProblemError(_wrong(unknown[0], f"there is no filter {unknown[0][:64]!r}; there is {', '.join(FILTERS)}"))
    wanted = wanted_of(query, microseconds(parts.ambient.now()))
    if not caller.sees_all:
        if wanted.agent not in {None, caller.agent}:
            return CallsView(calls=[], cursor=None)
        wanted = replace(wanted, agent=caller.agent)
    page = await parts.history.page(wanted, cursor=_cursor(query.get("cursor")), most=_limit(query.get("limit")))
    return view(page)


@get(
    "/v1/calls/{call_id:str}/events",
    operation_id="followCall",
    summary="The events of a call, as they come",
    responses=described.FOLLOWED,
)
async def events(request: Http, call_id: FromPath[str]) -> Response[Any]:
    """Stream the events of a call until it has ended (`text/event-stream`), or list them so far (`Accept: application/json`)."""
    parts = parts_of(request)
    await _must_see(request, call_id)
    if "application/json" in request.headers.get("accept", ""):
        return Response(EventsView(call=call_id, events=await parts.following.told(call_id)))
    last = _LAST.fullmatch(request.headers.get("last-event-id", ""))
    following = parts.following.events(call_id, after=int(last[1]) if last else 0)
    try:
        first = await anext(following, None)
    except Crowded as error:
        raise ProblemError(plain(Kind.CROWDED, str(error), action="Look at the call instead, or come back.")) from None
    return Stream(
        _lines(first, following),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


ROUTES = [ls, events]


async def _lines(first: dict[str, Any] | None, following: AsyncIterator[dict[str, Any] | None]) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    if first is not None:
        yield _line(first)
    quiet = 0
    async for event in following:
        quiet = quiet + 1 if event is None else 0
        if event is not None:
            yield _line(event)
        elif quiet % KEEP_ALIVE == 0:
            yield b": nothing new\n\n"


def _line(event: dict[str, Any]) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event["id"].encode(), event["type"].encode(), encode(event))


async def _must_see(request: Http, call: str) -> None:
    """Raise unless the call is known, to Redis or to the journal, and is the caller's."""
    parts, caller = parts_of(request), auth.caller_of(request)
    view, agent = await parts.status.look(call)
    if view is None:
        agent, found = await _journalled(parts, call)
    else:
        found = True
    if not found or not caller.sees(agent):
        raise ProblemError(
            plain(Kind.NOT_FOUND, f"no call {call[:64]!r} is known here", action="List the calls: sluice calls ls")
        )


async def _journalled(parts: ApiParts, call: str) -> tuple[str | None, bool]:
    try:
        row = await parts.history.one(call)
    except Missing:
        row = None
    return (None, False) if row is None else (row["agent"], True)


def view(page: Page) -> CallsView:
    """Return a page as it is shown."""
    return CallsView(calls=[_shown(row) for row in page.rows], cursor=page.cursor)


def _shown(row: Mapping[str, Any]) -> CallLine:
    renamed: dict[str, Any] = {"error": row["error_class"], "idempotency_key": row["key"]}
    moments: dict[str, Any] = {
        name: None if row[f"{name}_us"] is None else stamp(moment(row[f"{name}_us"]))
        for name in ("accepted", "ended", "deadline")
    }
    rest: dict[str, Any] = {
        name: row[name] for name in CallLine.__struct_fields__ if name not in renamed and name not in moments
    }
    return CallLine(**rest, **renamed, **moments)


def wanted_of(query: Mapping[str, str], now_us: int) -> CallFilter:
    """Return the filter that a query describes, or raise a problem that says which part of it is wrong."""
    for name in FILTERS:
        if len(query.get(name, "")) > _LONGEST or "\x00" in query.get(name, ""):
            raise ProblemError(_wrong(name, f"{name} is longer than {_LONGEST} characters, or holds what no name does"))
    given = {name: query[name] for name in _PLAIN if query.get(name)}
    return CallFilter(
        **given,
        state=_one_of("state", query.get("state"), CallState),
        error_class=_one_of("error", query.get("error"), Failure),
        trace_id=_trace(query.get("trace")),
        since_us=_when("since", query.get("since"), now_us),
        until_us=_when("until", query.get("until"), now_us),
        confidence_from=_share("confidence_from", query.get("confidence_from")),
        confidence_below=_share("confidence_below", query.get("confidence_below")),
    )


def _one_of(name: str, value: str | None, known: type[CallState] | type[Failure]) -> str | None:
    if not value:
        return None
    try:
        return known(value)
    except ValueError:
        raise ProblemError(_wrong(name, f"{name} is one of {', '.join(known)}")) from None


def _trace(value: str | None) -> str | None:
    if not value:
        return None
    # A whole `traceparent` is what people have at hand.
    parts = value.lower().split("-")
    found = parts[1] if len(parts) == 4 else parts[0]
    if _TRACE.fullmatch(found) is None:
        raise ProblemError(_wrong("trace", "trace is 32 hex digits, or a traceparent"))
    return found


def _when(name: str, value: str | None, now_us: int) -> int | None:
    if not value:
        return None
    span_s = seconds(value)
    if span_s is not None:
        return max(0, now_us - int(span_s * 1_000_000))
    try:
        return max(0, microseconds(read_moment(value)))
    except ValueError:
        message = f"{name} is a time with a zone such as 2026-11-20T09:00:00Z, or a span such as 30m, 12h, 7d"
        raise ProblemError(_wrong(name, message)) from None


def _share(name: str, value: str | None) -> float | None:
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ProblemError(_wrong(name, f"{name} is a number from 0 to 1"))
    return number


def _limit(value: str | None) -> int:
    if not value:
        return USUAL
    if not (value.isascii() and value.isdigit() and len(value) < 5 and 1 <= int(value) <= MOST):
        raise ProblemError(_wrong("limit", f"limit is a whole number from 1 to {MOST}"))
    return int(value)


def _cursor(value: str | None) -> str | None:
    if value and _CURSOR.fullmatch(value) is None:
        raise ProblemError(_wrong("cursor", "cursor is what the page before answered"))
    return value or None


def _wrong(name: str, message: str) -> Problem:
    return plain(Kind.BAD_REQUEST, message, errors=[FieldError(f"?{name[:64]}", message)])

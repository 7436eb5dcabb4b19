"""Lanes over HTTP: list them, look at one, pause and resume. Asks lane control, and renders what it says.

Who sees everything sees every lane whole. An Agent sees the lanes of the tools it may call: what binds it and for how long, but no
count of calls, since those are also other agents'. Only an Operator pauses: a pause stops everybody's calls.
"""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath

from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import FieldError, Kind, Problem, ProblemError, plain
from gateway.entrypoints.api.telling import told
from gateway.flow.lane_control import Page, Target, Wanted, target_of
from gateway.flow.lane_view import GateView, LaneView, gate, view
from gateway.ports import Load
from schemas.moment import moment, stamp

MOST_CURSOR = 2**64 - 1

_FLAGS = {"true": True, "false": False}

Http = Request[Any, Any, Any]

LOOK = "sluice connectors ls (or /v1/connectors)"
"""Shows what there is to somebody who named what there is not."""


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """How full the queue is, all lanes together."""

    calls: int
    bytes: int
    bytes_limit: int
    memory_bytes: int
    memory_high_bytes: int | None
    """The mark above which nothing new is taken; null: Redis has no bound of its own, and none is set."""
    flooded: bool


class LanesView(msgspec.Struct, frozen=True, kw_only=True):
    """One page of lanes; the queue as a whole is not for Agents."""

    lanes: list[LaneView]
    cursor: str | None
    closed: list[GateView]
    """Pauses, open breakers and other gates, also over lanes without calls; with `held=false` none."""
    queue: QueueView | None


class ResumeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lanes: either `connector` or `tool`; all connections unless one is named."""

    connector: str | None = None
    tool: str | None = None
    connection: str | None = None

    def target(self) -> Target:
        """Return it as lane control knows it."""
        return target_of(self.connector, self.tool, self.connection)


class PauseBody(ResumeBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lanes, why, and for how long; without `for` until they are resumed."""

    reason: str
    lasting: str | None = msgspec.field(name="for", default=None)


class PausedView(msgspec.Struct, frozen=True, kw_only=True):
    """A pause as it stands now."""

    target: str
    reason: str
    by: str
    until: str | None


class ResumedView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a pause; `opened` is what a vendor had closed, `still` what keeps lanes of the target waiting all the same."""

    target: str
    was_paused: bool
    opened: list[str]
    still: list[str]


@get("/v1/lanes", operation_id="listLanes", summary="The lanes and why they wait", responses=described.LANES)
async def ls(request: Http) -> LanesView:
    """List lanes with live calls, most waiting ones of a page first; `?connector=`, `?held=true|false`, `?cursor=`."""
    parts, caller, query = parts_of(request), auth.caller_of(request), request.query_params
    held, cursor = _flag(query.get("held")), _cursor(query.get("cursor"))
    wanted = Wanted(sees=auth.tools_seen(request), connector=query.get("connector"), held=held)
    page = await parts.lanes.page(wanted, cursor)
    shown = _shown(page, caller)
    if not caller.sees_all:
        shown.sort(key=lambda lane: lane.lane)  # the order by calls would tell of their number
    return LanesView(
        lanes=shown,
        cursor=str(page.cursor) if page.cursor else None,
        closed=[] if held is False else [gate(one) for one in await parts.lanes.gates(wanted)],
        queue=_queue(await parts.lanes.load(), parts.queue_bytes) if caller.sees_all else None,
    )


@get("/v1/lanes/{lane:str}", operation_id="showLane", summary="Look at one lane", responses=described.LANE)
async def show(request: Http, lane: FromPath[str]) -> LaneView:
    """Look at a lane by its own name, or by its tool's with `?connection=`."""
    with told(LOOK):
        page = await parts_of(request).lanes.show(
            lane, request.query_params.get("connection"), auth.tools_seen(request)
        )
    return _shown(page, auth.caller_of(request))[0]


@post(
    "/v1/lanes/pause",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="pauseLanes",
    summary="Let no call of a connector or tool start",
    responses=described.STEERED,
)
async def pause(request: Http) -> PausedView:
    """Pause lanes, with a reason that everybody who waits is told; calls that are under way go on."""
    parts = parts_of(request)
    body = await reading.body_as(request, parts.max_body_bytes, PauseBody)
    with told(LOOK):
        target = body.target()
        by = auth.caller_of(request).agent
        paused = await parts.lanes.pause(target, reason=body.reason, lasting=body.lasting, by=by)
    until = None if paused.until_us is None else stamp(moment(paused.until_us))
    return PausedView(target=paused.target, reason=paused.reason, by=paused.by, until=until)


@post(
    "/v1/lanes/resume",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="resumeLanes",
    summary="End a pause",
    responses=described.STEERED,
)
async def resume(request: Http) -> ResumedView:
    """Resume what was paused under the same target; what was not paused is answered the same way."""
    parts = parts_of(request)
    body = await reading.body_as(request, parts.max_body_bytes, ResumeBody)
    with told(LOOK):
        resumed = await parts.lanes.resume(body.target(), by=auth.caller_of(request).agent)
    return ResumedView(target=resumed.target, was_paused=resumed.was_paused, opened=resumed.opened, still=resumed.still)


def _shown(page: Page, caller: auth.Caller) -> list[LaneView]:
    return [view(state, page.now_us, whole=caller.sees_all) for state in page.lanes]


def _queue(load: Load, most_bytes: int) -> QueueView:
    return QueueView(
        calls=load.calls,
        bytes=load.call_bytes,
        bytes_limit=most_bytes,
        memory_bytes=load.memory_bytes,
        memory_high_bytes=load.memory_high_bytes or None,
        flooded=load.flooded,
    )


def _flag(text: str | None) -> bool | None:
    if text is None or text in _FLAGS:
        return None if text is None else _FLAGS[text]
    raise ProblemError(_not_lawful("held", "held is true or false"))


def _cursor(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= MOST_CURSOR):
        raise ProblemError(_not_lawful("cursor", "cursor is what the page before answered"))
    return int(text)


def _not_lawful(name: str, message: str) -> Problem:
    return plain(Kind.BAD_REQUEST, message, errors=[FieldError(f"?{name}", message)])

"""Breakers over HTTP: how each stands, and an operator's word. An Agent sees those of the connectors it may call, without counts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from litestar import Request, get, post

from connectors.breaking.standing import Mode, State, Word
from connectors.breaking.store import StoreAwayError
from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import Kind, ProblemError, plain
from gateway.entrypoints.api.telling import told
from gateway.flow.breaker_control import BreakerControl, BreakerState
from gateway.flow.lane_target import target_of
from schemas.moment import moment, stamp

Http = Request[Any, Any, Any]


class BreakerView(msgspec.Struct, frozen=True, kw_only=True):
    """One breaker as it stands."""

    connector: str
    origin: str
    state: State
    mode: Mode
    """`auto`, or what an operator keeps it."""
    since: str | None
    until: str | None
    """Open: when it is probed; kept by an operator: when that ends. Null: until somebody acts, or nothing to wait for."""
    reason: str
    owner: str | None
    at_once: int | None
    """How many calls are let through at once; null: as many as limits allow."""
    opens: int
    generation: int
    calls: int | None
    """In the window, over all processes; counts are null for an Agent."""
    failures: int | None
    slow: int | None
    gates: list[str]


class BreakersView(msgspec.Struct, frozen=True, kw_only=True):
    """Open ones first."""

    breakers: list[BreakerView]


class AutoBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which breakers: those of a connector, or that of one connection's origin; and why."""

    connector: str
    connection: str | None = None
    reason: str


class KeepBody(AutoBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As for `auto`, and for how long; without `for` until it is let go."""

    lasting: str | None = msgspec.field(name="for", default=None)


@get("/v1/breakers", operation_id="listBreakers", summary="The breakers and how they stand", responses=described.LANES)
async def ls(request: Http) -> BreakersView:
    """List breakers, open ones first; `?connector=`."""
    caller = auth.caller_of(request)
    with _told():
        states = await _control(request).ls(auth.tools_seen(request), request.query_params.get("connector"))
    return BreakersView(breakers=view(states, whole=caller.sees_all))


@post(
    "/v1/breakers/open",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="openBreakers",
    summary="Let no call reach an origin",
    responses=described.STEERED,
)
async def keep_open(request: Http) -> BreakersView:
    """Keep breakers open: calls wait, and spend no attempt."""
    body = await reading.body_as(request, parts_of(request).max_body_bytes, KeepBody)
    return await _steer(request, Mode.OPEN, body, body.lasting)


@post(
    "/v1/breakers/close",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="closeBreakers",
    summary="Let calls reach an origin whatever comes back",
    responses=described.STEERED,
)
async def keep_closed(request: Http) -> BreakersView:
    """Keep breakers closed: failures are counted and do not open them."""
    body = await reading.body_as(request, parts_of(request).max_body_bytes, KeepBody)
    return await _steer(request, Mode.CLOSED, body, body.lasting)


@post(
    "/v1/breakers/auto",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="autoBreakers",
    summary="Let breakers decide by themselves again",
    responses=described.STEERED,
)
async def auto(request: Http) -> BreakersView:
    """End an operator's word; what was kept open is probed before it closes."""
    body = await reading.body_as(request, parts_of(request).max_body_bytes, AutoBody)
    return await _steer(request, Mode.AUTO, body, None)


async def _steer(request: Http, mode: Mode, body: AutoBody, lasting: str | None) -> BreakersView:
    with _told():
        target = target_of(body.connector, None, body.connection)
        word = Word(mode=mode, owner=auth.caller_of(request).agent, reason=body.reason)
        states = await _control(request).steer(target, word, lasting)
    return BreakersView(breakers=view(states, whole=False))


def view(states: Sequence[BreakerState], *, whole: bool) -> list[BreakerView]:
    """Show breakers; `whole` to those who may see every agent's calls."""
    return [_view(state, whole=whole) for state in states]


def _view(one: BreakerState, *, whole: bool) -> BreakerView:
    standing, kept = one.standing, one.mode is not Mode.AUTO
    at = standing.mode_until if kept else standing.until if one.state is State.OPEN else None
    at_once = {State.OPEN: 0, State.HALF_OPEN: 1, State.CLOSED: standing.ramp or None}[one.state]
    return BreakerView(
        connector=one.connector,
        origin=one.key.partition("|")[2],
        state=one.state,
        mode=one.mode,
        since=_stamp(standing.since) if standing.since else None,
        until=None if at is None else _stamp(at),
        reason=standing.reason,
        owner=standing.owner or None,
        at_once=at_once,
        opens=standing.opens,
        generation=standing.generation,
        calls=one.counts.calls if whole else None,
        failures=one.counts.failures if whole else None,
        slow=one.counts.slow if whole else None,
        gates=list(one.gates),
    )


def _stamp(at: float) -> str:
    return stamp(moment(int(at * 1_000_000)))


def _control(request: Http) -> BreakerControl:
    return parts_of(request).breakers


@contextmanager
def _told() -> Iterator[None]:
    """Answer what breaker control will not do as a problem."""
    try:
        with told("sluice connectors ls (or /v1/connectors)"):
            yield
    except StoreAwayError:
        detail = "the queue (Redis) does not answer"
        raise ProblemError(plain(Kind.NOT_READY, detail, action="Try again; then: sluice doctor")) from None

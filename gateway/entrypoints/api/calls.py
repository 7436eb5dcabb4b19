"""Calls over HTTP: publish one, look at one, withdraw one. Asks intake or status, and renders what they say."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import ApiParts, parts_of
from gateway.entrypoints.api.problems import Kind, Problem, ProblemError, plain, refused
from gateway.entrypoints.api.readiness import Gate
from gateway.flow.status import Crowded, Finale, View
from gateway.lanes.checkup import UNANSWERED
from gateway.policy.admission import Refuse
from gateway.ports import Duplicate
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.lifecycle import CallState
from schemas.result import CallStatus, Hold

ADMIT_WITHIN_S = 5.0
"""How long storing a call may take; beyond it the answer is 503 and the call may or may not be stored."""

Http = Request[Any, Any, Any]


@post(
    "/v1/calls",
    guards=[auth.may_change],
    status_code=200,
    operation_id="publishCall",
    summary="Publish a tool call",
    responses=described.PUBLISHED,
)
async def publish(request: Http) -> Response[Any]:
    """Take in one call; 200 with its result if it ends within `Prefer: wait=N`, else 202 and its location."""
    parts, caller = parts_of(request), auth.caller_of(request)
    reading.no_parameters(request.query_params)
    data = await reading.body(request, parts.max_body_bytes)
    key = reading.key(request.headers.get("idempotency-key"), data)
    preferred = reading.preferred_wait(request.headers.getall("prefer", []))
    await _gate(request).pass_or_raise(data.tool)
    try:
        async with asyncio.timeout(ADMIT_WITHIN_S):
            answer = await parts.intake.from_http(
                data, agent=caller.agent, key=key, traceparent=request.headers.get("traceparent")
            )
    except TimeoutError:
        raise ProblemError(_in_doubt(known_by_key=bool(key or data.idempotency_key))) from None
    if isinstance(answer, Refuse):
        raise ProblemError(_refusal(answer, data.tool, caller))
    if isinstance(answer, Duplicate):
        await _must_be_shown(request, answer.call, data.tool)
    view, waited = await _view_of_accepted(parts, answer.call, preferred or 0)
    if view is None and isinstance(answer, Duplicate):
        raise ProblemError(_forgotten())
    applied = {} if preferred is None or not waited else {"Preference-Applied": f"wait={preferred}"}
    return _shown(answer.call, view or _just_accepted(answer.call), applied, attempts=False)


@get(
    "/v1/calls/{call_id:str}",
    operation_id="showCall",
    summary="Look at a call, or wait for its end",
    responses=described.SHOWN,
)
async def show(request: Http, call_id: FromPath[str]) -> Response[Any]:
    """Show a call with its attempts; `?wait=N` waits up to N seconds for its end."""
    wait_s = reading.query_wait(request.query_params.get("wait"))
    return _shown(call_id, await _own(request, call_id, wait_s), {}, attempts=True)


@delete(
    "/v1/calls/{call_id:str}",
    guards=[auth.may_change],
    status_code=200,
    operation_id="cancelCall",
    summary="Withdraw a call that has not started",
    responses=described.CANCELLED,
)
async def cancel(request: Http, call_id: FromPath[str]) -> Response[Any]:
    """Withdraw a call; one that was cancelled before is answered the same way again."""
    parts = parts_of(request)
    view = await _own(request, call_id, 0)
    if isinstance(view, CallStatus) and await parts.status.cancel(call_id) != "busy":
        # It may have ended in between, or had an effect before and so not end as cancelled: what it became is told.
        view = await _own(request, call_id, 0)
    if isinstance(view, CallStatus):
        message = f"call {call_id} is with a worker now and may have reached the vendor"
        raise ProblemError(plain(Kind.STARTED, message, action="Wait for its end, or try again if it is retried."))
    if view.data["state"] != CallState.CANCELLED:
        raise ProblemError(_ended(call_id, view.data["state"]))
    return _shown(call_id, view, {}, attempts=False)


def _ended(call: str, state: str) -> Problem:
    return plain(Kind.ENDED, f"call {call} has ended: {state}", action=f"Look at it: sluice calls show {call}")


def _refusal(answer: Refuse, tool: str, caller: auth.Caller) -> Problem:
    if answer.failure is Failure.INGEST_DUPLICATE_CONFLICT and not caller.sees_all:
        return _taken(tool)
    return refused(answer.failure, answer.message, tool=tool, errors=answer.errors)


def _taken(tool: str) -> Problem:
    """Refuse a key without a word about the call it belongs to: that may be somebody else's."""
    problem = refused(Failure.INGEST_DUPLICATE_CONFLICT, "this idempotency key is taken by another call", tool=tool)
    return msgspec.structs.replace(problem, action="Use another idempotency key.")


def _forgotten() -> Problem:
    message = "this idempotency key belongs to a call that has ended, and its answer is no longer kept"
    return plain(Kind.FORGOTTEN, message, action="Publish it under a new key if it is meant to run again.")


async def _must_be_shown(request: Http, call: str, tool: str) -> None:
    """Raise unless the call that a key led to is the caller's; which call it is must not be told to anybody else."""
    parts, caller = parts_of(request), auth.caller_of(request)
    if caller.sees_all:
        return
    try:
        view, agent = await parts.status.look(call)
    except UNANSWERED:
        raise ProblemError(_in_doubt(known_by_key=True)) from None
    if view is None:
        raise ProblemError(_forgotten())
    if not caller.sees(agent):
        raise ProblemError(_taken(tool))


def _in_doubt(*, known_by_key: bool) -> Problem:
    action = (
        "Repeat it with the same idempotency key."
        if known_by_key
        else "It had no idempotency key: repeating may run it twice."
    )
    problem = plain(
        Kind.NOT_READY,
        f"the queue did not answer within {ADMIT_WITHIN_S:g} s; the call may have been stored all the same",
        action=action,
        effect=Effect.UNKNOWN,
    )
    return msgspec.structs.replace(problem, retryable=known_by_key)


async def _view_of_accepted(parts: ApiParts, call: str, wait_s: float) -> tuple[View, bool]:
    """Return the call's view, and whether its end was waited for: that is a wish, and the call is stored without it too."""
    try:
        try:
            return (await parts.status.wait(call, wait_s))[0], True
        except Crowded:
            return (await parts.status.look(call))[0], False
    except UNANSWERED:
        # It is stored; that it cannot be looked at right now must not read as a refusal.
        return _just_accepted(call), True


def _just_accepted(call: str) -> CallStatus:
    hold = Hold(reason=None, detail="It was stored.", position=None, eta_s=None, action="Look again at its location.")
    return CallStatus(call=call, state=CallState.PENDING, hold=hold)


async def _own(request: Http, call: str, wait_s: float) -> Finale | CallStatus:
    """Return the caller's call; somebody else's is as unknown as one that never was, and is not waited for."""
    status, caller = parts_of(request).status, auth.caller_of(request)
    view, agent = await status.look(call)
    if view is not None and caller.sees(agent) and wait_s:
        try:
            view, agent = await status.wait(call, wait_s)
        except Crowded as error:
            raise ProblemError(plain(Kind.CROWDED, str(error), action="Look without waiting, or come back.")) from None
    if view is None or not caller.sees(agent):
        message = f"no call {call[:64]!r} is known here, or its answer is no longer kept"
        raise ProblemError(plain(Kind.NOT_FOUND, message, action="List the calls: sluice calls ls"))
    return view


def _shown(call: str, view: Finale | CallStatus, more: Mapping[str, str], *, attempts: bool) -> Response[Any]:
    if isinstance(view, Finale):
        body = {**view.data, "attempts": view.attempts} if attempts else view.data
        return Response(body, status_code=200, headers=dict(more))
    body = msgspec.to_builtins(view)
    if not attempts:
        del body["attempts"]
    return Response(body, status_code=202, headers={**more, "Location": f"/v1/calls/{call}"})


def _gate(request: Http) -> Gate:
    gate: Gate = request.app.state.gate
    return gate

"""Calls over HTTP: publish one, look at one, withdraw one. Reads strictly, asks intake or status, and renders what they say."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from gateway.entrypoints.api import auth, described
from gateway.entrypoints.api.parts import ApiParts, parts_of
from gateway.entrypoints.api.problems import FieldError, Kind, Problem, ProblemError, plain, refused
from gateway.entrypoints.api.readiness import Gate
from gateway.flow.status import Finale, View
from gateway.lanes.checkup import UNANSWERED
from gateway.policy.admission import Refuse
from gateway.ports import Duplicate
from schemas.codec import Undecodable, decode
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.lifecycle import CallState
from schemas.result import CallStatus, Hold
from schemas.tool_call import ToolCallData

MAX_WAIT_S = 60
"""Longest a request may stay open for a call's end."""

MAX_KEY = 512
"""Characters of an idempotency key."""

ADMIT_WITHIN_S = 5.0
"""How long storing a call may take; beyond it the answer is 503 and the call may or may not be stored."""

Http = Request[Any, Any, Any]
_PREFER_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)


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
    data = _body(await request.body(), parts.max_body_bytes)
    key = _key(request.headers.get("idempotency-key"), data)
    preferred = preferred_wait(request.headers.getall("prefer", []))
    await _gate(request).pass_or_raise()
    try:
        async with asyncio.timeout(ADMIT_WITHIN_S):
            answer = await parts.intake.from_http(
                data, agent=caller.agent, key=key, traceparent=request.headers.get("traceparent")
            )
    except TimeoutError:
        raise ProblemError(_in_doubt(known_by_key=bool(key or data.idempotency_key))) from None
    if isinstance(answer, Refuse):
        raise ProblemError(refused(answer.failure, answer.message, tool=data.tool, errors=answer.errors))
    view = await _view_of_accepted(parts, answer.call, preferred or 0)
    if view is None and isinstance(answer, Duplicate):
        message = (
            f"this idempotency key belongs to call {answer.call}, which has ended, and its answer is no longer kept"
        )
        raise ProblemError(
            plain(Kind.FORGOTTEN, message, action="Publish it under a new key if it is meant to run again.")
        )
    applied = {} if preferred is None else {"Preference-Applied": f"wait={preferred}"}
    return _shown(answer.call, view or _just_accepted(answer.call), applied, attempts=False)


@get(
    "/v1/calls/{call_id:str}",
    operation_id="showCall",
    summary="Look at a call, or wait for its end",
    responses=described.SHOWN,
)
async def show(request: Http, call_id: FromPath[str]) -> Response[Any]:
    """Show a call with its attempts; `?wait=N` waits up to N seconds for its end."""
    wait_s = _query_wait(request.query_params.get("wait"))
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
    if isinstance(view, CallStatus):
        if await parts.status.cancel(call_id) == "busy":
            message = f"call {call_id} is with a worker now and may have reached the vendor"
            raise ProblemError(plain(Kind.STARTED, message, action="Wait for its end, or try again if it is retried."))
        view = await _own(request, call_id, 0)
        return _shown(call_id, view, {}, attempts=False)
    if view.data["state"] != CallState.CANCELLED:
        raise ProblemError(plain(Kind.ENDED, f"call {call_id} has ended: {view.data['state']}"))
    return _shown(call_id, view, {}, attempts=False)


def preferred_wait(prefer: list[str]) -> int | None:
    """Return the seconds of `Prefer: wait=N`, at most `MAX_WAIT_S`; None when it is not asked for or not lawful (RFC 7240)."""
    found = _PREFER_WAIT.search(",".join(prefer))
    return min(int(found[1]), MAX_WAIT_S) if found else None


def _body(raw: bytes, max_bytes: int) -> ToolCallData:
    try:
        value = decode(raw, max_bytes=max_bytes)
        return msgspec.convert(value, ToolCallData)
    except Undecodable as verdict:
        raise ProblemError(refused(verdict.failure, verdict.message)) from None
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        pointer = path.rstrip("`").replace(".", "/").replace("[", "/").replace("]", "")
        errors = [{"pointer": pointer, "message": message}]
        raise ProblemError(refused(Failure.INGEST_MALFORMED, str(error), errors=errors)) from None


def _key(header: str | None, data: ToolCallData) -> str | None:
    if header is None:
        return None
    if not 0 < len(header) <= MAX_KEY:
        raise ProblemError(plain(Kind.BAD_REQUEST, f"Idempotency-Key is empty or longer than {MAX_KEY} characters"))
    if data.idempotency_key not in {None, header}:
        message = 'the header Idempotency-Key and "idempotency_key" in the body differ'
        raise ProblemError(plain(Kind.BAD_REQUEST, message, errors=[FieldError("/idempotency_key", message)]))
    return header


def _query_wait(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= MAX_WAIT_S):
        message = f"wait is a whole number of seconds, 0 to {MAX_WAIT_S}"
        raise ProblemError(plain(Kind.BAD_REQUEST, message, errors=[FieldError("?wait", message)]))
    return int(text)


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


async def _view_of_accepted(parts: ApiParts, call: str, wait_s: float) -> View:
    try:
        view, _ = await parts.status.wait(call, wait_s)
    except UNANSWERED:
        # It is stored; that it cannot be looked at right now must not read as a refusal.
        return _just_accepted(call)
    return view


def _just_accepted(call: str) -> CallStatus:
    hold = Hold(reason=None, detail="It was stored.", position=None, eta_s=None, action="Look again at its location.")
    return CallStatus(call=call, state=CallState.PENDING, hold=hold)


async def _own(request: Http, call: str, wait_s: float) -> Finale | CallStatus:
    """Return the caller's call; somebody else's is as unknown as one that never was, and is not waited for."""
    status, caller = parts_of(request).status, auth.caller_of(request)
    view, agent = await status.look(call)
    if view is not None and caller.sees(agent) and wait_s:
        view, agent = await status.wait(call, wait_s)
    if view is None or not caller.sees(agent):
        message = f"no call {call[:64]!r} is known here, or its answer is no longer kept"
        raise ProblemError(plain(Kind.NOT_FOUND, message))
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

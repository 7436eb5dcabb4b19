"""Approvals over HTTP: what waits for a person, with exactly what it would do, and the person's word."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath

from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import ProblemError
from gateway.entrypoints.api.telling import told
from gateway.flow import approvals
from gateway.flow.approvals import OwnRequest
from gateway.flow.refusals import Nowhere
from schemas.effect import OperationClass
from schemas.lifecycle import CallState
from schemas.moment import moment, stamp
from schemas.review import Decision

Http = Request[Any, Any, Any]


class ApprovalView(msgspec.Struct, frozen=True, kw_only=True):
    """One call that waits for a person, or waited."""

    call: str
    tool: str
    connection: str | None
    op_class: OperationClass = msgspec.field(name="class")
    agent: str
    session: str | None
    confidence: float | None
    arguments: dict[str, Any]
    """Exactly what would be sent."""
    hash: str
    """Of what would run; a decision is about this."""
    asked: str
    until: str
    on_timeout: str
    deadline: str
    state: CallState
    decision: Decision | None
    by: str | None
    reason: str | None


class ApprovalsView(msgspec.Struct, frozen=True, kw_only=True):
    """What ends first at the top."""

    approvals: list[ApprovalView]


class DecisionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, and about what: `hash` as it was shown makes sure that nothing was changed since."""

    reason: str = ""
    hash: str | None = None


@get("/v1/approvals", operation_id="listApprovals", summary="Calls that wait for a person", responses=described.LANES)
async def ls(request: Http) -> ApprovalsView:
    """List what waits; an Agent sees its own calls."""
    caller = auth.caller_of(request)
    found = await parts_of(request).approvals.ls()
    return ApprovalsView(approvals=[_view(one) for one in found if caller.sees(one.call.agent)])


@get("/v1/approvals/{call:str}", operation_id="showApproval", summary="Look at one", responses=described.LANE)
async def show(request: Http, call: FromPath[str]) -> ApprovalView:
    """Look at what exactly would run."""
    with _told():
        return _view(await _seen(request, call))


@post(
    "/v1/approvals/{call:str}/approve",
    guards=[auth.may_approve],
    status_code=200,
    operation_id="approveCall",
    summary="Let a call run",
    responses=described.DECIDED,
)
async def approve(request: Http, call: FromPath[str]) -> ApprovalView:
    """Approve exactly what was shown; it goes to its lane."""
    return await _decide(request, call, Decision.APPROVED)


@post(
    "/v1/approvals/{call:str}/deny",
    guards=[auth.may_approve],
    status_code=200,
    operation_id="denyCall",
    summary="Refuse a call",
    responses=described.DECIDED,
)
async def deny(request: Http, call: FromPath[str]) -> ApprovalView:
    """Refuse it, with a reason that its agent is told; it ends as rejected."""
    return await _decide(request, call, Decision.DENIED)


ROUTES = [ls, show, approve, deny]


async def _decide(request: Http, call: str, verdict: Literal[Decision.APPROVED, Decision.DENIED]) -> ApprovalView:
    parts = parts_of(request)
    body = await reading.body_as(request, parts.max_body_bytes, DecisionBody)
    by = auth.caller_of(request).agent
    with _told():
        await _seen(request, call)
        return _view(await parts.approvals.decide(call, verdict, by=by, reason=body.reason, shown=body.hash))


async def _seen(request: Http, call: str) -> approvals.Request:
    found = await parts_of(request).approvals.show(call)
    if not auth.caller_of(request).sees(found.call.agent):
        raise Nowhere("", f"no call {call} waits for an approval")
    return found


@contextmanager
def _told() -> Iterator[None]:
    """Answer what approvals will not do as a problem."""
    try:
        with told("sluice approvals ls"):
            yield
    except OwnRequest as error:
        raise ProblemError(auth.needs_role(str(error))) from None


def _view(one: approvals.Request) -> ApprovalView:
    call, review = one.call, one.review
    return ApprovalView(
        call=call.id,
        tool=call.tool,
        connection=call.connection,
        op_class=call.op_class,
        agent=call.agent,
        session=call.session,
        confidence=call.confidence,
        arguments=call.arguments,
        hash=one.hash,
        asked=stamp(moment(review.asked_us)),
        until=stamp(moment(review.until_us)),
        on_timeout=review.on_timeout,
        deadline=stamp(moment(call.deadline_us)),
        state=one.state,
        decision=review.decision,
        by=review.by or None,
        reason=review.reason or None,
    )

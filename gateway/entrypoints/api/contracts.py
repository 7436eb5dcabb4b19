"""Contracts over HTTP: what is promised, how answers differ, and a person's decision. An Agent sees those of the tools it may call."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.telling import told
from gateway.flow.contract_control import ContractControl, ContractState
from schemas.contracts.baseline import Verdict
from schemas.contracts.finding import Finding, Level
from schemas.contracts.sighting import FindingState, SeenFinding
from schemas.moment import moment, stamp

Http = Request[Any, Any, Any]

LOOK = "sluice contracts ls"
"""Shows what there is to somebody who named what there is not."""


class FindingView(msgspec.Struct, frozen=True, kw_only=True):
    """One difference, since when it is seen, and what was decided."""

    fingerprint: str
    level: Level
    kind: str
    pointer: str
    before: str
    after: str
    sentence: str
    action: str
    state: FindingState
    first_seen: str
    last_seen: str
    count: int | None
    """Answers that had it; null for an Agent, since those are also other agents'."""
    sample_call: str | None


class ContractView(msgspec.Struct, frozen=True, kw_only=True):
    """One contract in a list."""

    tool: str
    on_breaking: str
    declared: bool
    version: int
    """Of the baseline; 0 when nobody decided anything."""
    open: dict[str, int]
    """Open findings by level."""
    worst: str | None
    """The sentence of the worst open finding."""
    held: bool
    """Whether calls of it wait for a decision."""


class ContractsView(msgspec.Struct, frozen=True, kw_only=True):
    """Those with the worst open finding first."""

    contracts: list[ContractView]


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, by whom and why."""

    fingerprint: str
    verdict: Verdict
    sentence: str
    by: str
    at: str
    reason: str
    version: int


class WholeContractView(ContractView, frozen=True, kw_only=True):
    """One contract, with its findings, its history and the schema that holds now."""

    findings: list[FindingView]
    history: list[DecisionView]
    schema: dict[str, Any] | None


class JudgeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which finding (`all`: every open one), and why."""

    fingerprint: str
    reason: str


class JudgedView(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision did; `opened` lists the gates that let calls through again."""

    tool: str
    verdict: Verdict
    version: int
    findings: list[Finding]
    opened: list[str]


@get(
    "/v1/contracts", operation_id="listContracts", summary="The contracts and their findings", responses=described.LANES
)
async def ls(request: Http) -> ContractsView:
    """List operations with a contract or a finding; `?connector=`."""
    found = await _control(request).ls(auth.tools_seen(request), request.query_params.get("connector"))
    return ContractsView(contracts=[ContractView(**_facts(one)) for one in found])


@get("/v1/contracts/{tool:str}", operation_id="showContract", summary="Look at one contract", responses=described.LANE)
async def show(request: Http, tool: FromPath[str]) -> WholeContractView:
    """Look at one contract: findings, decisions, and the schema that holds."""
    with told(LOOK):
        found = await _control(request).show(tool, auth.tools_seen(request))
    whole = auth.caller_of(request).sees_all
    return WholeContractView(
        **_facts(found),
        findings=[_finding(one, whole=whole) for one in found.findings],
        history=[_decision(one) for one in found.baseline.history] if whole else [],
        schema=found.schema,
    )


@post(
    "/v1/contracts/{tool:str}/accept",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="acceptFinding",
    summary="Make what was seen lawful",
    responses=described.STEERED,
)
async def accept(request: Http, tool: FromPath[str]) -> JudgedView:
    """Accept a finding: answers that differ so are right from now on, and calls that were held for it go on."""
    return await _judge(request, tool, "accepted")


@post(
    "/v1/contracts/{tool:str}/reject",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="rejectFinding",
    summary="Keep what was seen unlawful",
    responses=described.STEERED,
)
async def reject(request: Http, tool: FromPath[str]) -> JudgedView:
    """Reject a finding: it stays what it is, and it is remembered that somebody looked."""
    return await _judge(request, tool, "rejected")


ROUTES: list[ControllerRouterHandler] = [ls, show, accept, reject]


async def _judge(request: Http, tool: str, verdict: Verdict) -> JudgedView:
    body = await reading.body_as(request, parts_of(request).max_body_bytes, JudgeBody)
    with told(LOOK):
        done = await _control(request).judge(
            tool, body.fingerprint, verdict, reason=body.reason, by=auth.caller_of(request).agent
        )
    return JudgedView(
        tool=done.tool, verdict=done.verdict, version=done.version, findings=done.findings, opened=done.opened
    )


def _control(request: Http) -> ContractControl:
    return parts_of(request).contracts


def _facts(state: ContractState) -> dict[str, Any]:
    found = [one.finding for one in state.open]
    sums = {level: sum(one.level is level for one in found) for level in Level}
    return {
        "tool": state.operation.tool,
        "on_breaking": state.operation.on_breaking,
        "declared": state.operation.output_schema is not None,
        "version": state.baseline.version,
        "open": {level: number for level, number in sums.items() if number},
        "worst": found[0].sentence if found else None,
        "held": bool(state.held),
    }


def _finding(seen: SeenFinding, *, whole: bool) -> FindingView:
    found = seen.finding
    return FindingView(
        **{name: getattr(found, name) for name in ("fingerprint", "level", "kind", "pointer", "before", "after")},
        sentence=found.sentence,
        action=found.action,
        state=seen.state,
        first_seen=stamp(moment(seen.first_us)),
        last_seen=stamp(moment(seen.last_us)),
        count=seen.count if whole else None,
        sample_call=seen.call if whole else None,
    )


def _decision(one: Any) -> DecisionView:
    return DecisionView(
        fingerprint=one.finding.fingerprint,
        sentence=one.finding.sentence,
        **{name: getattr(one, name) for name in ("verdict", "by", "at", "reason", "version")},
    )

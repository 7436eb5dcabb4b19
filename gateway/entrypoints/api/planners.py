"""Health and preflight over HTTP. An Agent sees the tools it may call, and has its own plans judged; an Operator may ask for any agent."""

from collections.abc import Callable
from typing import Any

from litestar import Request, get, post
from litestar.types import ControllerRouterHandler

from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import FieldError, Kind, ProblemError, plain, refused
from gateway.flow.lane_target import Nowhere, Unfit
from gateway.policy import scope
from schemas.failure import Failure
from schemas.health import HealthReport
from schemas.preflight import Plan, Report

Http = Request[Any, Any, Any]


@get("/v1/health", operation_id="showHealth", summary="How the vendors are", responses=described.LANE)
async def health(request: Http) -> HealthReport:
    """Tell how connectors, connections and operations are, worst first, with evidence and its age; `?connector=`."""
    try:
        return await parts_of(request).health.look(
            _sees(request), request.query_params.get("connector"), whole=auth.caller_of(request).sees_all
        )
    except Nowhere as error:
        action = "sluice connectors ls (or /v1/connectors)"
        raise ProblemError(plain(Kind.NOT_FOUND, str(error), action=action)) from None


@post(
    "/v1/preflight",
    status_code=200,
    operation_id="judgePlan",
    summary="May this plan start?",
    responses=described.PREFLIGHT,
)
async def preflight(request: Http) -> Report:
    """Judge a plan: go, go with conditions, or no go, with a sentence and a next step for each check. No call is made."""
    parts, caller = parts_of(request), auth.caller_of(request)
    plan = await reading.body_as(request, parts.max_body_bytes, Plan)
    if plan.agent not in {None, caller.agent} and not caller.sees_all:
        raise ProblemError(refused(Failure.INGEST_SCOPE, f'"{caller.agent}" may have its own plans judged only'))
    try:
        return await parts.preflight.judge(plan, plan.agent or caller.agent, whole=caller.sees_all)
    except Unfit as error:
        errors = [FieldError(error.pointer, str(error))]
        raise ProblemError(plain(Kind.BAD_REQUEST, str(error), errors=errors)) from None


ROUTES: list[ControllerRouterHandler] = [health, preflight]


def _sees(request: Http) -> Callable[[str], bool]:
    caller, catalog = auth.caller_of(request), parts_of(request).catalog()
    if caller.sees_all:
        return lambda _: True
    scopes = {name: agent.allow for name, agent in catalog.agents.items()}
    return lambda tool: scope.allowed(caller.agent, tool, scopes)

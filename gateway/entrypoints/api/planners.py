"""Health and preflight over HTTP. An Agent sees the tools it may call, and has its own plans judged; an Operator may ask for any agent."""

from typing import Any

from litestar import Request, get, post
from litestar.types import ControllerRouterHandler

from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import ProblemError, refused
from gateway.entrypoints.api.telling import told
from schemas.failure import Failure
from schemas.health import HealthReport
from schemas.preflight import Plan, Report

Http = Request[Any, Any, Any]

LOOK = "sluice connectors ls (or /v1/connectors)"
"""Shows what there is to somebody who named what there is not."""


@get("/v1/health", operation_id="showHealth", summary="How the vendors are", responses=described.LANE)
async def health(request: Http) -> HealthReport:
    """Tell how connectors, connections and operations are, worst first, with evidence and its age; `?connector=`."""
    with told(LOOK):
        return await parts_of(request).health.look(
            auth.tools_seen(request), request.query_params.get("connector"), whole=auth.caller_of(request).sees_all
        )


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
    with told(LOOK):
        return await parts.preflight.judge(plan, plan.agent or caller.agent, whole=caller.sees_all)


ROUTES: list[ControllerRouterHandler] = [health, preflight]

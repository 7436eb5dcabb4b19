"""What monitoring, tools and people ask the API about itself: life, readiness, metrics, its two documents, the catalog."""

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.enums import MediaType

from connectors.catalog import Catalog, Operation
from connectors.manifest.explain import explain
from gateway import telemetry
from gateway.entrypoints.api import auth, described, elsewhere
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import ProblemError
from gateway.entrypoints.api.readiness import WITHIN_S, look, not_ready
from gateway.lanes.checkup import UNANSWERED
from gateway.policy import scope

Http = Request[Any, Any, Any]


@get("/livez", operation_id="live", summary="Is the process alive?", opt=elsewhere.OPEN)
async def livez() -> dict[str, str]:
    """Answer as long as the event loop turns."""
    return {"status": "alive"}


@get("/readyz", operation_id="ready", summary="Can calls be accepted?", responses=described.READY, opt=elsewhere.OPEN)
async def readyz(request: Http) -> dict[str, Any]:
    """List the checks; 503 with those that fail."""
    checks = await look(parts_of(request))
    failing = [check for check in checks if not check.ok]
    if failing:
        raise ProblemError(not_ready(failing))
    return {
        "status": "ready",
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
    }


@get(
    "/metrics",
    operation_id="metrics",
    summary="Prometheus metrics",
    media_type=MediaType.TEXT,
    responses=described.METRICS,
)
async def metrics(request: Http) -> Response[bytes]:
    """Expose the metrics; the events by fate and the queue are read now, and left out while Redis is away."""
    try:
        async with asyncio.timeout(WITHIN_S):
            stats, gauges = await parts_of(request).stats(), await parts_of(request).gauges()
    except (*UNANSWERED, TimeoutError):
        stats, gauges = {}, None
    return Response(telemetry.exposition(stats, gauges), headers={"Content-Type": telemetry.EXPOSITION_TYPE})


@get(
    "/asyncapi.json",
    operation_id="asyncapi",
    summary="The topics and events of the bus, as AsyncAPI 3.0",
    responses=described.DOCUMENT,
)
async def asyncapi(request: Http) -> Response[bytes]:
    """Return the document of the event door."""
    return Response(parts_of(request).asyncapi(), media_type=MediaType.JSON)


@get(
    "/v1/connectors",
    guards=[auth.known],
    operation_id="listTools",
    summary="The tools and what they take",
    responses=described.TOOLS,
)
async def connectors(request: Http) -> dict[str, Any]:
    """List the tools the caller may use; `?tool=` names one, and with `&explain=true` an Operator sees where its values come from."""
    parts, caller, wanted = parts_of(request), auth.caller_of(request), request.query_params.get("tool")
    explains = wanted is not None and caller.sees_all and request.query_params.get("explain") == "true"
    catalog = parts.catalog()
    scopes = {} if caller.sees_all else {name: agent.allow for name, agent in catalog.agents.items()}
    tools = [
        _tool(operation, catalog) | (_values(catalog, name) if explains else {})
        for name, operation in sorted(catalog.operations.items())
        if wanted in {None, name} and scope.allowed(caller.agent, name, scopes)
    ]
    return {"tools": tools}


def _tool(operation: Operation, catalog: Catalog) -> dict[str, Any]:
    return {
        "tool": operation.tool,
        "connector": operation.connector,
        "class": operation.op_class,
        "method": operation.method,
        "path": operation.path,
        "timeout_s": operation.timeout_s,
        "connections": sorted(one.name for one in catalog.connections.values() if one.connector == operation.connector),
        "input": operation.input_schema,
        "output": operation.output_schema,
        "approval_required": operation.approval_required,
    }


def _values(catalog: Catalog, tool: str) -> dict[str, Any]:
    """Return every value that holds for a tool, with its place in the files; where those lie is not for Agents."""
    return {"values": [value._asdict() for value in explain(catalog, tool)]}

"""The OpenAPI document, from the same types that decode and encode; adds what Litestar cannot know: bodies and headers read by hand."""

from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Request, Response, Router, get
from litestar.enums import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme
from litestar.types import ControllerRouterHandler

from gateway.entrypoints.api.alerts import ResolveAlertBody
from gateway.entrypoints.api.approvals import DecisionBody
from gateway.entrypoints.api.breakers import AutoBody, KeepBody
from gateway.entrypoints.api.connections import AuthorizeBody, RedeemBody, SetBody
from gateway.entrypoints.api.contracts import JudgeBody
from gateway.entrypoints.api.dead_letters import FIELDS, MOST_PAGE, DiscardBody, ResolveBody
from gateway.entrypoints.api.described import (
    ATTEMPT_EXAMPLE,
    PAUSE_EXAMPLE,
    PLAN_EXAMPLE,
    REQUEST_EXAMPLE,
    RESUME_EXAMPLE,
)
from gateway.entrypoints.api.history import FILTERS
from gateway.entrypoints.api.lanes import PauseBody, ResumeBody
from gateway.entrypoints.api.replays import ReplayBody, SteerBody
from schemas.codec import encode
from schemas.preflight import Plan
from schemas.tool_call import ToolCallData

_PATH = "/openapi.json"

LETTER_BODIES = (ResolveBody, DiscardBody, ReplayBody, SteerBody)


class _Only(Router):
    """Serves the one document: Litestar's own pages would answer unknown addresses with HTML."""

    def register(self, value: ControllerRouterHandler) -> Any:
        """Take our handler and no other."""
        return super().register(value) if value is _openapi else []


@get(_PATH, include_in_schema=False, sync_to_thread=False)
def _openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
    return Response(encode(complete(request.app.openapi_schema.to_schema())), media_type=MediaType.JSON)


def config() -> OpenAPIConfig:
    """Return the document's frame."""
    return OpenAPIConfig(
        title="Sluice",
        version=version("sluice"),
        description="Publish tool calls and learn what became of them. The event door is described in /asyncapi.json.",
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", description="The key of an Agent or Operator.")
            }
        ),
        render_plugins=[JsonRenderPlugin()],
        openapi_router=_Only("/", route_handlers=[_openapi], include_in_schema=False),
        use_handler_docstrings=True,
    )


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the request body, its headers, the query parameters and where a key is needed."""
    (_, schemas) = msgspec.json.schema_components(
        [
            ToolCallData,
            PauseBody,
            ResumeBody,
            SetBody,
            AuthorizeBody,
            RedeemBody,
            JudgeBody,
            ResolveAlertBody,
            Plan,
            DecisionBody,
            KeepBody,
            AutoBody,
            *LETTER_BODIES,
        ],
        ref_template="#/components/schemas/{name}",
    )
    document["components"]["schemas"].update(schemas)
    paths = document["paths"]
    _list_attempts(document["components"]["schemas"], paths["/v1/calls/{call_id}"]["get"])
    publish, one = paths["/v1/calls"]["post"], paths["/v1/calls/{call_id}"]
    publish["requestBody"] = _body("ToolCallData", REQUEST_EXAMPLE)
    publish.setdefault("parameters", []).extend(
        [
            _header("Idempotency-Key", {"type": "string", "minLength": 1, "maxLength": 512}, "As `idempotency_key`."),
            _header("traceparent", {"type": "string"}, "W3C Trace Context; it travels to the vendor and back."),
            _header(
                "Prefer", {"type": "string", "examples": ["wait=30"]}, "`wait=N`, 0 to 60: seconds to wait for the end."
            ),
        ]
    )
    one["get"]["parameters"].append(
        _parameter("wait", "query", {"type": "integer", "minimum": 0, "maximum": 60}, "Seconds to wait for the end.")
    )
    paths["/v1/connectors"]["get"].setdefault("parameters", []).extend(
        [
            _parameter("tool", "query", {"type": "string"}, "Only this tool."),
            _parameter("explain", "query", {"type": "boolean"}, "With `tool`: also `values`, for Operators."),
        ]
    )
    steered = [*_connections(paths), *_contracts(paths), *_alerts(paths), *_planners(paths), *_letters(paths)]
    lanes = [*_history(paths), *_lanes(paths), *_approvals(paths), *_breakers(paths), *steered]
    for operation in (publish, one["get"], one["delete"], paths["/v1/connectors"]["get"], *lanes):
        operation["security"] = [{"bearer": []}]
    return document


def _history(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what the lists of calls and of events take, and return them."""
    ls, events = paths["/v1/calls"]["get"], paths["/v1/calls/{call_id}/events"]["get"]
    ls.setdefault("parameters", []).extend(
        _parameter(name, "query", {"type": kind}, told) for name, (kind, told) in FILTERS.items()
    )
    events["parameters"].append(
        _header("Last-Event-ID", {"type": "string"}, "The last event that was read: what follows it is told.")
    )
    return [ls, events]


def _lanes(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what the operations on lanes take, and return them."""
    ls, show = paths["/v1/lanes"]["get"], paths["/v1/lanes/{lane}"]["get"]
    pause, resume = paths["/v1/lanes/pause"]["post"], paths["/v1/lanes/resume"]["post"]
    ls.setdefault("parameters", []).extend(
        [
            _parameter("connector", "query", {"type": "string"}, "Only the lanes of this connector."),
            _parameter("held", "query", {"type": "boolean"}, "Only lanes that something holds, or that nothing does."),
            _parameter("cursor", "query", {"type": "string"}, "The `cursor` of the page before."),
        ]
    )
    show["parameters"].append(
        _parameter("connection", "query", {"type": "string"}, "Of the tool; a lane names its own.")
    )
    pause["requestBody"] = _body("PauseBody", PAUSE_EXAMPLE)
    resume["requestBody"] = _body("ResumeBody", RESUME_EXAMPLE)
    return [ls, show, pause, resume]


def _connections(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what the operations on connections take, and return them."""
    bodies = {
        "set": _body("SetBody", {"refresh_token": "…"}),
        "authorize": _body(
            "AuthorizeBody", {"redirect_uri": "http://127.0.0.1:49152/callback", "state": "…", "challenge": "…"}
        ),
        "redeem": _body(
            "RedeemBody", {"code": "…", "verifier": "…", "redirect_uri": "http://127.0.0.1:49152/callback"}
        ),
    }
    found = []
    for path, operations in paths.items():
        if path.startswith("/v1/connections"):
            found += operations.values()
            if body := bodies.get(path.rpartition("/")[2]):
                operations["post"]["requestBody"] = body
    return found


def _contracts(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what the operations on contracts take, and return them."""
    ls, show = paths["/v1/contracts"]["get"], paths["/v1/contracts/{tool}"]["get"]
    ls.setdefault("parameters", []).append(
        _parameter("connector", "query", {"type": "string"}, "Only the contracts of this connector.")
    )
    judged = [paths[f"/v1/contracts/{{tool}}/{verb}"]["post"] for verb in ("accept", "reject")]
    for operation in judged:
        operation["requestBody"] = _body("JudgeBody", {"fingerprint": "v1:1f2e3d4c5b6a", "reason": "their changelog"})
    return [ls, show, *judged]


def _alerts(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what the operations on alerts take, and return them."""
    ls, resolve = paths["/v1/alerts"]["get"], paths["/v1/alerts/{alert}/resolve"]["post"]
    ls.setdefault("parameters", []).append(
        _parameter("state", "query", {"enum": ["open", "all"]}, "`all`: also those resolved within a day.")
    )
    resolve["requestBody"] = _body("ResolveAlertBody", {"reason": "their status page says so"})
    return [ls, paths["/v1/alerts/{alert}"]["get"], resolve]


def _approvals(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what a decision takes, and return the operations on approvals."""
    for verb in ("approve", "deny"):
        body = _body("DecisionBody", {"reason": "asked the owner", "hash": "v1:1f2e3d4c5b6a"})
        paths[f"/v1/approvals/{{call}}/{verb}"]["post"]["requestBody"] = body
    return [one for path, methods in paths.items() if path.startswith("/v1/approvals") for one in methods.values()]


def _breakers(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what the operations on breakers take, and return them."""
    paths["/v1/breakers"]["get"].setdefault("parameters", []).append(
        _parameter("connector", "query", {"type": "string"}, "Only those of this connector.")
    )
    word = {"connector": "crm", "reason": "their maintenance"}
    for verb, schema in (("open", "KeepBody"), ("close", "KeepBody"), ("auto", "AutoBody")):
        example = {**word, "for": "30m"} if schema == "KeepBody" else word
        paths[f"/v1/breakers/{verb}"]["post"]["requestBody"] = _body(schema, example)
    return [one for path, methods in paths.items() if path.startswith("/v1/breakers") for one in methods.values()]


def _planners(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what health and preflight take, and return them."""
    health, preflight = paths["/v1/health"]["get"], paths["/v1/preflight"]["post"]
    health.setdefault("parameters", []).append(
        _parameter("connector", "query", {"type": "string"}, "Only this connector.")
    )
    preflight["requestBody"] = _body("Plan", PLAN_EXAMPLE)
    return [health, preflight]


def _letters(paths: dict[str, Any]) -> list[dict[str, Any]]:
    """Add what the operations on dead letters and replays take, and return them."""
    bodies = {
        "/v1/dead-letters/{letter}/resolve": _body(
            "ResolveBody", {"outcome": "not_done", "reason": "asked their support"}
        ),
        "/v1/dead-letters/{letter}/discard": _body("DiscardBody", {"reason": "a test of ours"}),
        "/v1/replays": _body("ReplayBody", {"filter": {"fingerprint": "v1:9f2c51d0a7b3e846"}, "dry_run": True}),
    }
    for verb in ("pause", "resume", "cancel"):
        steer = _body("SteerBody", {"reason": "they are down again"})
        bodies[f"/v1/replays/{{replay}}/{verb}"] = {**steer, "required": False}
    for path, body in bodies.items():
        paths[path]["post"]["requestBody"] = body
    asked = [
        _parameter(name, "query", {"type": "string"}, "Only letters of which this is so.") for name in sorted(FIELDS)
    ]
    page = [
        _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": MOST_PAGE}, "Letters of a page."),
        _parameter("cursor", "query", {"type": "string"}, "The `cursor` of the page before."),
    ]
    paths["/v1/dead-letters"]["get"].setdefault("parameters", []).extend([*asked, *page])
    paths["/v1/dead-letters/groups"]["get"].setdefault("parameters", []).extend(asked)
    paths["/v1/dead-letters/{letter}"]["get"]["parameters"].append(
        _parameter("open", "query", {"type": "boolean"}, "Also what is sealed; for Operators, and noted.")
    )
    return [
        operation
        for path, operations in paths.items()
        if path.startswith(("/v1/dead-letters", "/v1/replays"))
        for operation in operations.values()
    ]


def _body(schema: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}
    return {"required": True, "content": {"application/json": content}}


def _list_attempts(schemas: dict[str, Any], show: dict[str, Any]) -> None:
    """Describe the one resource where a result's `attempts` is the list and not its length."""
    result = schemas["CallResult"]
    attempts = {"type": "array", "items": {"$ref": "#/components/schemas/Attempt"}}
    schemas["ShownResult"] = {
        **result,
        "properties": {**result["properties"], "attempts": attempts},
        "title": "ShownResult",
    }
    content = show["responses"]["200"]["content"]["application/json"]
    content["schema"] = {"$ref": "#/components/schemas/ShownResult"}
    for example in content["examples"].values():
        example["value"] = {**example["value"], "attempts": [ATTEMPT_EXAMPLE]}


def _header(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return _parameter(name, "header", schema, description)


def _parameter(name: str, place: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": False, "schema": schema, "description": description}

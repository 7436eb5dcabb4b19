"""What each resource may answer, for the OpenAPI document; examples are the design's own."""

from collections.abc import Mapping
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from gateway.entrypoints.api.problems import MEDIA_TYPE, Problem
from schemas.result import CallResult, CallStatus

REQUEST_EXAMPLE = {
    "tool": "crm.contacts.create",
    "arguments": {"email": "a@b.c"},
    "connection": "crm-main",
    "session": "run-42",
    "idempotency_key": "run-42/step-3",
}
PAUSE_EXAMPLE = {"tool": "crm.contacts.create", "reason": "import of the catalogue", "for": "30m"}
RESUME_EXAMPLE = {"tool": "crm.contacts.create"}
PLAN_EXAMPLE = {
    "steps": [{"tool": "crm.contacts.create", "connection": "crm-main", "count": 200, "critical": True}],
    "duration_s": 2700,
}
ATTEMPT_EXAMPLE = {
    "n": 1,
    "started": "2026-11-20T09:00:00.004000Z",
    "duration_ms": 96,
    "worker": "worker-a-7",
    "fence": 1,
    "status": 201,
    "outcome": "completed",
    "effect": "executed",
    "message": "",
}
_RESULT_EXAMPLE = {
    "call": "01JCW3H5N0000000000000000A",
    "request": {"source": "agent/research-7", "id": "run-42/step-3"},
    "idempotency_key": "run-42/step-3",
    "tool": "crm.contacts.create",
    "connection": "crm-main",
    "session": "run-42",
    "state": "completed",
    "result": {"id": "c1"},
    "http_status": 201,
    "effect": "executed",
    "attempts": 1,
    "queued_ms": 3,
    "duration_ms": 96,
    "contract": "unchecked",
    "degraded": False,
    "cost": None,
    "replay_of": None,
    "summary": "Completed on the first attempt.",
    "error": None,
}
_WAITING_EXAMPLE = {
    "call": "01JCW3H5N0000000000000000A",
    "state": "retrying",
    "hold": {
        "reason": "backoff",
        "detail": "The last attempt failed; the next starts after 2026-11-20T09:00:02Z.",
        "position": None,
        "eta_s": 1.7,
        "action": "Nothing to do.",
    },
}

_NO = {
    400: "Malformed: not JSON, not UTF-8, too deep, or not the fields that are taken here",
    401: "No key, or a key nobody has",
    403: "The agent's scope or the operator's role does not cover it; or nobody is declared, and it came from elsewhere",
    404: "No such call or somebody else's; no such connector, tool, connection or lane",
    408: "The body took too long to arrive",
    409: "The idempotency key is taken, or the call cannot be withdrawn any more",
    413: "The body is larger than is accepted",
    422: "Unknown tool or connection, arguments against the schema, deadline past, or a secret is missing",
    429: "The lane is full; see Retry-After",
    503: "Not ready, or too many requests wait; see Retry-After",
}


def _says_no(*statuses: int) -> dict[int, ResponseSpec]:
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=_NO[status], media_type=MEDIA_TYPE)
        for status in statuses
    }


def _ended(description: str) -> ResponseSpec:
    example = Example(summary="A call that completed", value=_RESULT_EXAMPLE)
    return ResponseSpec(CallResult, generate_examples=False, description=description, examples=[example])


def _waits(description: str) -> ResponseSpec:
    example = Example(summary="A call that will be tried again", value=_WAITING_EXAMPLE)
    return ResponseSpec(CallStatus, generate_examples=False, description=description, examples=[example])


PUBLISHED: Mapping[int, ResponseSpec] = {
    200: _ended("The call ended in time; its result, whatever its state"),
    202: _waits("The call waits or runs; Location says where to look"),
    **_says_no(400, 401, 403, 408, 409, 413, 422, 429, 503),
}
SHOWN: Mapping[int, ResponseSpec] = {
    200: _ended("The call has ended; here `attempts` is the list of its attempts"),
    202: _waits("The call waits or runs"),
    **_says_no(400, 401, 403, 404, 503),
}
CALL_EXAMPLE = {
    "call": "01JCW3H5N0000000000000000A",
    "tool": "crm.contacts.create",
    "connection": "crm-main",
    "agent": "research-7",
    "session": "run-42",
    "idempotency_key": "run-42/step-3",
    "state": "completed",
    "effect": "executed",
    "error": None,
    "message": None,
    "fingerprint": None,
    "dead_letter": None,
    "confidence": 0.82,
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "accepted": "2026-11-20T09:00:00.001000Z",
    "ended": "2026-11-20T09:00:00.100000Z",
    "deadline": "2026-11-21T09:00:00.001000Z",
    "attempts": 1,
    "http_status": 201,
    "queued_ms": 3,
    "duration_ms": 96,
    "contract": "ok",
    "replay_of": None,
    "root": None,
    "summary": "Done on the first attempt.",
}
LISTED: Mapping[int, ResponseSpec] = _says_no(400, 401, 403, 503)
FOLLOWED: Mapping[int, ResponseSpec] = _says_no(400, 401, 403, 404, 503)
CANCELLED: Mapping[int, ResponseSpec] = {
    200: _ended("The call is withdrawn"),
    **_says_no(401, 403, 404, 409, 503),
}
LANES: Mapping[int, ResponseSpec] = _says_no(400, 401, 403, 503)
LANE: Mapping[int, ResponseSpec] = _says_no(400, 401, 403, 404, 503)
DECIDED: Mapping[int, ResponseSpec] = _says_no(400, 401, 403, 404, 408, 409, 413, 503)
STEERED: Mapping[int, ResponseSpec] = _says_no(400, 401, 403, 404, 408, 413, 503)
PREFLIGHT: Mapping[int, ResponseSpec] = _says_no(400, 401, 403, 408, 413, 503)
TOOLS: Mapping[int, ResponseSpec] = _says_no(401, 403)
METRICS: Mapping[int, ResponseSpec] = _says_no(403)
DOCUMENT: Mapping[int, ResponseSpec] = {
    200: ResponseSpec(dict[str, Any], generate_examples=False, description="The document"),
    **_says_no(403),
}
READY: Mapping[int, ResponseSpec] = _says_no(503)

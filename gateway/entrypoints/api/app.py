"""Builds the HTTP application from its parts; every no it says is a problem, also the framework's own."""

from collections.abc import Mapping
from typing import Any

import structlog
from litestar import Litestar, Request, Response, Router
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from gateway.entrypoints.api import (
    alerts,
    approvals,
    auth,
    breakers,
    calls,
    connections,
    contracts,
    dead_letters,
    document,
    elsewhere,
    history,
    lanes,
    planners,
    probes,
    replays,
)
from gateway.entrypoints.api.parts import ApiParts, Check
from gateway.entrypoints.api.problems import MEDIA_TYPE, Kind, Problem, ProblemError, headers, plain, refused
from gateway.entrypoints.api.readiness import Gate
from gateway.flow.gathering import Unanswered
from gateway.journal.database import Away, Missing
from gateway.lanes.checkup import UNANSWERED
from schemas.codec import encode
from schemas.failure import Failure

__all__ = ["ApiParts", "Check", "build"]

log = structlog.get_logger()

Http = Request[Any, Any, Any]


def build(parts: ApiParts) -> Litestar:
    """Return the application; it owns no connection and no task, whoever serves it does."""
    private: list[ControllerRouterHandler] = [calls.publish, calls.show, calls.cancel]
    private += history.ROUTES
    private += [lanes.ls, lanes.show, lanes.pause, lanes.resume]
    private += [breakers.ls, breakers.keep_open, breakers.keep_closed, breakers.auto]
    private += connections.ROUTES
    private += contracts.ROUTES
    private += approvals.ROUTES
    private += alerts.ROUTES
    private += planners.ROUTES
    private += dead_letters.ROUTES
    private += replays.ROUTES
    return Litestar(
        route_handlers=[
            Router("/", guards=[auth.known], route_handlers=private),
            probes.livez,
            probes.readyz,
            probes.metrics,
            probes.asyncapi,
            probes.connectors,
        ],
        guards=[elsewhere.local],
        state=State({"parts": parts, "gate": Gate(parts)}),
        exception_handlers={
            ProblemError: _problem,
            HTTPException: _framework,
            **dict.fromkeys((*UNANSWERED, Unanswered), _away),
            Away: _journal_away,
            Exception: _bug,
        },
        openapi_config=document.config(),
        request_max_body_size=parts.max_body_bytes,
        logging_config=None,
    )


def _answer(problem: Problem, more: Mapping[str, str] | None = None) -> Response[bytes]:
    return Response(
        encode(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers={**headers(problem), **(more or {})}
    )


def _problem(_: Http, error: ProblemError) -> Response[bytes]:
    return _answer(error.problem)


def _framework(request: Http, error: HTTPException) -> Response[bytes]:
    path = request.url.path[:200]
    match error.status_code:
        case 404:
            return _answer(plain(Kind.NOT_FOUND, f"there is no resource {path}", action="See /openapi.json."))
        case 405:
            detail = f"{path} does not do {request.method}"
            return _answer(plain(Kind.METHOD, detail, action="See /openapi.json."), error.headers)
        case 413:
            most = request.app.state.parts.max_body_bytes
            return _answer(
                refused(Failure.INGEST_OVERSIZE, f"at most {most} bytes are accepted"), {"Connection": "close"}
            )
        case status if status < 500:
            return _answer(plain(Kind.BAD_REQUEST, error.detail))
        case _:
            return _bug(request, error)


def _away(_: Http, error: Exception) -> Response[bytes]:
    log.warning("api.redis_away", error=f"{type(error).__name__}: {error}")
    return _answer(plain(Kind.NOT_READY, "the queue (Redis) does not answer", action="Try again; then: sluice doctor"))


def _journal_away(_: Http, error: Exception) -> Response[bytes]:
    log.warning("api.journal_away", error=f"{type(error).__name__}: {error}")
    detail = "there is no journal yet" if isinstance(error, Missing) else "the journal's database does not answer"
    return _answer(
        plain(Kind.NOT_READY, detail, action="sluice journal     (or sluice up, which runs one); then: sluice doctor")
    )


def _bug(request: Http, error: Exception) -> Response[bytes]:
    log.error("api.broken", path=request.url.path, exc_info=error)
    return _answer(refused(Failure.INTERNAL_BUG, "the gateway itself is broken here; its log says where"))

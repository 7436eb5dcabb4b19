"""Connections over HTTP: how their credentials stand; set, check, authorize and revoke them. For Operators; answers hold no secret."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from connectors.auth.refresher import Code
from connectors.secret import Secret
from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import ProblemError, refused
from gateway.entrypoints.api.telling import told
from gateway.flow.connection_control import CheckedView, ConnectionControl, ConnectionView
from schemas.failure import Failure

Http = Request[Any, Any, Any]

LOOK = "sluice connections ls"
"""Shows what there is to somebody who named what there is not."""


class ConnectionsView(msgspec.Struct, frozen=True, kw_only=True):
    """Every connection."""

    connections: list[ConnectionView]


class SetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refresh token that a person brings."""

    refresh_token: str


class AuthorizeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the browser comes back (RFC 7636, RFC 8252)."""

    redirect_uri: str
    state: str
    challenge: str


class RedeemBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the browser brought, and the verifier of the challenge."""

    code: str
    verifier: str
    redirect_uri: str


class AuthorizeView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a person consents."""

    url: str


async def looks(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: only Operators look at credentials."""
    _needs(connection, auth.caller_of(connection).sees_all)


async def changes(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: only Operators who may change things change credentials."""
    caller = auth.caller_of(connection)
    _needs(connection, caller.sees_all and caller.may_change)


def _needs(connection: ASGIConnection[Any, Any, Any, Any], good: bool) -> None:  # noqa: FBT001 - one question
    if not good:
        detail = f'"{auth.caller_of(connection).agent}" may not do this with connections: that needs an Operator'
        problem = refused(Failure.INGEST_SCOPE, detail)
        action = "Use the key of an Operator with the role operator or admin."
        raise ProblemError(msgspec.structs.replace(problem, action=action))


@get(
    "/v1/connections",
    guards=[looks],
    operation_id="listConnections",
    summary="The connections and how their credentials stand",
    responses=described.LANES,
)
async def ls(request: Http) -> ConnectionsView:
    """List every connection with the state of its credential and the next step."""
    return ConnectionsView(connections=await _control(request).ls())


@get(
    "/v1/connections/{connector:str}/{name:str}",
    guards=[looks],
    operation_id="showConnection",
    summary="Look at one connection",
    responses=described.LANE,
)
async def show(request: Http, connector: FromPath[str], name: FromPath[str]) -> ConnectionView:
    """Look at one connection."""
    with told(LOOK):
        return await _control(request).show(connector, name)


@post(
    "/v1/connections/{connector:str}/{name:str}/check",
    guards=[changes],
    status_code=200,
    operation_id="checkConnection",
    summary="Get a new token now",
    responses=described.STEERED,
)
async def check(request: Http, connector: FromPath[str], name: FromPath[str]) -> CheckedView:
    """Get a new token now, whatever the state, and say what came of it."""
    with told(LOOK):
        return await _control(request).check(connector, name, by=auth.caller_of(request).agent)


@post(
    "/v1/connections/{connector:str}/{name:str}/set",
    guards=[changes],
    status_code=200,
    operation_id="setConnection",
    summary="Keep a refresh token",
    responses=described.STEERED,
)
async def give(request: Http, connector: FromPath[str], name: FromPath[str]) -> CheckedView:
    """Keep a refresh token in place of what there is, and use it once to see that it works."""
    body = await reading.body_as(request, parts_of(request).max_body_bytes, SetBody)
    with told(LOOK):
        return await _control(request).give(connector, name, body.refresh_token, by=auth.caller_of(request).agent)


@post(
    "/v1/connections/{connector:str}/{name:str}/authorize",
    guards=[changes],
    status_code=200,
    operation_id="authorizeConnection",
    summary="Where a person consents",
    responses=described.STEERED,
)
async def authorize(request: Http, connector: FromPath[str], name: FromPath[str]) -> AuthorizeView:
    """Return the address for a person's browser, which comes back to the loopback of whoever asked."""
    body = await reading.body_as(request, parts_of(request).max_body_bytes, AuthorizeBody)
    with told(LOOK):
        control = _control(request)
        url = control.authorize(
            connector, name, redirect_uri=body.redirect_uri, state=body.state, challenge=body.challenge
        )
    return AuthorizeView(url=url)


@post(
    "/v1/connections/{connector:str}/{name:str}/redeem",
    guards=[changes],
    status_code=200,
    operation_id="redeemConnection",
    summary="Exchange the code of a consent for tokens",
    responses=described.STEERED,
)
async def redeem(request: Http, connector: FromPath[str], name: FromPath[str]) -> CheckedView:
    """Exchange the code that the browser brought, and keep the tokens."""
    body = await reading.body_as(request, parts_of(request).max_body_bytes, RedeemBody)
    code = Code(code=Secret(body.code), verifier=Secret(body.verifier), redirect_uri=body.redirect_uri)
    with told(LOOK):
        return await _control(request).redeem(connector, name, code, by=auth.caller_of(request).agent)


@post(
    "/v1/connections/{connector:str}/{name:str}/revoke",
    guards=[changes],
    status_code=200,
    operation_id="revokeConnection",
    summary="Forget the tokens",
    responses=described.STEERED,
)
async def revoke(request: Http, connector: FromPath[str], name: FromPath[str]) -> ConnectionView:
    """Forget the tokens of a connection; its calls wait until somebody consents again."""
    with told(LOOK):
        return await _control(request).revoke(connector, name, by=auth.caller_of(request).agent)


ROUTES = [ls, show, check, give, authorize, redeem, revoke]


def _control(request: Http) -> ConnectionControl:
    return parts_of(request).connections

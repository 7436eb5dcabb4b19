"""Alerts over HTTP: which patterns need a person, and the person's word that ends one."""

import json
from typing import Any, Literal

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import FieldError, Kind, ProblemError, plain
from gateway.entrypoints.api.telling import told
from schemas.alert import AlertKind, AlertRecord
from schemas.moment import moment, stamp

Http = Request[Any, Any, Any]

LOOK = "sluice alerts ls"
"""Shows what there is to somebody who named what there is not."""


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """One alert; the fields of its event, and how it stands."""

    alert: str
    kind: AlertKind
    key: str
    state: Literal["open", "resolved"]
    opened: str
    last: str
    """When the pattern was last seen to hold."""
    count: int
    sentence: str
    action: str
    sample: dict[str, str]
    resolved: str | None
    by: str | None
    """Whose word resolved it; null: it was quiet."""
    reason: str | None


class AlertsView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest at the top."""

    alerts: list[AlertView]


class ResolveAlertBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it needs nobody any more."""

    reason: str


@get(
    "/v1/alerts",
    guards=[auth.may_see_all],
    operation_id="listAlerts",
    summary="Patterns that need a person",
    responses=described.LANES,
)
async def ls(request: Http) -> AlertsView:
    """List open alerts; `?state=all`: also those that were resolved within a day."""
    state = request.query_params.get("state", "open")
    if state not in {"open", "all"}:
        message = "state is open or all"
        raise ProblemError(plain(Kind.BAD_REQUEST, message, errors=[FieldError("?state", message)]))
    found = await parts_of(request).alerts.ls(whole=state == "all")
    return AlertsView(alerts=[_view(one) for one in found])


@get(
    "/v1/alerts/{alert:str}",
    guards=[auth.may_see_all],
    operation_id="showAlert",
    summary="Look at one alert",
    responses=described.LANE,
)
async def show(request: Http, alert: FromPath[str]) -> AlertView:
    """Look at one alert, open or resolved within a day."""
    with told(LOOK):
        return _view(await parts_of(request).alerts.show(alert))


@post(
    "/v1/alerts/{alert:str}/resolve",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="resolveAlert",
    summary="End an alert",
    responses=described.DECIDED,
)
async def resolve(request: Http, alert: FromPath[str]) -> AlertView:
    """End an alert with a reason; it opens again only when its pattern was quiet once."""
    parts = parts_of(request)
    body = await reading.body_as(request, parts.max_body_bytes, ResolveAlertBody)
    with told(LOOK):
        by = auth.caller_of(request).agent
        return _view(await parts.alerts.resolve(alert, by=by, reason=body.reason))


ROUTES: list[ControllerRouterHandler] = [ls, show, resolve]


def _view(one: AlertRecord) -> AlertView:
    return AlertView(
        alert=one.alert,
        kind=one.kind,
        key=one.subject,
        state="open" if one.state == "open" else "resolved",
        opened=one.opened,
        last=stamp(moment(one.last_us)),
        count=one.count,
        sentence=one.sentence,
        action=one.action,
        sample=json.loads(one.sample),
        resolved=one.resolved or None,
        by=one.by or None,
        reason=one.reason or None,
    )

"""The control plane under /_vendor/: how a test reads the books and sets the scene. Its calls are not counted."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from tests.vendor.credentials import AuthRequest, required
from tests.vendor.limiter import LimitRequest, ShutRequest, SpendRequest
from tests.vendor.record import Arrivals
from tests.vendor.script import Behaviour
from tests.vendor.shop import OPERATIONS
from tests.vendor.tokens import Desk, DeskRequest
from tests.vendor.world import Stage

PREFIX = "/_vendor/"

_encode = msgspec.json.Encoder().encode


class ScriptRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    operation: str
    behaviours: list[Behaviour]
    append: bool = False

    def __post_init__(self) -> None:
        _known(self.operation)


async def control(request: web.BaseRequest, stage: Stage) -> web.StreamResponse:
    verb = VERBS.get((request.method, request.path.removeprefix(PREFIX)))
    if verb is None:
        return _json({"error": f"no control {request.method} {request.path}"}, status=404)
    try:
        return _json(await verb(request, stage))
    except ValueError as error:  # msgspec's errors are among them
        return _json({"error": str(error)}, status=400)


async def _counts(request: web.BaseRequest, stage: Stage) -> object:
    world = stage.world
    return world.record.counts(names=request.query.get("names") != "0", refused=world.limits.refused)


async def _arrivals(request: web.BaseRequest, stage: Stage) -> object:
    record = stage.world.record
    return Arrivals(arrivals=record.listed(request.query.get("operation")), dropped=record.dropped)


async def _window(request: web.BaseRequest, stage: Stage) -> object:
    seconds, operation = float(request.query.get("seconds", "1")), request.query.get("operation")
    record = stage.world.record
    return {"max": record.window(round(seconds * 1_000_000), operation), "dropped": record.dropped}


async def _open(request: web.BaseRequest, stage: Stage) -> object:
    record = stage.world.record
    return {"max": record.most_open(request.query.get("operation")), "dropped": record.dropped}


async def _script(request: web.BaseRequest, stage: Stage) -> object:
    asked = msgspec.json.decode(await request.read(), type=ScriptRequest)
    stage.world.script.set(asked.operation, asked.behaviours, append=asked.append)
    return {}


async def _auth(request: web.BaseRequest, stage: Stage) -> object:
    stage.world.auth = required(msgspec.json.decode(await request.read(), type=AuthRequest))
    return {}


async def _desk(request: web.BaseRequest, stage: Stage) -> object:
    stage.world.desk = Desk(msgspec.json.decode(await request.read(), type=DeskRequest))
    return {}


async def _desk_counts(_: web.BaseRequest, stage: Stage) -> object:
    return stage.world.desk.counts()


async def _expire(_: web.BaseRequest, stage: Stage) -> object:
    stage.world.desk.expire()
    return {}


async def _revoke(_: web.BaseRequest, stage: Stage) -> object:
    stage.world.desk.revoke()
    return {}


async def _consent(request: web.BaseRequest, stage: Stage) -> object:
    stage.world.desk.consent(request.query["refresh_token"])
    return {}


async def _limit(request: web.BaseRequest, stage: Stage) -> object:
    rule = msgspec.json.decode(await request.read(), type=LimitRequest)
    _known(rule.operation)
    stage.world.limits.set(rule)
    return {}


async def _spend(request: web.BaseRequest, stage: Stage) -> object:
    asked = msgspec.json.decode(await request.read(), type=SpendRequest)
    stage.world.limits.of(asked.operation).spend(asked.units, _now_us())
    return {}


async def _shut(request: web.BaseRequest, stage: Stage) -> object:
    asked = msgspec.json.decode(await request.read(), type=ShutRequest)
    stage.world.limits.of(asked.operation).shut(_now_us() + round(asked.seconds * 1_000_000))
    return {}


async def _release(_: web.BaseRequest, stage: Stage) -> object:
    return {"released": stage.world.release()}


async def _reset(_: web.BaseRequest, stage: Stage) -> object:
    stage.renew()
    return {}


VERBS: Mapping[tuple[str, str], Callable[[web.BaseRequest, Stage], Awaitable[object]]] = {
    ("GET", "counts"): _counts,
    ("GET", "arrivals"): _arrivals,
    ("GET", "window"): _window,
    ("GET", "open"): _open,
    ("POST", "script"): _script,
    ("POST", "auth"): _auth,
    ("GET", "desk"): _desk_counts,
    ("POST", "desk"): _desk,
    ("POST", "expire"): _expire,
    ("POST", "revoke"): _revoke,
    ("POST", "consent"): _consent,
    ("POST", "limit"): _limit,
    ("POST", "spend"): _spend,
    ("POST", "shut"): _shut,
    ("POST", "release"): _release,
    ("POST", "reset"): _reset,
}


def _known(operation: str) -> None:
    if operation not in OPERATIONS | {"*"}:
        raise ValueError(f"no operation {operation!r}; there are {sorted(OPERATIONS)} and *")


def _now_us() -> int:
    return time.monotonic_ns() // 1_000


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")

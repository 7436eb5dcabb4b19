"""The control plane under /_vendor/: how a test reads the books and sets the scene. Its calls are not counted."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from tests.vendor.credentials import AuthRequest, required
from tests.vendor.record import Arrivals
from tests.vendor.script import Behaviour
from tests.vendor.shop import OPERATIONS
from tests.vendor.world import Stage

PREFIX = "/_vendor/"

_encode = msgspec.json.Encoder().encode


class ScriptRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    operation: str
    behaviours: list[Behaviour]
    append: bool = False

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS | {"*"}:
            raise ValueError(f"no operation {self.operation!r}; there are {sorted(OPERATIONS)} and *")


async def control(request: web.BaseRequest, stage: Stage) -> web.StreamResponse:
    verb = VERBS.get((request.method, request.path.removeprefix(PREFIX)))
    if verb is None:
        return _json({"error": f"no control {request.method} {request.path}"}, status=404)
    try:
        return _json(await verb(request, stage))
    except ValueError as error:  # msgspec's errors are among them
        return _json({"error": str(error)}, status=400)


async def _counts(request: web.BaseRequest, stage: Stage) -> object:
    return stage.world.record.counts(names=request.query.get("names") != "0")


async def _arrivals(request: web.BaseRequest, stage: Stage) -> object:
    record = stage.world.record
    return Arrivals(arrivals=record.listed(request.query.get("operation")), dropped=record.dropped)


async def _window(request: web.BaseRequest, stage: Stage) -> object:
    seconds, operation = float(request.query.get("seconds", "1")), request.query.get("operation")
    record = stage.world.record
    return {"max": record.window(round(seconds * 1_000_000), operation), "dropped": record.dropped}


async def _script(request: web.BaseRequest, stage: Stage) -> object:
    asked = msgspec.json.decode(await request.read(), type=ScriptRequest)
    stage.world.script.set(asked.operation, asked.behaviours, append=asked.append)
    return {}


async def _auth(request: web.BaseRequest, stage: Stage) -> object:
    stage.world.auth = required(msgspec.json.decode(await request.read(), type=AuthRequest))
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
    ("POST", "script"): _script,
    ("POST", "auth"): _auth,
    ("POST", "release"): _release,
    ("POST", "reset"): _reset,
}


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")

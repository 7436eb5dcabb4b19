"""The shell: sockets in, books and answers out.

An arrival is booked by the protocol as soon as its head is parsed, before any handler has a chance to run late or not
at all. Everything that judges is in the pure rooms beside this one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import msgspec
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from tests.vendor import credentials, faults, tokens
from tests.vendor.control import PREFIX, control
from tests.vendor.limiter import FREE, Verdict
from tests.vendor.record import Arrival
from tests.vendor.script import Behaviour, Kind, Point
from tests.vendor.shop import Answer, Ask, operation_of, sha256
from tests.vendor.world import Stage, World

MAX_BODY = 64 * 2**20
BACKLOG = 4_096
NO_EFFECT = Answer(status=200, body={})

_decode = msgspec.json.decode


@dataclass(slots=True)
class Visit:
    """An arrival with the world it arrived in: a reset in between does not move it to the new one."""

    world: World
    arrival: Arrival
    verdict: Verdict = FREE


class Door(RequestHandler):
    """One connection."""

    __slots__ = ("_stage", "gone", "visits")

    def __init__(self, vendor: "Vendor", *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(vendor, loop=loop, access_log=cast("Any", None))  # None is how it is turned off
        self._stage = vendor.stage
        self.visits: deque[Visit] = deque()
        self.gone = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        mono_us, wall_us = time.monotonic_ns() // 1_000, time.time_ns() // 1_000
        waiting = len(self._messages)
        super().data_received(data)
        for message, _ in islice(self._messages, waiting, None):
            self._book(message, mono_us, wall_us)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.gone.set()
        super().connection_lost(exc)

    def _book(self, message: object, mono_us: int, wall_us: int) -> None:
        world = self._stage.world
        if not isinstance(message, RawRequestMessage):  # not HTTP; it is answered 400 without asking us
            malformed = Arrival(mono_us=mono_us, wall_us=wall_us, method="", path="", operation="malformed")
            world.record.arrive(malformed)
            world.record.answered(malformed, 400)
            return
        path = message.path.partition("?")[0]
        if path.startswith(PREFIX):
            return
        arrival = Arrival(
            mono_us=mono_us,
            wall_us=wall_us,
            method=message.method,
            path=path,
            operation=operation_of(message.method, path),
            key=message.headers.get("Idempotency-Key"),
            traceparent=message.headers.get("traceparent"),
        )
        world.record.arrive(arrival)
        self.visits.append(Visit(world, arrival, world.limits.judge(arrival.operation, mono_us, wall_us)))


class Vendor(web.Server):
    """All connections, and the stage they see."""

    def __init__(self) -> None:
        super().__init__(self._serve, request_factory=self._request)
        self.stage = Stage()

    def __call__(self) -> Door:
        return Door(self, loop=self._loop)

    def _request(self, *parts: Any) -> web.BaseRequest:
        message, payload, door, writer, task = parts
        return web.BaseRequest(message, payload, door, writer, task, self._loop, client_max_size=MAX_BODY)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if request.path.startswith(PREFIX):
                return await control(request, self.stage)
            door = cast("Door", request.protocol)
            return await _attended(request, door.visits.popleft(), door.gone)
        except (ConnectionError, web.RequestPayloadError):
            return web.Response()  # the caller has gone: nobody reads this


async def _attended(request: web.BaseRequest, visit: Visit, gone: asyncio.Event) -> web.StreamResponse:
    try:
        response = await _answer(request, visit, gone)
        if not response.prepared:
            response.headers.update(visit.verdict.headers)
        return response
    finally:
        visit.arrival.done_us = time.monotonic_ns() // 1_000


async def _answer(request: web.BaseRequest, visit: Visit, gone: asyncio.Event) -> web.StreamResponse:
    world, arrival = visit.world, visit.arrival
    ask = _ask(arrival, request, await request.read(), world.auth)
    arrival.ref, arrival.body_sha256 = ask.ref, ask.body_sha256
    arrival.credential_sha256 = credentials.presented(world.auth, request.headers, request.query)

    def give(status: int) -> None:
        world.record.answered(arrival, status)

    if arrival.operation == tokens.CONSENT:
        return _consented(world.desk.back(request.query), give)
    if not _admitted(world, arrival):
        return _unauthorized(world.auth, give)
    if visit.verdict.refused:
        return _slow_down(give)
    behaviour = world.script.choose(arrival.operation, arrival.key, arrival.ref, arrival.path)
    await _wait(world, behaviour, Point.BEFORE)
    answer = _perform(world, arrival, ask) if behaviour.has_effect else NO_EFFECT
    await _wait(world, behaviour, Point.AFTER)
    scene = faults.Scene(request=request, behaviour=behaviour, answer=answer, give=give, gone=gone)
    return await faults.HANDLERS[behaviour.do](scene)


def _ask(arrival: Arrival, request: web.BaseRequest, body: bytes, auth: credentials.Requirement) -> Ask:
    try:
        data = tokens.form_of(body) if arrival.operation == tokens.OPERATION else _decode(body) if body else {}
    except msgspec.DecodeError:
        data = {}
    echoed = arrival.operation == "echo"
    return Ask(
        operation=arrival.operation,
        method=arrival.method,
        path=arrival.path,
        query=credentials.shown(auth, request.query) if echoed else request.query,
        headers=credentials.shown(auth, request.headers) if echoed else request.headers,
        key=arrival.key,
        body_sha256=sha256(body),
        data=data if isinstance(data, dict) else {},
    )


def _admitted(world: World, arrival: Arrival) -> bool:
    if arrival.operation == tokens.OPERATION:
        return True
    if world.auth.type is credentials.AuthType.OAUTH2:
        return world.desk.knows(arrival.credential_sha256, time.time())
    return world.auth.met_by(arrival.credential_sha256)


def _perform(world: World, arrival: Arrival, ask: Ask) -> Answer:
    if arrival.operation == tokens.OPERATION:
        url = f"http://{ask.headers.get('Host', '')}{ask.path}"
        return world.desk.perform(ask.data, ask.headers, url, time.time())
    answer = world.shop.perform(ask)
    if answer.effect is not None:
        world.record.executed(arrival, answer.effect)
    return answer


async def _wait(world: World, behaviour: Behaviour, point: Point) -> None:
    if behaviour.point is not point:
        return
    if behaviour.seconds:
        await asyncio.sleep(behaviour.seconds)
    if behaviour.do is Kind.HOLD:
        await world.hold()


def _unauthorized(auth: credentials.Requirement, give: Callable[[int], None]) -> web.Response:
    give(401)
    challenge = {"WWW-Authenticate": auth.challenge()}
    return web.json_response({"error": {"code": "unauthorized"}}, status=401, headers=challenge)


def _consented(back: str | None, give: Callable[[int], None]) -> web.Response:
    """Send a browser back as if its person had pressed the button."""
    give(400 if back is None else 302)
    return web.Response(status=400) if back is None else web.Response(status=302, headers={"Location": back})


def _slow_down(give: Callable[[int], None]) -> web.Response:
    give(429)
    return web.json_response({"error": {"code": "rate_limited"}}, status=429)


async def listen(host: str, port: int) -> tuple[asyncio.Server, Vendor]:
    """Open the door; the second value must be shut down after the first is closed."""
    vendor = Vendor()
    return await asyncio.get_running_loop().create_server(vendor, host, port, backlog=BACKLOG), vendor

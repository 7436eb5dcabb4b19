"""The twin of the scripted vendor, as the gateway's engine sees it: the same rooms of `tests/vendor`, without sockets.

What is judged (script, business, limits, books) is the real thing; only the shell is another one, and a conformance suite holds both
shells against each other. It stands where `connectors.transport.Engine` stands.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from connectors.exchange import Ambiguous, Answered, Cut, Exchange, Fault, NotSent, RenderedRequest, SendPolicy
from tests.vendor.faults import encode
from tests.vendor.limiter import Verdict
from tests.vendor.record import Arrival
from tests.vendor.script import Behaviour, Kind, Point, Script
from tests.vendor.shop import Answer, Ask, operation_of, sha256
from tests.vendor.world import World

JSON: Final = {"content-type": "application/json"}
NO_EFFECT: Final = Answer(status=200, body={})
PAGES: Final[Mapping[Kind, tuple[str, bytes]]] = {
    Kind.GARBAGE: ("application/json", b'{"id": \xff\xfe, "email"'),
    Kind.WRONG_TYPE: ("text/html; charset=utf-8", b"<html><body>Welcome back!</body></html>"),
}
REFUSED: Final = b'{"error": {"code": "rate_limited"}}'
BROKEN: Final[Mapping[Kind, str]] = {
    Kind.RESET: "The vendor broke the connection before it answered (Connection reset by peer).",
    Kind.CLOSE: "The vendor closed the connection after the request was sent.",
}
LATE: Final = "The worker was held up until its lease had ended; nothing was sent."
Spoken = Answered | Ambiguous
_decode = msgspec.json.decode


class TwinVendor:
    """The vendor's side: arrivals in, answers out. `clock` gives microseconds since the epoch."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.world = World()
        self.away = False
        """Nobody listens: connections are refused."""
        self._clock = clock

    def misbehaves(self) -> bool:
        """Tell whether its script has anything left to do."""
        return self.world.script.live

    def heal(self) -> None:
        """Do what it should from now on."""
        self.world.script = Script()

    async def serve(self, request: RenderedRequest) -> Spoken | None:
        """Book an arrival and answer it; None: it never does."""
        now_us, parts = self._clock(), urlsplit(request.url)
        arrival = Arrival(
            mono_us=now_us,
            wall_us=now_us,
            method=request.method,
            path=parts.path,
            operation=operation_of(request.method, parts.path),
            key=request.headers.get("idempotency-key"),
            traceparent=request.headers.get("traceparent"),
        )
        world = self.world
        world.record.arrive(arrival)
        verdict = world.limits.judge(arrival.operation, now_us, now_us)
        try:
            return await self._answer(request, arrival, verdict, dict(parse_qsl(parts.query)))
        finally:
            arrival.done_us = self._clock()

    async def _answer(
        self, request: RenderedRequest, arrival: Arrival, verdict: Verdict, query: Mapping[str, str]
    ) -> Spoken | None:
        world, body = self.world, request.body or b""
        ask = _ask(arrival, request, body, query)
        arrival.ref, arrival.body_sha256 = ask.ref, ask.body_sha256
        if verdict.refused:
            world.record.answered(arrival, 429)
            told = {**verdict.headers, "content-type": "application/json; charset=utf-8"}
            return _answered(429, REFUSED, told, request)
        behaviour = world.script.choose(arrival.operation, arrival.key, arrival.ref, arrival.path)
        await self._wait(behaviour, Point.BEFORE)
        answer = NO_EFFECT
        if behaviour.has_effect:
            answer = world.shop.perform(ask)
            if answer.effect is not None:
                world.record.executed(arrival, answer.effect)
        await self._wait(behaviour, Point.AFTER)
        spoken = _spoken(behaviour, answer, request, verdict)
        if isinstance(spoken, Answered):
            world.record.answered(arrival, spoken.status)
        return spoken

    async def _wait(self, behaviour: Behaviour, point: Point) -> None:
        if behaviour.point is point and behaviour.seconds:
            await asyncio.sleep(behaviour.seconds)


class TwinEngine:
    """The gateway's side: one request, once. `latency` gives the seconds of one way over the wire."""

    def __init__(self, vendor: TwinVendor, latency: Callable[[], float] = lambda: 0.0) -> None:
        self._vendor = vendor
        self._latency = latency

    async def send(self, request: RenderedRequest, policy: SendPolicy) -> Exchange:
        """Send `request`; what is on its way arrives, whatever becomes of who sent it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(self._latency())
        if self._vendor.away:
            return NotSent(Fault.REFUSED, "127.0.0.1 did not accept a connection.", loop.time() - began)
        if not policy.holds():
            return NotSent(Fault.LATE, LATE, loop.time() - began)
        back: asyncio.Future[Spoken] = loop.create_future()
        exchange = self._exchange(request, back)
        loop.call_later(self._latency(), lambda: loop.create_task(exchange, context=Context()), context=Context())
        try:
            async with asyncio.timeout(policy.timeout_s - (loop.time() - began)):
                spoken = await back
        except TimeoutError:
            told = "The vendor did not answer in time after the request was sent."
            return Ambiguous(Fault.RECEIVE_TIMEOUT, told, loop.time() - began, len(request.body or b""))
        return _timed(spoken, loop.time() - began)

    async def _exchange(self, request: RenderedRequest, back: "asyncio.Future[Spoken]") -> None:
        spoken = await self._vendor.serve(request)
        if spoken is None:
            return
        await asyncio.sleep(self._latency())
        if not back.done():
            back.set_result(spoken)


def _ask(arrival: Arrival, request: RenderedRequest, body: bytes, query: Mapping[str, str]) -> Ask:
    try:
        data = _decode(body) if body else {}
    except msgspec.DecodeError:
        data = {}
    return Ask(
        operation=arrival.operation,
        method=arrival.method,
        path=arrival.path,
        query=query,
        headers=request.headers,
        key=arrival.key,
        body_sha256=sha256(body),
        data=data if isinstance(data, dict) else {},
    )


def _spoken(behaviour: Behaviour, answer: Answer, request: RenderedRequest, verdict: Verdict) -> Spoken | None:
    """Say what the vendor's words become at the engine; None: it says nothing."""
    if behaviour.do is Kind.HANG:
        return None
    if behaviour.do in BROKEN:
        return Ambiguous(Fault.RECEIVE_RESET, BROKEN[behaviour.do], 0.0, len(request.body or b""))
    if behaviour.do is Kind.STATUS:
        return _scripted(behaviour, verdict, request)
    if behaviour.do in PAGES:
        told_as, page = PAGES[behaviour.do]
        return _answered(200, page, {**verdict.headers, "content-type": told_as}, request)
    body = encode(answer.body)
    if behaviour.do is Kind.TRUNCATE:
        return _answered(answer.status, body[: len(body) // 2], {}, request, cut=Cut.LOST)
    if behaviour.do not in {Kind.OK, Kind.DELAY}:
        raise NotImplementedError(f"the twin cannot {behaviour.do}")
    return _answered(answer.status, body, verdict.headers, request)


def _scripted(behaviour: Behaviour, verdict: Verdict, request: RenderedRequest) -> Answered:
    given = behaviour.status or 500
    if behaviour.body is None:
        body = b"" if given in {204, 304} else encode({"error": {"code": f"scripted_{given}"}})
    else:
        body = behaviour.body.encode() if isinstance(behaviour.body, str) else encode(behaviour.body)
    return _answered(given, body, {**behaviour.headers, **verdict.headers}, request)


def _answered(
    status: int, body: bytes, headers: Mapping[str, str], request: RenderedRequest, *, cut: Cut | None = None
) -> Answered:
    told = {**JSON, **{name.lower(): text for name, text in headers.items()}, "content-length": str(len(body))}
    return Answered(status, told, body, cut, "1.1", 0.0, len(request.body or b""))


def _timed(spoken: Spoken, took_s: float) -> Spoken:
    if isinstance(spoken, Ambiguous):
        return Ambiguous(spoken.fault, spoken.message, took_s, spoken.bytes_out)
    return Answered(
        spoken.status, spoken.headers, spoken.body, spoken.truncated, spoken.http_version, took_s, spoken.bytes_out
    )

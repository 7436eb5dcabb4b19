"""The twin of the vendor against the vendor: the same script and requests, the same answers at the engine, the same books."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest

from connectors.exchange import Ambiguous, Answered, Exchange, NotSent, RenderedRequest, SendPolicy
from connectors.transport import Engine
from tests.twins.vendor import TwinEngine, TwinVendor
from tests.vendor.client import VendorProcess
from tests.vendor.limiter import LimitRequest
from tests.vendor.record import Counts
from tests.vendor.script import Behaviour, Kind, Point

TIMEOUT_S = 0.5
POLICY = SendPolicy(
    timeout_s=TIMEOUT_S, allow_private=True, fresh=True, cap_wire_bytes=1 << 20, cap_decoded_bytes=1 << 20
)
UNTOLD = {"date", "server", "x-ratelimit-reset", "connection", "content-length"}
"""Headers of the wire, of the server and of its clock: nothing is judged by them."""

BEHAVIOURS: tuple[Behaviour, ...] = (
    *(Behaviour(do=Kind.STATUS, status=status) for status in (204, 400, 404, 409, 422, 500, 502, 503)),
    Behaviour(do=Kind.STATUS, status=500, executes=True),
    Behaviour(do=Kind.STATUS, status=429, headers={"Retry-After": "3"}),
    Behaviour(do=Kind.STATUS, status=503, body={"error": "later"}),
    Behaviour(do=Kind.STATUS, status=200, body="no json"),
    Behaviour(do=Kind.RESET),
    Behaviour(do=Kind.RESET, executes=True),
    Behaviour(do=Kind.CLOSE),
    Behaviour(do=Kind.CLOSE, executes=True),
    Behaviour(do=Kind.TRUNCATE),
    Behaviour(do=Kind.GARBAGE),
    Behaviour(do=Kind.WRONG_TYPE),
    Behaviour(do=Kind.DELAY, seconds=0.05),
    Behaviour(do=Kind.DELAY, seconds=0.05, point=Point.AFTER),
    Behaviour(do=Kind.DELAY, seconds=2 * TIMEOUT_S),
    Behaviour(do=Kind.DELAY, seconds=2 * TIMEOUT_S, point=Point.AFTER),
    Behaviour(do=Kind.HANG),
    Behaviour(do=Kind.HANG, executes=False),
)


def _contact(dice: Random) -> tuple[str, str, Any, str | None]:
    key = dice.choice(("k1", "k2", "k3", None))
    return "POST", "/v1/contacts", dice.choice(({"email": "a@b.c"}, {"email": "d@e.f"}, {"name": "x"})), key


REQUESTS: tuple[Callable[[Random], tuple[str, str, Any, str | None]], ...] = (
    _contact,
    _contact,
    lambda d: ("GET", f"/v1/contacts/{d.choice(('c-1', 'c-2', 'missing'))}", None, None),
    lambda d: ("PUT", "/v1/contacts/c-1", {"email": d.choice(("a@b.c", "d@e.f"))}, None),
    lambda d: ("POST", "/v1/messages", d.choice(({"ref": "r1", "text": "t"}, {"ref": "r2", "text": "t"}, {})), None),
    lambda d: ("GET", f"/v1/messages?ref={d.choice(('r1', 'r2'))}", None, None),
    lambda d: ("POST", "/v1/orders", {"ref": d.choice(("r1", "r2")), "item": "i"}, None),
    lambda _: ("GET", "/v1/orders?ref=r1", None, None),
    lambda _: ("GET", "/v1/nothing", None, None),
)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    await engine.open()
    yield engine
    await engine.close()


async def test_random_requests_are_answered_and_booked_alike(engine: Engine) -> None:
    dice = Random(1)
    async with VendorProcess() as real:
        for _ in range(3):
            await real.aio.reset()
            twin = TwinVendor(_now_us)
            acts = []
            for operation in ("contacts.create", "orders.create", "*"):
                drawn = [dice.choice(BEHAVIOURS) for _ in range(4)]
                await real.aio.script(operation, *drawn)
                twin.world.script.set(operation, drawn)
                acts += drawn
            for _ in range(20):
                await _alike(engine, TwinEngine(twin), real.url, dice.choice(REQUESTS)(dice))
            await _booked(real, twin, *acts)


async def test_each_behaviour_is_answered_and_booked_alike(engine: Engine) -> None:
    async with VendorProcess() as real:
        for behaviour in BEHAVIOURS:
            await real.aio.reset()
            twin = TwinVendor(_now_us)
            await real.aio.script("orders.create", behaviour)
            twin.world.script.set("orders.create", [behaviour])
            await _alike(engine, TwinEngine(twin), real.url, ("POST", "/v1/orders", {"ref": "r", "item": "i"}, None))
            await _booked(real, twin, behaviour)


async def test_the_vendors_own_limit_refuses_alike(engine: Engine) -> None:
    rule = LimitRequest(most=2, window=30.0, told=True)
    async with VendorProcess() as real:
        await real.aio.limit(rule)
        twin = TwinVendor(_now_us)
        twin.world.limits.set(rule)
        for _ in range(4):
            await _alike(engine, TwinEngine(twin), real.url, ("GET", "/v1/contacts/c-1", None, None))
        await _booked(real, twin)


async def test_nobody_listening_and_a_lease_that_is_over_are_alike(engine: Engine) -> None:
    vendor = VendorProcess().start()
    asked = ("GET", "/v1/contacts/c-1", None, None)
    over = replace(POLICY, holds=lambda: False)
    twin = TwinVendor(_now_us)
    try:
        await _alike(engine, TwinEngine(twin), vendor.url, asked, over)
        assert twin.world.record.total == vendor.counts().arrivals == 0
    finally:
        vendor.kill()
    twin.away = True
    await _alike(engine, TwinEngine(twin), vendor.url, asked)


async def _alike(
    engine: Engine, twin: TwinEngine, url: str, asked: tuple[str, str, Any, str | None], policy: SendPolicy = POLICY
) -> None:
    method, path, body, key = asked
    headers = {"content-type": "application/json"} if body is not None else {}
    if key is not None:
        headers["idempotency-key"] = key
    sent = None if body is None else msgspec.json.encode(body)
    request = RenderedRequest(method=method, url=url + path, headers=headers, body=sent)
    answers = await asyncio.gather(engine.send(request, policy), twin.send(request, policy))
    assert _seen(answers[0]) == _seen(answers[1]), asked


async def _booked(real: VendorProcess, twin: TwinVendor, *behaviours: Behaviour) -> None:
    """Compare the books, once what was late has happened."""
    if any(behaviour.seconds > TIMEOUT_S for behaviour in behaviours):
        await asyncio.sleep(1.6 * TIMEOUT_S)
    books: list[Any] = []
    for _ in range(100):
        books = [_books(await real.aio.counts()), _books(twin.world.record.counts(refused=twin.world.limits.refused))]
        if books[0] == books[1]:
            return
        await asyncio.sleep(0.1)
    assert books[0] == books[1]


def _books(counts: Counts) -> Any:
    return msgspec.to_builtins(counts) | {"held": 0}


def _seen(exchange: Exchange) -> Any:
    """Return what the gateway judges by."""
    match exchange:
        case Answered():
            headers = {name: text for name, text in exchange.headers.items() if name not in UNTOLD}
            return (
                exchange.status,
                headers,
                exchange.body,
                exchange.truncated,
                exchange.http_version,
                exchange.bytes_out,
            )
        case Ambiguous():
            return exchange.fault, exchange.bytes_out
        case NotSent():
            return exchange.fault


def _now_us() -> int:
    return int(asyncio.get_running_loop().time() * 1_000_000)

"""Proves that the vendor misbehaves as it is told, over real sockets, and that its books stay true meanwhile."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.vendor.client import VendorProcess, VendorRefused
from tests.vendor.faults import HANDLERS
from tests.vendor.script import EXECUTES, Behaviour, Kind, Point, Script

pytest_plugins = ["tests.vendor.fixtures"]
pytestmark = pytest.mark.wire


def contact(key: str, email: str = "ada@example.com") -> dict[str, Any]:
    return {"json": {"email": email}, "headers": {"Idempotency-Key": key}}


async def test_behaviours_are_used_up_in_order_and_then_the_vendor_is_good_again(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    limited = Behaviour(do=Kind.STATUS, status=429, headers={"Retry-After": "7"}, body={"why": "too fast"}, count=2)
    vendor.script("messages.send", limited, Behaviour(do=Kind.STATUS, status=503))
    seen = []
    for _ in range(4):
        async with vendor_session.post("/v1/messages", json={"ref": "r"}) as response:
            seen.append((response.status, response.headers.get("Retry-After")))
    assert seen == [(429, "7"), (429, "7"), (503, None), (201, None)]
    assert vendor.counts().effects == {"messages.send": {"r": 1}}


async def test_a_status_can_lie_about_an_effect_that_happened(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("*", Behaviour(do=Kind.STATUS, status=500, executes=True))
    for expected in (500, 201):
        async with vendor_session.post("/v1/contacts", **contact("k")) as response:
            assert response.status == expected
    assert vendor.counts().effects == {"contacts.create": {"k": 1}}


async def test_a_behaviour_can_be_meant_for_one_ref_only(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("*", Behaviour(do=Kind.STATUS, status=500, match="poison", forever=True))
    for ref, status in (("fine", 201), ("poison-1", 500), ("fine-too", 201), ("poison-2", 500)):
        async with vendor_session.post("/v1/messages", json={"ref": ref}) as response:
            assert response.status == status


async def test_a_delayed_call_executes_although_its_caller_has_gone(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.2))
    with pytest.raises(TimeoutError):
        await vendor_session.post("/v1/messages", json={"ref": "r"}, timeout=aiohttp.ClientTimeout(total=0.05))
    assert vendor.counts().effects_total == 0
    await vendor.aio.until(effects_total=1)


@pytest.mark.parametrize(("point", "effects"), [(Point.BEFORE, 0), (Point.AFTER, 1)])
async def test_calls_can_be_frozen_before_and_after_their_effect(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession, point: Point, effects: int
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.HOLD, point=point, count=2))
    flying = [asyncio.create_task(vendor_session.post("/v1/messages", json={"ref": f"r{n}"})) for n in range(2)]
    assert (await vendor.aio.until(held=2)).effects_total == 2 * effects
    assert await vendor.aio.release() == 2
    for response in await asyncio.gather(*flying):
        assert response.status == 201
        response.release()
    counts = vendor.counts()
    assert (counts.held, counts.effects_total) == (0, 2)


@pytest.mark.parametrize("executes", [True, False])
@pytest.mark.parametrize(
    ("kind", "error"),
    [(Kind.RESET, aiohttp.ClientOSError), (Kind.CLOSE, aiohttp.ServerDisconnectedError), (Kind.HANG, TimeoutError)],
)
async def test_an_answer_can_stay_out_with_or_without_the_effect(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession, kind: Kind, error: type[Exception], *, executes: bool
) -> None:
    vendor.script("messages.send", Behaviour(do=kind, executes=executes))
    with pytest.raises(error):
        await vendor_session.post("/v1/messages", json={"ref": "r"}, timeout=aiohttp.ClientTimeout(total=0.5))
    counts = vendor.counts()
    assert counts.effects_total == int(executes)
    assert (counts.arrivals, counts.unanswered) == (1, 1)


async def test_a_truncated_answer_breaks_off_after_its_effect(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.TRUNCATE))
    async with vendor_session.post("/v1/messages", json={"ref": "r"}) as response:
        assert response.status == 201
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert vendor.counts().effects_total == 1


async def test_a_dripping_answer_comes_byte_by_byte(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("echo", Behaviour(do=Kind.DRIP, size=1000, interval=0.001), Behaviour(do=Kind.DRIP, interval=0.02))
    async with vendor_session.get("/v1/echo") as response:
        body = await response.read()
        assert len(body) == 1000
        assert json.loads(body)["path"] == "/v1/echo"
    with pytest.raises(TimeoutError):
        async with vendor_session.get("/v1/echo", timeout=aiohttp.ClientTimeout(total=0.15)) as response:
            await response.read()


async def test_answers_can_be_hostile(vendor: VendorProcess, vendor_session: aiohttp.ClientSession) -> None:
    vendor.script(
        "echo",
        Behaviour(do=Kind.REDIRECT, url="http://169.254.169.254/latest"),
        Behaviour(do=Kind.GZIP_BOMB, size=2**20),
        Behaviour(do=Kind.GARBAGE),
        Behaviour(do=Kind.WRONG_TYPE),
    )
    async with vendor_session.get("/v1/echo", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "http://169.254.169.254/latest")
    async with vendor_session.get("/v1/echo") as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert int(response.headers["Content-Length"]) < 5_000
        assert await response.read() == bytes(2**20)
    async with vendor_session.get("/v1/echo") as response:
        with pytest.raises(ValueError, match="codec"):
            json.loads((await response.read()).decode())
        assert response.content_type == "application/json"
    async with vendor_session.get("/v1/echo") as response:
        assert (response.status, response.content_type) == (200, "text/html")


async def test_a_header_flood_is_more_than_a_client_bears(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.HEADER_FLOOD))
    with pytest.raises(aiohttp.ClientError):
        await vendor_session.post("/v1/messages", json={"ref": "r"})
    assert vendor.counts().effects_total == 1


@pytest.mark.parametrize(
    ("operation", "behaviour"),
    [
        ("messages.sent", {"do": "ok"}),
        ("*", {"do": "explode"}),
        ("*", {"do": "ok", "tims": 3}),
        ("*", {"do": "status"}),
    ],
)
def test_a_script_with_a_mistake_is_refused(vendor: VendorProcess, operation: str, behaviour: dict[str, Any]) -> None:
    with pytest.raises(VendorRefused, match="400"):
        vendor._call("POST", "script", {"operation": operation, "behaviours": [behaviour]})


def test_the_dice_of_a_behaviour_are_seeded() -> None:
    def run() -> list[Kind]:
        script = Script()
        script.set("*", [Behaviour(do=Kind.RESET, probability=0.3, seed=7, forever=True)])
        return [script.choose("echo").do for _ in range(1000)]

    first = run()
    assert first == run()
    assert 230 < first.count(Kind.RESET) < 370


def test_rules_of_the_operation_come_before_those_of_all() -> None:
    script = Script()
    script.set("*", [Behaviour(do=Kind.HANG, forever=True)])
    script.set("echo", [Behaviour(do=Kind.RESET)])
    script.set("echo", [Behaviour(do=Kind.CLOSE)], append=True)
    assert [script.choose("echo").do for _ in range(3)] == [Kind.RESET, Kind.CLOSE, Kind.HANG]
    assert script.choose("big").do is Kind.HANG


def test_every_kind_has_its_facts_and_its_handler() -> None:
    assert set(EXECUTES) == set(Kind) == set(HANDLERS)

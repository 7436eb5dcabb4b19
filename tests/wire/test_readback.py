"""Reading back, by the vendor's counts: what ran is never sent again, what did not is sent once more, and a person decides the rest."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.served import Served, bearer, served
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind
from tests.wire.letters import LOST, ORDER, RAN_AND_LOST, declared, letter, replayed, show

pytestmark = pytest.mark.wire

Serve = Callable[..., Any]
LOST_ONCE = Behaviour(do=Kind.RESET, executes=False)


def settling(text: str, settle: str = "400ms", attempts: int = 2) -> str:
    return text.replace("settle: 30s", f"settle: {settle}").replace("max_attempts: 1", f"max_attempts: {attempts}")


@pytest.fixture
def serve(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> Serve:
    @asynccontextmanager
    async def running(change: Callable[[str], str] = settling) -> AsyncIterator[Served]:
        text = declared(vendor, tmp_path, change)
        async with served(redis_url, tmp_path / "data", text, beat_every=0.1) as gateway:
            yield gateway

    return running


async def order(gateway: Served, ref: str = "r1", tool: str = ORDER, **more: Any) -> dict[str, Any]:
    """Make a call and wait for its end."""
    headers = {**bearer("one"), "Prefer": "wait=30"}
    body = {"tool": tool, "arguments": {"ref": ref, "item": "i"}, **more}
    answer = await gateway.http.post("/v1/calls", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    ended: dict[str, Any] = answer.json()
    return ended


def arrived(vendor: VendorProcess) -> tuple[int, int]:
    """Return how often the order came in, and how often somebody looked for it."""
    counts = vendor.counts().by_operation
    return counts.get("orders.create", 0), counts.get("orders.list", 0)


async def test_what_ran_is_found_and_completes_with_what_the_vendor_shows(serve: Serve, vendor: VendorProcess) -> None:
    vendor.script("orders.create", RAN_AND_LOST)
    async with serve() as gateway:
        ended = await order(gateway)
    assert (ended["state"], ended["effect"], ended["evidence"]) == ("completed", "executed", "read_back"), ended
    assert ended["result"] == {"ref": "r1", "item": "i", "id": "o-1"}
    assert ended["summary"] == "It ran: its answer was lost, and crm.orders.list shows it."
    assert (ended["attempts"], ended["error"]) == (1, None)
    assert arrived(vendor) == (1, 1)
    assert vendor.counts().effects_by_ref["orders.create"] == {"r1": 1}


async def test_what_did_not_run_is_sent_again_only_after_its_effect_would_show(
    serve: Serve, vendor: VendorProcess
) -> None:
    vendor.script("orders.create", LOST_ONCE)
    async with serve() as gateway:
        ended = await order(gateway)
    assert (ended["state"], ended["effect"], ended["attempts"]) == ("completed", "executed", 2), ended
    sends, looks = arrived(vendor)
    assert sends == 2
    assert looks >= 2
    assert vendor.counts().effects_by_ref["orders.create"] == {"r1": 1}
    first, second = vendor.arrivals("orders.create")
    last_look = vendor.arrivals("orders.list")[-1]
    assert first.seq < last_look.seq < second.seq
    assert second.mono_us - first.mono_us >= 400_000


async def test_an_effect_that_shows_late_is_found_by_a_later_look(serve: Serve, vendor: VendorProcess) -> None:
    vendor.script("orders.create", RAN_AND_LOST)
    vendor.script("orders.list", Behaviour(do=Kind.STATUS, status=200, body={"items": []}, count=2))
    async with serve() as gateway:
        ended = await order(gateway)
    assert (ended["state"], ended["attempts"]) == ("completed", 1), ended
    assert arrived(vendor) == (1, 3)


async def test_without_attempts_left_it_fails_as_not_executed(serve: Serve, vendor: VendorProcess) -> None:
    vendor.script("orders.create", LOST)
    async with serve(lambda text: settling(text, attempts=1)) as gateway:
        one = await letter(gateway, ORDER, {"ref": "r1", "item": "i"})
        shown = await show(gateway, one)
    assert (shown["effect"], shown["record"]["effect"]["evidence"]) == ("not_executed", "read_back")
    assert shown["record"]["failure"]["class"] == "receive.reset"
    assert arrived(vendor)[0] == 1


def listing(body: Any, status: int = 200) -> Behaviour:
    return Behaviour(do=Kind.STATUS, status=status, body=body, forever=True)


UNDECIDED = {
    "two": (listing({"items": [{"ref": "r1", "id": "a"}, {"ref": "r1", "id": "b"}]}), "the vendor shows 2"),
    "others": (listing({"items": [{"ref": "r2", "id": "a"}]}), "may stand on a further page"),
    "pages": (listing({"items": [], "next_cursor": "x"}), "the list has further pages"),
    "shape": (listing({"orders": []}), "there is no list"),
    "forbidden": (listing({}, 403), "answered 403"),
    "failing": (listing({}, 500), "answered 500"),
}


@pytest.mark.parametrize("case", UNDECIDED)
async def test_an_answer_that_proves_nothing_leaves_it_to_a_person(
    case: str, serve: Serve, vendor: VendorProcess
) -> None:
    behaviour, said = UNDECIDED[case]
    vendor.script("orders.create", LOST)
    vendor.script("orders.list", behaviour)
    async with serve(lambda text: settling(text, "40ms")) as gateway:
        ended = await order(gateway)
    assert (ended["state"], ended["effect"]) == ("escalated", "unknown"), ended
    assert ended["error"]["class"] == "receive.reset"
    assert said in ended["error"]["message"]
    assert "sluice dlq resolve" in ended["error"]["action"]
    assert "evidence" not in ended
    assert arrived(vendor)[0] == 1


async def test_a_look_takes_its_share_of_the_limits_of_its_own_lane(serve: Serve, vendor: VendorProcess) -> None:
    def limited(text: str) -> str:
        limits = "limits: {core: {rate: 4/s, per: connector}}\ndefaults: {limits: {core: 1}, "
        return settling(text, "100ms").replace("defaults: {", limits)

    vendor.script("orders.create", Behaviour(do=Kind.RESET, executes=True, forever=True))
    vendor.script("orders.list", Behaviour(do=Kind.STATUS, status=503, probability=0.3, seed=1, forever=True))
    async with serve(limited) as gateway:
        for number in range(4):
            ended = await order(gateway, f"r{number}")
            assert ended["state"] == "completed", ended
    assert vendor.window(1.0) <= 4
    assert sum(arrived(vendor)) >= 8


async def test_while_the_read_is_paused_nobody_asks_and_the_call_says_what_it_waits_for(
    serve: Serve, vendor: VendorProcess
) -> None:
    vendor.script("orders.create", RAN_AND_LOST)
    async with serve() as gateway:
        pause = {"tool": "crm.orders.list", "reason": "they asked us to"}
        paused = await gateway.http.post("/v1/lanes/pause", json=pause, headers=bearer("night"))
        assert paused.status_code == 200, paused.text
        body = {"tool": ORDER, "arguments": {"ref": "r1", "item": "i"}}
        headers = {**bearer("one"), "Prefer": "wait=2"}
        waiting = (await gateway.http.post("/v1/calls", json=body, headers=headers)).json()
        assert waiting["hold"]["reason"] == "paused", waiting
        assert waiting["hold"]["detail"].startswith("Whether it ran is asked first.")
        lanes = (await gateway.http.get("/v1/lanes", headers=bearer("night"))).json()["lanes"]
        assert [(one["lane"], one["live"]) for one in lanes] == [("crm|-|orders.list", 1)]
        assert arrived(vendor) == (1, 0)
        resume = {"tool": "crm.orders.list"}
        await gateway.http.post("/v1/lanes/resume", json=resume, headers=bearer("night"))
        ended = (await gateway.http.get(f"/v1/calls/{waiting['call']}?wait=20", headers=bearer("one"))).json()
    assert (ended["state"], arrived(vendor)) == ("completed", (1, 1))


async def test_a_replay_asks_first_and_calls_only_what_is_not_there(serve: Serve, vendor: VendorProcess) -> None:
    vendor.script("orders.create", Behaviour(do=Kind.RESET, executes=True, match="ran", forever=True), LOST)
    vendor.script("orders.list", listing({}, 403))
    async with serve(lambda text: settling(text, attempts=1)) as gateway:
        ran = await letter(gateway, ORDER, {"ref": "ran", "item": "i"})
        lost = await letter(gateway, ORDER, {"ref": "lost", "item": "i"})
        vendor.script("orders.create")
        before = arrived(vendor)[0]
        still = await replayed(gateway, ran)
        assert (still["read_backs"], still["progress"]["replayed_failed"]) == (1, 1), still
        successor = still["letters"][0]["successor"]
        assert (await show(gateway, successor))["effect"] == "unknown"
        vendor.script("orders.list")
        over = await replayed(gateway, successor, lost)
        assert (over["read_backs"], over["progress"]["replayed_ok"]) == (2, 2), over
        calls = {one["letter"]: one["call"] for one in over["letters"]}
        found = (await gateway.http.get(f"/v1/calls/{calls[successor]}", headers=bearer("one"))).json()
    assert (found["evidence"], found["result"]["ref"], found["attempts"]) == ("read_back", "ran", [])
    assert arrived(vendor)[0] == before + 1
    assert vendor.counts().effects_by_ref["orders.create"] == {"ran": 1, "lost": 1}


async def test_what_is_found_is_held_against_the_contract_of_the_call(serve: Serve, vendor: VendorProcess) -> None:
    def promising(text: str) -> str:
        promise = "    output: {type: object, required: [total], properties: {total: {type: integer}}}\n"
        return settling(text).replace("    class: verifiable\n", promise + "    class: verifiable\n")

    vendor.script("orders.create", RAN_AND_LOST)
    async with serve(promising) as gateway:
        ended = await order(gateway)
    assert (ended["state"], ended["effect"], ended["error"]["class"]) == ("failed", "executed", "schema.breaking")
    assert arrived(vendor)[0] == 1


async def test_a_key_that_the_vendor_was_sent_can_be_asked_for(serve: Serve, vendor: VendorProcess) -> None:
    def by_key(text: str) -> str:
        return settling(text).replace('where: {/ref: "{ref}"}', 'where: {/ref: "{idempotency_key}"}')

    vendor.script("orders.create", RAN_AND_LOST)
    async with serve(by_key) as gateway:
        told = await order(gateway, "my-key", idempotency_key="my-key")
        untold = await order(gateway, "r2", idempotency_key="another")
    assert told["state"] == "completed"
    assert untold["state"] == "escalated"
    assert "never told the idempotency key" in untold["error"]["message"]
    assert vendor.counts().effects_by_ref["orders.create"] == {"my-key": 1, "r2": 1}

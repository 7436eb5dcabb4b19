"""Lanes over HTTP, on a real Redis, with a real vendor and a limit that binds: why a call waits, how long, and who must act."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from tests.served import Served, assert_problem, bearer, people, served
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

ECHO = "crm.echo"
LANE = "crm|-|echo"


def limited(url: str, limits: str) -> str:
    """Return the vendor's manifest with one limit `core`, which every operation takes one of."""
    text = manifest(url).replace("\noperations:\n", f"\nlimits: {{core: {limits}}}\noperations:\n", 1)
    return text.replace("defaults: {", "defaults: {limits: {core: 1}, ", 1)


@pytest.fixture
async def paced(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    async with served(redis_url, tmp_path, limited(vendor.url, "{rate: 5/s, per: connector}")) as gateway:
        yield gateway


@pytest.fixture
async def peopled(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    agents = {"one": "crm.contacts.*", "other": "crm.*"}
    operators = {"viewer": "viewer", "night-shift": "operator"}
    manifests = limited(vendor.url, "{concurrency: 1, per: connector}") + people(tmp_path, agents, operators)
    async with served(redis_url, tmp_path, manifests) as gateway:
        yield gateway


async def send(gateway: Served, count: int, tool: str = ECHO, **more: Any) -> list[str]:
    """Publish calls without waiting for them; returns their ids."""
    bodies = [{"tool": tool, "arguments": {}} for _ in range(count)]
    answers = await asyncio.gather(*(gateway.http.post("/v1/calls", json=body, **more) for body in bodies))
    assert {answer.status_code for answer in answers} <= {200, 202}, [answer.text for answer in answers]
    return [answer.json()["call"] for answer in answers]


async def steer(gateway: Served, what: str, body: Any, **more: Any) -> httpx2.Response:
    return await gateway.http.post(f"/v1/lanes/{what}", json=body, **more)


async def hold_of(gateway: Served, call: str) -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/calls/{call}")
    assert answer.status_code == 202, answer.text
    hold: dict[str, Any] = answer.json()["hold"]
    return hold


async def until_held(gateway: Served, call: str, reason: str) -> dict[str, Any]:
    """Return the hold as soon as it has this reason."""
    async with asyncio.timeout(10):
        while True:
            hold = await hold_of(gateway, call)
            if hold["reason"] == reason:
                return hold
            await asyncio.sleep(0.02)


@pytest.mark.timed
async def test_a_call_that_waits_for_a_limit_is_told_which_one_its_place_and_when_it_will_start(
    paced: Served, vendor: VendorProcess
) -> None:
    calls = await send(paced, 21)
    looks = {call: (await paced.http.get(f"/v1/calls/{call}")).json() for call in calls}
    looked_s = time.monotonic()
    waiting = {call: look["hold"] for call, look in looks.items() if look.get("hold", {}).get("position") is not None}
    assert len(waiting) >= 14
    last, hold = max(waiting.items(), key=lambda one: one[1]["position"])
    assert hold["reason"] == "rate_limit"
    assert "limit core is used up (5 of 5 in 1 s)" in hold["detail"]
    assert hold["action"] == "Nothing to do."
    assert (await paced.http.get(f"/v1/calls/{last}?wait=20")).status_code == 200
    took_s = time.monotonic() - looked_s
    assert hold["eta_s"] == pytest.approx(took_s, rel=0.2, abs=0.15)


async def test_the_mark_of_memory_is_that_of_the_setting_or_of_redis_whichever_is_lower(paced: Served) -> None:
    redis: Any = paced.gateway.redis
    for maxmemory, mark in ((100_000_000, 80_000_000), (0, None)):
        await redis.config_set("maxmemory", maxmemory)
        assert (await paced.http.get("/v1/lanes")).json()["queue"]["memory_high_bytes"] == mark


@pytest.mark.timed
async def test_a_lane_shows_what_waits_what_holds_it_and_how_full_its_limits_are(paced: Served) -> None:
    await send(paced, 20)
    await asyncio.sleep(0.3)
    answer = (await paced.http.get("/v1/lanes")).json()
    assert answer["cursor"] is None
    (lane,) = answer["lanes"]
    assert (lane["lane"], lane["tool"], lane["connector"], lane["connection"]) == (LANE, ECHO, "crm", None)
    assert lane["live"] == lane["waiting"] + lane["under_way_or_delayed"]
    assert 0 < lane["waiting"] <= 15
    assert 0.25 <= lane["oldest_s"] < 3
    assert 1 < lane["eta_s"] < 4
    assert (lane["hold"]["reason"], lane["hold"]["limit"]) == ("rate_limit", "core")
    assert datetime.fromisoformat(lane["hold"]["until"]).tzinfo is not None
    limit = {"limit": "core", "kind": "strict", "most": 5, "window_s": 1.0, "used": 5, "learned": None}
    assert lane["limits"] == [limit]
    queue = answer["queue"]
    assert queue["calls"] == lane["live"]
    assert 0 < queue["bytes"] < queue["bytes_limit"]
    assert queue["memory_bytes"] > 0
    assert queue["memory_high_bytes"] is None
    assert queue["flooded"] is False
    assert [one["lane"] for one in (await paced.http.get("/v1/lanes?held=true&connector=crm")).json()["lanes"]] == [
        LANE
    ]
    for query in ("held=false", "connector=other"):
        assert (await paced.http.get(f"/v1/lanes?{query}")).json()["lanes"] == []


@pytest.mark.parametrize("name", [ECHO, "crm%7C-%7Cecho"])
async def test_one_lane_is_found_by_its_tool_or_by_its_own_name(paced: Served, name: str) -> None:
    shown = (await paced.http.get(f"/v1/lanes/{name}")).json()
    assert (shown["lane"], shown["live"], shown["oldest_s"], shown["hold"]) == (LANE, 0, None, None)
    assert shown["limits"][0]["used"] == 0


async def test_a_pause_holds_calls_and_says_why_and_who_must_act_until_it_is_resumed(
    paced: Served, vendor: VendorProcess
) -> None:
    paused = (await steer(paced, "pause", {"connector": "crm", "reason": "Upgrade of the vendor."})).json()
    assert paused == {"target": "crm", "reason": "Upgrade of the vendor.", "by": "anonymous", "until": None}
    (call,) = await send(paced, 1)
    hold = await until_held(paced, call, "paused")
    assert "crm is paused until it is resumed: Upgrade of the vendor (paused by anonymous)." in hold["detail"]
    assert hold["action"] == "An operator paused it; to go on: sluice lanes resume crm"
    assert (hold["position"], hold["eta_s"]) == (0, None)
    (lane,) = (await paced.http.get("/v1/lanes?held=true")).json()["lanes"]
    assert (lane["hold"]["reason"], lane["hold"]["limit"], lane["hold"]["until"]) == ("paused", None, None)
    assert await vendor.aio.arrivals("echo") == []
    waiting = asyncio.create_task(paced.http.get(f"/v1/calls/{call}?wait=20"))
    await asyncio.sleep(0.1)
    started_s = time.monotonic()
    resumed = await steer(paced, "resume", {"connector": "crm"})
    assert resumed.json() == {"target": "crm", "was_paused": True, "opened": [], "still": []}
    assert (await waiting).json()["state"] == "completed"
    assert time.monotonic() - started_s < 0.5  # a signal wakes the worker: the look once a second would be later


async def test_a_pause_with_a_time_ends_by_itself(paced: Served) -> None:
    paused = (await steer(paced, "pause", {"tool": ECHO, "reason": "a short rest", "for": "1500ms"})).json()
    assert paused["target"] == ECHO
    started_s = time.monotonic()
    (call,) = await send(paced, 1)
    hold = await until_held(paced, call, "paused")
    assert paused["until"] in hold["detail"]
    assert 0.5 < hold["eta_s"] <= 1.5
    answer = await paced.http.get(f"/v1/calls/{call}?wait=20")
    assert answer.json()["state"] == "completed"
    assert 1.3 < time.monotonic() - started_s < 3.0
    assert (await steer(paced, "resume", {"tool": ECHO})).json()["was_paused"] is False


async def test_a_pause_of_a_tool_leaves_the_connectors_other_lanes_alone(paced: Served) -> None:
    await steer(paced, "pause", {"tool": ECHO, "reason": "x"})
    (held,) = await send(paced, 1)
    assert (await paced.publish("crm.contacts.create", {"email": "a@b.c"})).json()["state"] == "completed"
    await until_held(paced, held, "paused")
    answer = (await steer(paced, "resume", {"connector": "crm"})).json()
    assert answer == {"target": "crm", "was_paused": False, "opened": [], "still": [ECHO]}
    await steer(paced, "resume", {"tool": ECHO})
    assert (await paced.http.get(f"/v1/calls/{held}?wait=20")).json()["state"] == "completed"


@pytest.mark.parametrize(
    ("what", "body", "status", "pointer"),
    [
        ("pause", {"connector": "crm"}, 400, ""),
        ("pause", {"connector": "crm", "reason": ""}, 400, "/reason"),
        ("pause", {"connector": "crm", "reason": " \t"}, 400, "/reason"),
        ("pause", {"connector": "crm", "reason": "two\nlines"}, 400, "/reason"),
        ("pause", {"connector": "crm", "reason": "x" * 201}, 400, "/reason"),
        ("pause", {"connector": "crm", "reason": 7}, 400, "/reason"),
        ("pause", {"connector": "crm", "reason": "x", "for": "soon"}, 400, "/for"),
        ("pause", {"connector": "crm", "reason": "x", "for": "31d"}, 400, "/for"),
        ("pause", {"connector": "crm", "reason": "x", "for": 30}, 400, "/for"),
        ("pause", {"connector": "crm", "reason": "x", "more": 1}, 400, ""),
        ("pause", {"connector": "crm", "tool": ECHO, "reason": "x"}, 400, None),
        ("pause", {"reason": "x"}, 400, None),
        ("pause", {"connector": "crm|x", "reason": "x"}, 400, "/connector"),
        ("pause", {"tool": "crm", "reason": "x"}, 400, "/tool"),
        ("pause", {"connector": "crn", "reason": "x"}, 404, "/connector"),
        ("pause", {"tool": "crm.ecko", "reason": "x"}, 404, "/tool"),
        ("pause", {"connector": "crm", "connection": "main", "reason": "x"}, 404, "/connection"),
        ("resume", {"connector": "crm", "reason": "x"}, 400, ""),
        ("resume", {"tool": "crm.ecko"}, 404, "/tool"),
        ("resume", [], 400, ""),
    ],
)
async def test_what_cannot_be_meant_is_told_with_its_place(
    paced: Served, what: str, body: Any, status: int, pointer: str | None
) -> None:
    answer = await steer(paced, what, body)
    problem = assert_problem(answer, status, answer.json()["class"])
    assert [error["pointer"] for error in problem["errors"]] == ([] if pointer is None else [pointer])
    if status == 404:
        assert "near to it" in problem["detail"] or "connection" in problem["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("?held=maybe", 400),
        ("?cursor=-1", 400),
        ("?cursor=18446744073709551616", 400),
        ("?cursor=%D9%A3", 400),
        ("/crm.ecko", 404),
        ("/crm", 400),
        ("/crm%7Cecho", 400),
        ("/crm%7C-%7Cgone", 404),
        ("/crm.echo?connection=main", 404),
        ("/crm%7C-%7Cecho?connection=main", 400),
    ],
)
async def test_a_look_at_nothing_is_refused(paced: Served, path: str, status: int) -> None:
    assert_problem(await paced.http.get(f"/v1/lanes{path}"), status, None)


async def test_an_agent_sees_the_lanes_of_its_tools_and_no_counts_and_pauses_nothing(
    peopled: Served, vendor: VendorProcess
) -> None:
    await vendor.aio.script("echo", Behaviour(do=Kind.HOLD, forever=True))
    (running,) = await send(peopled, 1, headers=bearer("other"))
    await vendor.aio.until(held=1)
    (waits,) = await send(peopled, 1, headers=bearer("other"))
    for name in ("one", "other", "viewer", "night-shift"):
        answer = (await peopled.http.get("/v1/lanes", headers=bearer(name))).json()
        assert [lane["lane"] for lane in answer["lanes"]] == ([] if name == "one" else [LANE])
        assert (answer["queue"] is None) == (name in {"one", "other"})
        for lane in answer["lanes"]:
            counts = {lane[field] for field in ("live", "waiting", "under_way_or_delayed", "oldest_s")}
            assert (counts == {None}) == (name == "other")
            assert (lane["hold"]["reason"], lane["hold"]["limit"]) == ("concurrency", "core")
    for unseen in (ECHO, "crm.ecko", "crm%7C-%7Cecho"):
        problem = assert_problem(await peopled.http.get(f"/v1/lanes/{unseen}", headers=bearer("one")), 404, None)
        assert "near" not in problem["detail"]
    assert (await peopled.http.get(f"/v1/lanes/{ECHO}", headers=bearer("other"))).json()["live"] is None
    assert_problem(await peopled.http.get("/v1/lanes"), 401, "ingest.auth")
    for name in ("one", "other", "viewer"):
        for what in ("pause", "resume"):
            answer = await steer(peopled, what, {"connector": "crm", "reason": "x"}, headers=bearer(name))
            assert_problem(answer, 403, "ingest.scope")
    paused = await steer(peopled, "pause", {"tool": ECHO, "reason": "x"}, headers=bearer("night-shift"))
    assert paused.json()["by"] == "night-shift"
    for name in ("one", "other", "viewer"):
        closed = (await peopled.http.get("/v1/lanes", headers=bearer(name))).json()["closed"]
        assert [(gate["target"], gate["hold"]["reason"]) for gate in closed] == [(ECHO, "paused")] * (name != "one")
    await vendor.aio.release()
    shown = (await peopled.http.get(f"/v1/calls/{running}?wait=20", headers=bearer("other"))).json()
    assert shown["state"] == "completed"
    hold = (await peopled.http.get(f"/v1/calls/{waits}", headers=bearer("other"))).json()["hold"]
    assert "x (paused by night-shift)" in hold["detail"]
    assert hold["action"].endswith("sluice lanes resume crm.echo")


async def test_monitoring_is_told_how_full_the_queue_is_and_what_is_closed(paced: Served) -> None:
    await steer(paced, "pause", {"connector": "crm", "reason": "x"})
    await send(paced, 3)
    refused = await paced.http.post("/v1/calls", json={"tool": "crm.ecko", "arguments": {}})
    assert refused.status_code == 422
    held = await metrics(paced)
    assert held['sluice_queue_depth{connector="crm"}'] == 3
    assert held['sluice_runnable_backlog{connector="crm"}'] == 0, "a pause holds them"
    assert 0 < held['sluice_queue_oldest_age_seconds{connector="crm"}'] < 30
    assert held['sluice_rate_budget_remaining_ratio{connector="crm",limit="core"}'] == 1
    assert held["sluice_queue_bytes"] > 3
    assert held["sluice_queue_flooded"] == 0
    assert held["sluice_redis_memory_bytes"] > 100_000
    assert held['sluice_gates_closed{reason="paused"}'] == 1
    assert held['sluice_refusals_total{class="ingest.unknown_tool"}'] >= 1
    waits = held.get('sluice_queue_wait_seconds_count{connector="crm",operation="echo"}', 0)
    await steer(paced, "resume", {"connector": "crm"})
    async with asyncio.timeout(10):
        while (await metrics(paced))['sluice_events{fate="live"}']:  # noqa: ASYNC110 - a scrape tells when asked
            await asyncio.sleep(0.05)
    after = await metrics(paced)
    assert after['sluice_queue_wait_seconds_count{connector="crm",operation="echo"}'] == waits + 3
    assert after['sluice_gates_closed{reason="paused"}'] == 0
    assert 'sluice_queue_depth{connector="crm"}' not in after
    assert after["sluice_queue_bytes"] == 0


async def test_a_vendor_that_asks_to_slow_down_is_counted_and_closes_its_limit(
    paced: Served, vendor: VendorProcess
) -> None:
    before = (await metrics(paced)).get('sluice_rate_limited_total{connector="crm",operation="echo"}', 0)
    slow_down = Behaviour(do=Kind.STATUS, status=429, headers={"Retry-After": "2"})
    await vendor.aio.script("echo", slow_down)
    (call,) = await send(paced, 1)
    await vendor.aio.until(arrivals=1)
    hold = await until_held(paced, (await send(paced, 1))[0], "rate_limit")
    assert "limit crm / core is closed until" in hold["detail"]
    assert "the vendor asked to wait" in hold["detail"]
    told = await metrics(paced)
    assert told['sluice_rate_limited_total{connector="crm",operation="echo"}'] == before + 1
    assert told['sluice_gates_closed{reason="rate_limit"}'] == 1
    ended = (await paced.http.get(f"/v1/calls/{call}?wait=20")).json()
    assert (ended["state"], ended["attempts"][0]["status"]) == ("completed", 429)


async def metrics(gateway: Served) -> dict[str, float]:
    text = (await gateway.http.get("/metrics")).text
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}

"""Alerts of a whole gateway: real calls that fail alike, a person at HTTP and at the command line, and a webhook that hears of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.receiver import SECRET, Receiver, receiving
from tests.served import Served, assert_problem, bearer, people, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

GONE = Behaviour(do=Kind.STATUS, status=404, forever=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture
async def gateway(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess, receiver: Receiver
) -> AsyncIterator[Served]:
    text = manifest(vendor.url) + people(
        tmp_path, {"one": "crm.*"}, {"night": "operator", "guest": "viewer", "judge": "approver"}
    )
    hook: dict[str, Any] = {
        "alert_webhook": receiver.url,
        "alert_webhook_secret": SECRET,
        "alert_webhook_private": True,
    }
    async with served(redis_url, tmp_path / "data", text, alert_every=0.1, **hook) as running:
        yield running


async def fail(gateway: Served, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        body = {"tool": "crm.contacts.get", "arguments": {"id": f"c{number}"}}
        answer = await gateway.http.post("/v1/calls", json=body, headers={"Prefer": "wait=20", **bearer("one")})
        assert answer.json()["state"] == "failed", answer.text


async def alerts(gateway: Served, query: str = "") -> list[dict[str, Any]]:
    answer = await gateway.http.get(f"/v1/alerts{query}", headers=bearer("guest"))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["alerts"]
    return found


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(15):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.05)


async def test_ten_calls_that_fail_alike_are_one_alert_everywhere(
    gateway: Served, vendor: VendorProcess, receiver: Receiver, tmp_path: Path
) -> None:
    vendor.script("contacts.get", GONE)
    await fail(gateway, 9)
    await asyncio.sleep(0.4)
    assert await alerts(gateway) == []
    await fail(gateway, 3, first=9)
    (one,) = await until(lambda: alerts(gateway))
    await until(lambda: _counted(gateway, 12))
    (one,) = await alerts(gateway)
    assert (one["kind"], one["state"], one["count"], one["by"]) == ("failure.similar", "open", 12, None)
    call = (await gateway.http.get(f"/v1/calls/{one['sample']['call']}", headers=bearer("one"))).json()
    assert call["error"]["fingerprint"] == one["key"]
    assert one["action"] == f"sluice calls show {one['sample']['call']}"
    shell = Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": "key-of-night"})
    listed = await shell("alerts", "ls", "-o", "table")
    assert one["alert"] in listed.out
    assert "12 calls ended alike within 30m" in listed.out
    shown = await shell("alerts", "show", one["alert"])
    assert {**shown.data, "last": one["last"]} == one  # it still holds
    assert f"next: {one['action']}" in shown.err
    assert (await shell("alerts", "resolve", one["alert"])).code == 2
    ended = await shell("alerts", "resolve", one["alert"], "--reason", "their release")
    assert (ended.code, ended.data["by"], ended.data["reason"]) == (0, "night", "their release")
    assert (await shell("alerts", "resolve", one["alert"], "--reason", "again")).code == 1
    assert (await shell("alerts", "show", "nobody")).code == 3
    assert await alerts(gateway) == []
    assert [(await alerts(gateway, "?state=all"))[0]["state"]] == ["resolved"]
    await asyncio.to_thread(receiver.until, lambda: len(receiver.taken) >= 2)
    assert [(told["type"], told["data"]["alert"]) for told in receiver.taken] == [
        ("alert.opened", one["alert"]),
        ("alert.resolved", one["alert"]),
    ]


async def test_who_may_look_and_who_may_end_one(gateway: Served, vendor: VendorProcess) -> None:
    vendor.script("contacts.get", GONE)
    await fail(gateway, 10)
    (one,) = await until(lambda: alerts(gateway))
    path = f"/v1/alerts/{one['alert']}"
    assert_problem(await gateway.http.get("/v1/alerts", headers=bearer("one")), 403, "ingest.scope")
    assert_problem(await gateway.http.get(path, headers=bearer("one")), 403, "ingest.scope")
    assert_problem(await gateway.http.get("/v1/alerts"), 401, "ingest.auth")
    for who in ("one", "guest", "judge"):
        body = {"reason": "x"}
        assert_problem(await gateway.http.post(f"{path}/resolve", json=body, headers=bearer(who)), 403, "ingest.scope")
    bad: list[dict[str, Any]] = [{}, {"reason": ""}, {"reason": "a", "more": 1}]
    for wrong in bad:
        answer = await gateway.http.post(f"{path}/resolve", json=wrong, headers=bearer("night"))
        assert answer.status_code in {400, 422}, answer.text
    assert_problem(await gateway.http.get("/v1/alerts?state=some", headers=bearer("night")), 400, None)
    assert_problem(await gateway.http.get("/v1/alerts/none", headers=bearer("night")), 404, None)
    assert (await alerts(gateway))[0]["state"] == "open"


async def _counted(gateway: Served, count: int) -> bool:
    return bool((await alerts(gateway))[0]["count"] == count)

"""Alerts that resolve because the thing itself is well again, through a whole gateway and the signed webhook."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.outage import US, declared, moment_us
from tests.receiver import SECRET, Receiver, receiving
from tests.served import Served, bearer, people, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

DOWN = Behaviour(do=Kind.STATUS, status=503, forever=True)
CHANGED = Behaviour(do=Kind.STATUS, status=200, body={"id": 7}, executes=True, forever=True)
MAKE = "crm.contacts.create"
OPENED, RESOLVED = "alert.opened", "alert.resolved"
PATIENCE_S = 0.7
"""How long a breaker may be open before that is an alert."""
LOOKS_S = 0.5
"""Several looks for patterns."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@asynccontextmanager
async def running(redis_url: str, folder: Path, text: str, hook: Receiver, **more: Any) -> AsyncIterator[Served]:
    told: dict[str, Any] = {"alert_webhook": hook.url, "alert_webhook_secret": SECRET, "alert_webhook_private": True}
    who = people(folder, {"one": "crm.*"}, {"chief": "operator"})
    every: dict[str, Any] = {"alert_every": 0.05, "alert_settle": 0.3}
    async with served(redis_url, folder / "data", text + who, **every, **told, **more) as gateway:
        gateway.http.headers.update(bearer("one"))
        yield gateway


async def alerts(gateway: Served, state: str = "open") -> list[dict[str, Any]]:
    answer = await gateway.http.get("/v1/alerts?state=all", headers=bearer("chief"))
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["alerts"] if one["state"] == state]


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(20):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.05)


async def heard(receiver: Receiver, kind: str, count: int) -> list[dict[str, Any]]:
    """Wait until so many messages about alerts of a kind were taken, and return them; each was verified when it arrived."""

    def about() -> list[dict[str, Any]]:
        return [one for one in receiver.taken if one["data"].get("kind") == kind]

    await asyncio.to_thread(receiver.until, lambda: len(about()) >= count)
    return about()


async def make(gateway: Served, name: str) -> dict[str, Any]:
    answer = await gateway.publish(MAKE, {"email": f"{name}@b.c"})
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("verb", ["accept", "reject"])
async def test_a_broken_contract_is_one_alert_until_a_person_has_judged_it(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess, receiver: Receiver, verb: str
) -> None:
    text = manifest(vendor.url).replace("defaults: {", "defaults: {contract: {on_breaking: warn}, ", 1)
    vendor.script("contacts.create", CHANGED)
    async with running(redis_url, tmp_path, text, receiver) as gateway:
        for number in range(3):
            assert (await make(gateway, f"a{number}"))["contract"].startswith("breaking:")
        (one,) = await until(lambda: alerts(gateway))
        assert (one["kind"], one["key"], one["state"]) == ("contract.breaking", MAKE, "open")
        assert one["action"] == f"sluice contracts show {MAKE}"
        vendor.script("contacts.create")
        assert (await make(gateway, "clean"))["contract"] == "ok"
        await asyncio.sleep(LOOKS_S)
        assert [still["alert"] for still in await alerts(gateway)] == [one["alert"]], "nobody has judged it yet"
        sluice = Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": "key-of-chief"})
        judged = await sluice("contracts", verb, MAKE, "all", "--reason", "announced")
        assert judged.code == 0, judged.err
        (over,) = await until(lambda: alerts(gateway, "resolved"))
        assert (over["alert"], over["by"]) == (one["alert"], None)
        told = await heard(receiver, "contract.breaking", 2)
    assert [(message["type"], message["data"]["alert"]) for message in told] == [
        (OPENED, one["alert"]),
        (RESOLVED, one["alert"]),
    ]


async def test_a_breaker_that_stays_open_is_an_alert_until_the_vendor_is_back(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess, receiver: Receiver
) -> None:
    terms = {"window": "10s", "min_calls": 3, "consecutive": 3, "open": "200ms"}
    text = json.dumps(declared(vendor.url, terms))
    vendor.script("*", DOWN)
    async with running(redis_url, tmp_path, text, receiver, alert_breaker_open=PATIENCE_S) as gateway:
        calls = [await waiting(gateway, number) for number in range(6)]
        (one,) = await until(lambda: alerts(gateway))
        assert (one["kind"], one["key"]) == ("breaker.open", f"crm|{vendor.url}")
        assert "sluice breakers" in one["action"]
        entries: Any = await redis.xrange("tool-events")
        events = [json.loads(fields[b"data"]) for _, fields in entries]
        since_us = moment_us(events, "open")
        assert datetime.fromisoformat(one["opened"]).timestamp() * US >= since_us + PATIENCE_S * US - 1000
        vendor.script("*")
        for call in calls:
            ended = await gateway.http.get(f"/v1/calls/{call}?wait=20")
            assert ended.json()["state"] == "completed"
        (over,) = await until(lambda: alerts(gateway, "resolved"))
        assert (over["alert"], over["by"]) == (one["alert"], None)
        told = await heard(receiver, "breaker.open", 2)
    assert [(message["type"], message["data"]["alert"]) for message in told] == [
        (OPENED, one["alert"]),
        (RESOLVED, one["alert"]),
    ]
    assert len({message["id"] for message in told}) == 2
    counts = vendor.counts()
    assert (counts.effects_total, counts.repeated_effects) == (6, [])


async def waiting(gateway: Served, number: int) -> str:
    answer = await gateway.http.post("/v1/calls", json={"tool": MAKE, "arguments": {"email": f"{number}@b.c"}})
    assert answer.status_code == 202, answer.text
    call: str = answer.json()["call"]
    return call

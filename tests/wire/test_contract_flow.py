"""A vendor that changes its answers, through the whole gateway: what each policy does to calls, writes and reads, and who is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dlq.blobs import BlobStore
from dlq.keys import KeyRing
from dlq.redaction import Sealer
from gateway.flow.quarantine import ENOUGH
from gateway.lanes.findings import Findings
from gateway.lanes.queue import Lanes
from schemas.dead_letter import Sealed
from tests.served import Served, bearer, people, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

MAKE, GET, SEND = "crm.contacts.create", "crm.contacts.get", "crm.messages.send"
CANARY = "canary-7c1e55"
BROKEN = {"id": 7, "email": f"{CANARY}@b.c"}
GATE = "@crm||contacts.create"
SENTENCE = "/id was string and now comes as a bare number."


def declared(url: str, policy: str) -> str:
    """Return the vendor's manifest under one policy."""
    return manifest(url).replace("defaults: {", f"defaults: {{contract: {{on_breaking: {policy}}}, ", 1)


@asynccontextmanager
async def running(redis_url: str, folder: Path, url: str, policy: str) -> AsyncIterator[Served]:
    told = people(folder, {"one": "crm.*"}, {"chief": "operator"})
    async with served(redis_url, folder / "data", declared(url, policy) + told) as gateway:
        gateway.http.headers.update(bearer("one"))
        yield gateway


def drift(vendor: VendorProcess, operation: str, body: Any = BROKEN, **more: Any) -> None:
    """Let the vendor do what it is asked and answer otherwise from now on."""
    vendor.script(operation, Behaviour(do=Kind.STATUS, status=200, body=body, executes=True, forever=True, **more))


async def call(gateway: Served, tool: str, wait: int = 20, **arguments: Any) -> dict[str, Any]:
    answer = await gateway.http.post(
        "/v1/calls", json={"tool": tool, "arguments": arguments}, headers={"Prefer": f"wait={wait}"}
    )
    found: dict[str, Any] = answer.json()
    return found


async def make(gateway: Served, number: int, wait: int = 20) -> dict[str, Any]:
    return await call(gateway, MAKE, wait, email=f"{CANARY}-{number}@b.c")


async def read(gateway: Served, number: int) -> dict[str, Any]:
    return await call(gateway, GET, id=f"c-{number}")


async def ended(gateway: Served, found: dict[str, Any]) -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/calls/{found['call']}?wait=20")
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def told(redis: Any, topic: str, kind: str = "contract.finding") -> list[dict[str, Any]]:
    found = [json.loads(entry[b"data"]) for _, entry in await redis.xrange(topic)]
    return [one["data"] for one in found if one["type"] == kind]


async def quarantined(gateway: Served) -> dict[str, str]:
    closed = await gateway.gateway.guarding.quarantine._closed()
    return {one.key: one.detail for one in closed if one.reason == "contract_quarantine"}


@pytest.mark.parametrize(
    ("policy", "state", "held"),
    [("warn", "completed", False), ("quarantine_writes", "completed", True), ("block", "failed", False)],
)
async def test_what_each_policy_does_to_a_write_whose_answer_broke_its_contract(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess, policy: str, state: str, *, held: bool
) -> None:
    drift(vendor, "contacts.create")
    async with running(redis_url, tmp_path, vendor.url, policy) as gateway:
        first = await make(gateway, 1)
        assert (first["state"], first["effect"], first["contract"]) == (
            state,
            "executed",
            "breaking:text_as_number /id",
        )
        assert (first["attempts"], vendor.counts().by_operation["contacts.create"]) == (1, 1)
        assert list(await quarantined(gateway)) == ([GATE] if held else [])
        (finding,) = await told(redis, "tool-events")
        assert (finding["level"], finding["pointer"], finding["call"]) == ("breaking", "/id", first["call"])
        letters = await told(redis, "dead-letters", "tool.call.dead_lettered")
        if policy != "block":
            assert (first["result"], first["error"], letters) == (BROKEN, None, [])
            return
        assert (first["error"]["class"], first["result"]) == ("schema.breaking", None)
        assert SENTENCE in first["error"]["message"]
        (letter,) = letters
        assert letter["effect"]["state"] == "executed"
        assert [one["pointer"] for one in letter["failure"]["findings"]] == ["/id"]
        assert unsealed(tmp_path / "data", letter) == BROKEN
        assert CANARY not in json.dumps(letter["failure"])


def unsealed(data: Path, letter: dict[str, Any]) -> Any:
    sealer = Sealer(KeyRing.load(None, data), BlobStore(data / "blobs", 1 << 20))
    part = msgspec.convert(letter["upstream"]["body"], Sealed)
    return json.loads(sealer.unseal(part, letter["identity"]["dl_id"], "upstream.body"))


async def test_a_blocked_read_is_not_executed_and_may_be_read_again(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    drift(vendor, "contacts.get")
    async with running(redis_url, tmp_path, vendor.url, "block") as gateway:
        found = await read(gateway, 1)
        assert (found["state"], found["effect"], found["error"]["class"]) == (
            "failed",
            "not_executed",
            "schema.breaking",
        )
        assert found["attempts"] == vendor.counts().by_operation["contacts.get"] == 1


async def test_a_quarantine_holds_writes_until_the_finding_is_accepted_also_over_a_restart(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    drift(vendor, "contacts.create")
    async with running(redis_url, tmp_path, vendor.url, "quarantine_writes") as gateway:
        await make(gateway, 0)
        waiting = [await make(gateway, number, wait=0) for number in range(1, 6)]
        held = await until_held(gateway, waiting[0])
        assert SENTENCE.rstrip(".") in held["detail"]
        assert f"sluice contracts show {MAKE}" in held["detail"]
        assert "sluice contracts" in held["action"]
        assert (await read(gateway, 1))["state"] == "completed"
        assert (await call(gateway, SEND, ref="r", text="x"))["state"] == "completed"
    async with running(redis_url, tmp_path, vendor.url, "quarantine_writes") as gateway:
        assert list(await quarantined(gateway)) == [GATE]
        assert vendor.counts().by_operation["contacts.create"] == 1
        sluice = Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": "key-of-chief"})
        (row,) = (one for one in (await sluice("contracts", "ls")).data if one["tool"] == MAKE)
        assert (row["held"], row["open"]) == (True, {"breaking": 1})
        done = await sluice("contracts", "accept", MAKE, "all", "--reason", "announced")
        assert (done.code, done.data["version"], done.data["opened"]) == (0, 1, [GATE])
        results = [await ended(gateway, one) for one in waiting]
        assert {(one["state"], one["contract"]) for one in results} == {("completed", "ok")}
        assert vendor.counts().by_operation["contacts.create"] == 6
    async with running(redis_url, tmp_path, vendor.url, "quarantine_writes") as gateway:
        assert (await make(gateway, 9))["contract"] == "ok"
        assert await quarantined(gateway) == {}
    kept = json.loads((tmp_path / "data/contracts/crm/contacts.create.json").read_text())
    assert (kept["version"], [one["verdict"] for one in kept["decisions"]]) == (1, ["accepted"])
    assert len([one for one in await told(redis, "tool-events") if one["state"] == "open"]) == 1


async def until_held(gateway: Served, found: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            hold: dict[str, Any] = (await gateway.http.get(f"/v1/calls/{found['call']}")).json()["hold"]
            if hold["reason"] == "contract_quarantine":
                return hold
            await asyncio.sleep(0.05)


async def test_what_is_rejected_stays_held_until_a_person_resumes_and_then_until_the_next_break(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    drift(vendor, "contacts.create")
    async with running(redis_url, tmp_path, vendor.url, "quarantine_writes") as gateway:
        await make(gateway, 0)
        waiting = await make(gateway, 1, wait=0)
        sluice = Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": "key-of-chief"})
        done = await sluice("contracts", "reject", MAKE, "all", "--reason", "their bug")
        assert (done.code, done.data["opened"]) == (0, [])
        for number in range(ENOUGH + 2):
            await read(gateway, number)  # never broke: shows nothing about the write
        await until_held(gateway, waiting)
        assert vendor.counts().by_operation["contacts.create"] == 1
        assert (await sluice("lanes", "resume", MAKE)).code == 0
        assert (await ended(gateway, waiting))["contract"] == "breaking:text_as_number /id"
        assert list(await quarantined(gateway)) == [GATE]
        vendor.script("contacts.create")
        assert (await sluice("lanes", "resume", MAKE)).code == 0
        assert (await make(gateway, 2))["contract"] == "ok"
        assert await quarantined(gateway) == {}


async def test_a_quarantine_ends_by_itself_when_the_reads_that_broke_too_are_clean_again(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    drift(vendor, "*", {"id": 7, "items": []})
    async with running(redis_url, tmp_path, vendor.url, "quarantine_writes") as gateway:
        await make(gateway, 0)
        waiting = await make(gateway, 1, wait=0)
        await until_held(gateway, waiting)
        assert (await read(gateway, 0))["contract"].startswith("breaking:")
        vendor.script("*")
        for number in range(ENOUGH - 1):
            assert (await read(gateway, number))["contract"] == "ok"
        drift(vendor, "contacts.get")
        await read(gateway, 9)  # not well yet: it begins anew
        vendor.script("contacts.get")
        for number in range(ENOUGH - 1):
            await read(gateway, number)
        assert list(await quarantined(gateway)) == [GATE]
        assert vendor.counts().by_operation["contacts.create"] == 1
        with capture_logs() as logs:
            await read(gateway, 10)
            assert (await ended(gateway, waiting))["contract"] == "ok"
        assert [one["gate"] for one in logs if one["event"] == "quarantine.ended"] == [GATE]
        assert await quarantined(gateway) == {}
        drift(vendor, "contacts.create", {"email": "x"})
        await make(gateway, 2)
        (detail,) = (await quarantined(gateway)).values()
        assert "/id is missing" in detail


async def test_what_is_accepted_while_its_gate_is_being_closed_holds_nothing(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift(vendor, "contacts.create")
    async with running(redis_url, tmp_path, vendor.url, "quarantine_writes") as gateway:
        hold = Lanes.hold

        async def late(lanes: Lanes, *gate: Any) -> None:
            body = {"fingerprint": "all", "reason": "quick"}
            answer = await gateway.http.post(f"/v1/contracts/{MAKE}/accept", json=body, headers=bearer("chief"))
            assert answer.json()["opened"] == []
            await hold(lanes, *gate)

        monkeypatch.setattr(Lanes, "hold", late)
        assert (await make(gateway, 0))["contract"].startswith("breaking:")
        assert await quarantined(gateway) == {}
        assert (await make(gateway, 1))["contract"] == "ok"


async def test_accepting_the_newest_break_opens_although_an_older_one_was_rejected(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.flow.contract_control._MARGIN_US", 0)
    drift(vendor, "contacts.create")
    async with running(redis_url, tmp_path, vendor.url, "quarantine_writes") as gateway:
        await make(gateway, 0)
        sluice = Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": "key-of-chief"})
        await sluice("contracts", "reject", MAKE, "all", "--reason", "their bug")
        await sluice("lanes", "resume", MAKE)
        drift(vendor, "contacts.create", {"email": "x"})
        await make(gateway, 1)
        assert list(await quarantined(gateway)) == [GATE]
        done = await sluice("contracts", "accept", MAKE, "all", "--reason", "right")
        assert done.data["opened"] == [GATE]
        assert (await make(gateway, 2))["contract"] == "ok"


async def test_a_finding_is_told_once_however_many_calls_and_processes_meet_it_and_holds_no_value(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    drift(vendor, "contacts.get", headers={"Sunset": "Sun, 11 Nov 2029 23:59:59 GMT", "Deprecation": "@1688169599"})
    with capture_logs() as logs:
        async with (
            running(redis_url, tmp_path, vendor.url, "warn") as gateway,
            running(redis_url, tmp_path, vendor.url, "warn") as other,
        ):
            results = [
                one
                for batch in range(6)
                for one in await asyncio.gather(
                    *(read(gateway if number % 2 else other, number) for number in range(batch * 50, batch * 50 + 50))
                )
            ]
            assert {one["contract"] for one in results} == {"breaking:text_as_number /id"}
            counted = [await one.gateway.guarding.findings.seen() for one in (gateway, other)]
            metrics = (await gateway.http.get("/metrics", headers=bearer("chief"))).text
    assert vendor.counts().by_operation["contacts.get"] == 300
    events, alerts = await told(redis, "tool-events"), await told(redis, "gateway-alerts", "contract.finding")
    lines = [one for one in logs if one["event"] == "contract.finding"]
    kinds = ["deprecated", "sunset", "text_as_number"]
    assert [sorted(one["kind"] for one in some) for some in (events, alerts, lines)] == [kinds] * 3
    assert all(one["sentence"] and "sluice contracts accept" in one["action"] for one in (*events, *alerts))
    assert (
        'sluice_contract_violations_total{connector="crm",kind="text_as_number",level="breaking",operation="contacts.get"}'
        in metrics
    )
    assert len(counted[0]) == len(kinds)
    told_of = json.dumps([events, alerts, lines], default=str) + repr(counted)
    assert CANARY not in told_of


@pytest.mark.parametrize(
    ("behaviour", "state", "contract"),
    [
        (Behaviour(do=Kind.STATUS, status=204, executes=True), "completed", "unchecked"),
        (Behaviour(do=Kind.STATUS, status=205, body="", executes=True), "completed", "unchecked"),
        (Behaviour(do=Kind.STATUS, status=200, body="", executes=True), "completed", "breaking:became_null"),
        (Behaviour(do=Kind.WRONG_TYPE), "completed", "breaking:media_type_changed"),
        (Behaviour(do=Kind.GARBAGE), "failed", "unchecked"),
        (Behaviour(do=Kind.STATUS, status=200, body="[" * 70 + "]" * 70, executes=True), "failed", "unchecked"),
        (Behaviour(do=Kind.STATUS, status=200, body="[" * 60 + "]" * 60, executes=True), "completed", "breaking:type"),
        (Behaviour(do=Kind.STATUS, status=200, body={"id": "x", "email": "y" * 900_000}), "completed", "ok"),
        (Behaviour(do=Kind.STATUS, status=404), "failed", "unchecked"),
    ],
    ids=["204", "205", "empty", "page", "invalid utf-8", "too deep", "deep", "900 kB", "404"],
)
async def test_odd_answers_end_their_call_and_never_the_worker(
    redis: "Redis",
    redis_url: str,
    tmp_path: Path,
    vendor: VendorProcess,
    behaviour: Behaviour,
    state: str,
    contract: str,
) -> None:
    vendor.script("contacts.get", behaviour)
    with capture_logs() as logs:
        async with running(redis_url, tmp_path, vendor.url, "warn") as gateway:
            found = await read(gateway, 1)
            assert (found["state"], found["attempts"]) == (state, 1)
            assert found["contract"].startswith(contract)
            assert (await read(gateway, 2))["contract"] == "ok"
    assert [one for one in logs if one["event"] == "delivery.broken"] == []


async def test_an_answer_is_not_lost_when_its_finding_cannot_be_written_down(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift(vendor, "contacts.create")

    async def away(*_: Any) -> Any:
        raise ConnectionError("Redis is away")

    async with running(redis_url, tmp_path, vendor.url, "warn") as gateway:
        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(Findings, "note", away)
            assert (await make(gateway, 1))["result"] == BROKEN
        assert [one["tool"] for one in logs if one["event"] == "contract.unwritten"] == [MAKE]
        assert await told(redis, "tool-events") == []
        await asyncio.sleep(1.05)
        assert (await make(gateway, 2))["state"] == "completed"
        assert (
            len(await told(redis, "tool-events")) == len(await told(redis, "gateway-alerts", "contract.finding")) == 1
        )
        (seen,) = await gateway.gateway.guarding.findings.seen()
        assert seen.count == 2


async def test_a_storm_of_differences_is_told_in_bounds(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    async with running(redis_url, tmp_path, vendor.url, "warn") as gateway:
        for number in range(10):
            fields = {f"f_{chr(97 + number)}_{chr(97 + at)}": 1 for at in range(8)}
            body = {**fields, "id": "x"} if number else fields
            vendor.script("contacts.get", Behaviour(do=Kind.STATUS, status=200, body=body))
            await read(gateway, number)
        findings = gateway.gateway.guarding.findings
        findings.home._loud = 85
        for number in range(10, 16):
            fields = {f"f_{chr(97 + number)}_{chr(97 + at)}": 1 for at in range(8)}
            vendor.script("contacts.get", Behaviour(do=Kind.STATUS, status=200, body={**fields, "id": "x"}))
            assert (await read(gateway, number))["state"] == "completed"
        assert len(await findings.seen()) == 129
    assert len(await told(redis, "tool-events")) == 85
    (flood,) = await told(redis, "gateway-alerts", "contract.flood")
    assert flood["tool"] == GET

"""Health by its own word: what calls have shown of each operation, with its age; somebody is asked only where they have shown nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.flow.probing import AGENT
from tests.planning import CONSENT, Scene, Serve, declare, opened, paused, secrets, serving
from tests.served import Served, assert_problem, bearer, people
from tests.shell import NOWHERE, Shell
from tests.tiny_vendor import listening
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour
from tests.vendor.script import Kind as Do

pytestmark = pytest.mark.wire

PROBE = "health: {probe: echo, arguments: {word: ok}, every: 30s}\n"


@pytest.fixture
def serve(redis: "Redis", redis_url: str, tmp_path: Path) -> Serve:
    return serving(redis_url, tmp_path)


async def look(gateway: Served, headers: Any = None, query: str = "") -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/health{query}", headers=headers or {})
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


def operation(report: dict[str, Any], tool: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [
        one
        for connector in report["connectors"]
        for connection in connector["connections"]
        for one in connection["operations"]
        if one["tool"] == tool
    ]
    return found[0]


def sign(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["evidence"] if one["name"] == name)


async def told(gateway: Served, tool: str, status: str, headers: Any = None) -> dict[str, Any]:
    """Look until an operation is told to be so: workers tell what they saw twice a second."""
    report = await look(gateway, headers)
    for _ in range(60):
        if operation(report, tool)["status"] == status:
            return report
        await asyncio.sleep(0.05)
        report = await look(gateway, headers)
    raise AssertionError(report)


async def test_calls_show_how_a_vendor_is_without_anybody_asking_it(serve: Serve, vendor: VendorProcess) -> None:
    async with serve(declare(vendor.url, more=PROBE)) as gateway:
        await asyncio.gather(*(gateway.publish("crm.echo", {}) for _ in range(5)))
        await asyncio.sleep(0.8)  # a worker tells what it saw twice a second
        report = await told(gateway, "crm.echo", "ok")
        calls = sign(operation(report, "crm.echo"), "calls")
        assert (calls["status"], report["status"]) == ("pass", "ok")
        assert calls["evidence_age_s"] < 5
        await vendor.aio.script("contacts.get", Behaviour(do=Do.STATUS, status=500, forever=True))
        for number in range(2):
            body = {"tool": "crm.contacts.get", "arguments": {"id": f"c{number}"}}
            await gateway.http.post("/v1/calls", json=body)
        report = await told(gateway, "crm.contacts.get", "down")
        sick = operation(report, "crm.contacts.get")
        assert "attempts failed lately" in sick["sentence"]
        assert sick["action"] == "sluice calls ls --tool crm.contacts.get"  # they are tried again
        # So many failures open the breaker soon, which is the worse news.
        assert report["status"] == "down"
        assert report["action"] in {sick["action"], "sluice breakers ls --connector crm"}
        assert report["sentence"].startswith("crm: ")
        assert operation(report, "crm.echo")["status"] == "ok"
        assert operation(report, "crm.big")["status"] == "unknown"
        assert (await look(gateway))["connectors"][0]["connections"][0]["operations"][0]["tool"] == "crm.contacts.get"
    assert vendor.counts().by_operation["echo"] == 5


async def test_a_lost_answer_is_looked_at_where_its_letter_is(
    serve: Serve, vendor: VendorProcess, tmp_path: Path
) -> None:
    await vendor.aio.script("messages.send", Behaviour(do=Do.RESET, forever=True))
    async with serve(declare(vendor.url)) as gateway:
        lost = await gateway.publish("crm.messages.send", {"ref": "r-1", "text": "b"})
        assert lost.json()["state"] == "escalated", lost.text
        report = await told(gateway, "crm.messages.send", "down")
        action = operation(report, "crm.messages.send")["action"]
        assert action == "sluice dlq groups --tool crm.messages.send"
        ran = await Shell(tmp_path, {"SLUICE_URL": gateway.url})(*action.split()[1:], "-o", "json")
        assert [one["open"] for one in ran.data] == [1], ran.err


async def test_a_probe_is_one_call_however_many_ask_and_none_while_calls_show_enough(
    serve: Serve, vendor: VendorProcess, redis: "Redis"
) -> None:
    async with serve(declare(vendor.url, more=PROBE)) as gateway:
        reports = await asyncio.gather(*(look(gateway) for _ in range(200)))
        report = await told(gateway, "crm.echo", "ok")
        await asyncio.gather(*(look(gateway) for _ in range(20)))
        assert vendor.counts().by_operation == {"echo": 1}
        assert "ok" in {one["status"] for one in reports}
        assert (report["status"], report["connectors"][0]["status"]) == ("ok", "ok")
        # An ordinary call, with its result on the topic and its place in the sums.
        results: Any = await redis.xrange("tool-results")
        assert len(results) == 1
        assert f"agent/{AGENT}".encode() in results[0][1][b"data"]
        assert (await gateway.gateway.lanes.stats())["completed"] == 1


async def test_a_probe_needs_no_agents_scope_and_tells_of_an_outage(
    serve: Serve, vendor: VendorProcess, tmp_path: Path
) -> None:
    await vendor.aio.script("echo", Behaviour(do=Do.STATUS, status=503, forever=True))
    text = declare(vendor.url, more=PROBE) + people(tmp_path, {"one": "crm.big"}, {"eye": "viewer"})
    async with serve(text) as gateway:
        report = await told(gateway, "crm.echo", "down", bearer("eye"))
        assert operation(report, "crm.echo")["status"] == "down"
        mine = await look(gateway, bearer("one"))
        assert [one["tool"] for one in mine["connectors"][0]["connections"][0]["operations"]] == ["crm.big"]
        assert (await gateway.http.get("/v1/health")).status_code == 401


@pytest.mark.parametrize("prepare", [opened, paused], ids=["breaker", "pause"])
async def test_what_is_closed_is_told_and_not_probed(
    serve: Serve, vendor: VendorProcess, redis: "Redis", prepare: Any
) -> None:
    async with serve(declare(vendor.url, more=PROBE)) as gateway:
        await prepare(Scene(gateway, vendor, redis))
        report = await look(gateway)
    assert report["status"] == "down"
    assert report["action"] in {"sluice breakers ls --connector crm", "sluice lanes resume crm.echo"}
    assert vendor.counts().by_operation.get("echo", 0) == 0


async def test_without_a_probe_a_silent_vendor_is_dialled_once_and_sent_nothing(serve: Serve) -> None:
    connections = 0

    async def count(reader: Any, _: Any) -> None:
        nonlocal connections
        connections += 1
        assert await reader.read() == b""

    async with listening(count) as port, serve(declare(f"http://127.0.0.1:{port}")) as gateway:
        reports = await asyncio.gather(*(look(gateway) for _ in range(100)))
    assert {report["status"] for report in reports} == {"ok"}
    assert "It can be reached" in reports[0]["sentence"]
    assert connections == 1


async def test_a_dead_address_and_a_missing_consent_are_down_with_their_next_step(
    serve: Serve, vendor: VendorProcess, tmp_path: Path
) -> None:
    async with serve(declare("http://127.0.0.1:9")) as gateway:
        report = await look(gateway)
    assert (report["status"], "did not accept a connection" in report["sentence"]) == ("down", True)
    async with serve(declare(vendor.url, auth=CONSENT) + secrets(tmp_path)) as gateway:
        report = await look(gateway)
        assert (report["status"], report["action"]) == ("down", "sluice connections set crm/main")
        assert_problem(await gateway.http.get("/v1/health?connector=nobody"), 404, None)
        assert (await look(gateway, query="?connector=crm"))["connectors"][0]["connector"] == "crm"
    assert vendor.desk_counts().requests == 0


# By the command line


async def test_the_commands_say_it_in_a_table_and_by_their_exit_code(
    serve: Serve, vendor: VendorProcess, tmp_path: Path
) -> None:
    async with serve(declare(vendor.url)) as gateway:
        shell = Shell(tmp_path, {"SLUICE_URL": gateway.url, "COLUMNS": "80"})
        ran = await shell("preflight", "crm.echo:20", "crm.contacts.create:5", "--for", "45m", "-o", "table")
        assert (ran.code, "Go." in ran.err) == (0, True), ran.err
        ran = await shell("preflight", "crm.ehco", "-o", "table")
        assert (ran.code, "No go." in ran.err) == (5, True)
        assert "sluice connectors ls" in ran.out
        assert "fail" in ran.out
        ran = await shell("preflight", "crm.echo", "-o", "json")
        assert ran.data["verdict"] == "go"
        plan = tmp_path / "plan.yaml"
        plan.write_text(
            "steps:\n  - {tool: crm.echo, count: 3}\n  - {tool: crm.nothing, critical: false}\nduration_s: 60\n"
        )
        ran = await shell("preflight", "--plan", "plan.yaml", "-o", "jsonl")
        assert (ran.code, ran.data["verdict"]) == (0, "go_with_conditions")
        ran = await shell("preflight", "--plan", "-", stdin='{"steps": [{"tool": "crm.echo", "count": 0}]}')
        assert (ran.code, "/steps/0/count" in ran.err) == (2, True), ran.err
        for words in (
            ["preflight"],
            ["preflight", "a:b"],
            ["preflight", "crm.echo", "--for", "long"],
            ["preflight", "--plan", "none"],
        ):
            assert (await shell(*words)).code == 2, words
        ran = await shell("health", "-o", "table")
        assert (ran.code, ran.out.split()[0]) == (0, "WHAT")
        assert ran.err == "ok: crm.\n"  # the table has the sentence
        assert (await shell("health", "crm", "-o", "json")).data["status"] == "ok"
        ran = await shell("connectors", "check", "crm", "-o", "table")
        assert (ran.code, "crm/-" in ran.out, "ok:" in ran.err) == (0, True, True), ran.err
        await gateway.http.post("/v1/breakers/open", json={"connector": "crm", "reason": "x"})
        ran = await shell("connectors", "check", "-o", "json")
        assert (ran.code, ran.data["status"]) == (5, "down"), ran.err
        for output in ("json", "table"):
            ran = await shell("health", "-o", output)
            assert (ran.code, "down" in ran.out) == (5, True), ran.err
        assert (await shell("health", "nobody")).code == 3
        assert (await Shell(tmp_path, {"SLUICE_URL": NOWHERE})("health")).code == 5

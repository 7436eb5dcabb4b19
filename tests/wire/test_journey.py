"""One call from end to end, from outside: what goes in by any door comes out as DESIGN says, and the trace is unbroken."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.demo import ledger
from tests.demo.ground import ROOT, Ground
from tests.faults.conftest import until_quiet
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
RESULT_FIELDS = {
    *(
        "call",
        "request",
        "idempotency_key",
        "tool",
        "connection",
        "session",
        "state",
        "result",
        "http_status",
        "effect",
    ),
    *("attempts", "queued_ms", "duration_ms", "contract", "degraded", "cost", "replay_of", "summary", "error"),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[VendorProcess]:
    with VendorProcess() as running:
        yield running


@pytest.fixture(scope="module")
def ground(upstream: VendorProcess) -> Iterator[Ground]:
    with Ground(manifest(upstream.url)) as running:
        yield running


@pytest.fixture
def vendor(upstream: VendorProcess, ground: Ground) -> VendorProcess:
    upstream.reset()
    ground.redis.delete("tool-results", "dead-letters")
    return upstream


def event(identity: str, tool: str, arguments: dict[str, Any], **data: Any) -> str:
    envelope = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/research-7", "id": identity}
    return json.dumps({**envelope, "traceparent": PARENT, "data": {"tool": tool, "arguments": arguments, **data}})


def test_a_plain_xadd_becomes_a_vendor_request_and_a_result_with_the_same_trace(
    ground: Ground, vendor: VendorProcess
) -> None:
    received = ledger.sums(ground.redis)["received"]
    data = {"session": "run-42", "idempotency_key": "run-42/step-3", "confidence": 0.82, "reservation": None}
    ground.redis.xadd("tool-calls", {"data": event("e-1", "crm.contacts.create", {"email": "a@b.c"}, **data)})
    until_quiet(ground.redis, received + 1)
    (arrival,) = vendor.arrivals()
    (result,) = ledger.results(ground.redis)
    assert arrival.traceparent is not None
    assert arrival.traceparent.split("-")[1] == TRACE
    assert (result["type"], result["source"], result["subject"]) == (
        "tool.call.completed",
        "sluice",
        "crm.contacts.create",
    )
    assert (result["id"], result["traceparent"]) == (result["data"]["call"] + ".result", PARENT)
    assert set(result["data"]) == RESULT_FIELDS
    assert result["data"]["request"] == {"source": "agent/research-7", "id": "e-1"}
    assert (result["data"]["state"], result["data"]["effect"], result["data"]["http_status"]) == (
        "completed",
        "executed",
        201,
    )
    answer = httpx2.get(f"{ground.url}/v1/calls/{result['data']['call']}").json()
    assert {**answer, "attempts": 1} == result["data"]


def test_a_lost_answer_of_an_unsafe_call_is_escalated_with_a_letter_in_the_same_trace(
    ground: Ground, vendor: VendorProcess
) -> None:
    received = ledger.sums(ground.redis)["received"]
    vendor.script("messages.send", Behaviour(do=Kind.RESET, executes=True, forever=True))
    ground.redis.xadd("tool-calls", {"data": event("lost-1", "crm.messages.send", {"ref": "lost", "text": "hi"})})
    until_quiet(ground.redis, received + 1)
    (result,), (letter,) = ledger.results(ground.redis), ledger.letters(ground.redis)
    error = result["data"]["error"]
    assert (result["type"], error["class"], error["effect"]) == ("tool.call.escalated", "receive.reset", "unknown")
    assert (error["dead_letter"], error["retryable"]) == (letter["id"], False)
    assert letter["type"] == "tool.call.dead_lettered"
    assert letter["data"]["effect"]["state"] == "unknown"
    assert (letter["traceparent"], result["traceparent"]) == (PARENT, PARENT)
    assert letter["data"]["grouping"]["fingerprint"] == error["fingerprint"]
    assert vendor.counts().effects_by_ref["messages.send"] == {"lost": 1}


async def test_a_hundred_publications_of_one_key_are_one_execution_and_one_answer(
    ground: Ground, vendor: VendorProcess
) -> None:
    body = {"tool": "crm.contacts.create", "arguments": {"email": "same@b.c"}, "idempotency_key": "storm"}
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.2, forever=True))

    async def by_bus(number: int) -> None:
        raw = event(f"storm-{number}", "crm.contacts.create", {"email": "same@b.c"}, idempotency_key="storm")
        await asyncio.to_thread(ground.redis.xadd, "tool-calls", {"data": raw})

    received = ledger.sums(ground.redis)["received"]
    async with httpx2.AsyncClient(base_url=ground.url, timeout=20) as client:

        async def by_http() -> httpx2.Response:
            return await client.post("/v1/calls", json=body, headers={"Prefer": "wait=10"})

        posts = [asyncio.create_task(by_http()) for _ in range(50)]
        await asyncio.gather(*(by_bus(number) for number in range(50)))
        answers = await asyncio.gather(*posts)
        other = await client.post("/v1/calls", json={**body, "arguments": {"email": "other@b.c"}})
    sums = await asyncio.to_thread(until_quiet, ground.redis, received + 100)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["call"] for answer in answers}) == 1
    assert other.status_code == 409
    assert other.json()["class"] == "ingest.duplicate_conflict"
    assert vendor.counts().effects_total == 1
    assert vendor.counts().arrivals == 1
    assert sums.received_is_explained


def test_no_key_over_http_takes_the_place_of_an_event_that_names_none(ground: Ground, vendor: VendorProcess) -> None:
    body = {"tool": "crm.contacts.create", "arguments": {"email": "bob@b.c"}}
    for key in ("agent/research-7|own-1", "agent/research-7own-1"):
        given = {**body, "idempotency_key": key}
        assert httpx2.post(f"{ground.url}/v1/calls", json=given, headers={"Prefer": "wait=10"}).status_code == 200
    forged = {**body, "idempotency_key": "agent/research-7\x1fown-1"}
    assert httpx2.post(f"{ground.url}/v1/calls", json=forged).status_code == 400
    received = ledger.sums(ground.redis)["received"]
    ground.redis.xadd("tool-calls", {"data": event("own-1", "crm.contacts.create", {"email": "own@b.c"})})
    until_quiet(ground.redis, received + 1)
    mine = [one["data"] for one in ledger.results(ground.redis) if one["data"]["request"]["id"] == "own-1"]
    assert [(one["state"], one["result"]["email"]) for one in mine] == [("completed", "own@b.c")]
    assert vendor.counts().effects_by_ref["contacts.create"] == {"bob@b.c": 2, "own@b.c": 1}


def test_the_command_line_calls_and_publishes(ground: Ground, vendor: VendorProcess) -> None:
    def sluice(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gateway", *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=ground.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    one = sluice("call", "crm.contacts.create", "-a", "email=cli@b.c", "--wait", "10", "-o", "json")
    assert (one.returncode, json.loads(one.stdout)["state"]) == (0, "completed")
    received = ledger.sums(ground.redis)["received"]
    lines = "".join(
        json.dumps({"tool": "crm.contacts.get", "arguments": {"id": f"c{number}"}}) + "\n" for number in range(300)
    )
    assert sluice("publish", "-", stdin=lines).returncode == 0
    until_quiet(ground.redis, received + 300)
    assert vendor.counts().by_operation["contacts.get"] == 300

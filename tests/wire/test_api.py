"""The HTTP door on a real port, a real Redis and a real vendor: each documented answer, good and bad."""

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.embedded_redis import EmbeddedRedis
from schemas.topics import FIELD
from tests.served import Served, assert_problem, bearer, people, served
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

CREATE = "crm.contacts.create"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
LACKING = """
---
apiVersion: sluice/v1
kind: Connection
metadata: {name: bare, connector: crm}
secrets: {token: "${env:SLUICE_TEST_NOT_SET}"}
"""


@pytest.fixture
async def sluice(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    async with served(redis_url, tmp_path, manifest(vendor.url)) as gateway:
        yield gateway


@pytest.fixture
async def idle(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    """A gateway without a worker, whose lanes hold one call."""
    async with served(redis_url, tmp_path, manifest(vendor.url), works=False, queue_limit=1) as gateway:
        yield gateway


@pytest.fixture
async def peopled(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    agents, operators = {"one": "crm.contacts.*", "other": "crm.*"}, {"viewer": "viewer", "admin": "admin"}
    async with served(redis_url, tmp_path, manifest(vendor.url) + people(tmp_path, agents, operators)) as gateway:
        yield gateway


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:  # pytest's own folders are too deep for a unix socket
        yield Path(folder)


async def test_a_call_that_ends_in_time_is_answered_with_its_result(sluice: Served, vendor: VendorProcess) -> None:
    answer = await sluice.publish(CREATE, {"email": "a@b.c"}, session="run-42", idempotency_key="run-42/1")
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=20"
    body = answer.json()
    assert (body["state"], body["effect"], body["http_status"]) == ("completed", "executed", 201)
    assert (body["session"], body["idempotency_key"], body["attempts"]) == ("run-42", "run-42/1", 1)
    shown = await sluice.http.get(f"/v1/calls/{body['call']}")
    assert shown.status_code == 200
    assert [attempt["status"] for attempt in shown.json()["attempts"]] == [201]
    assert {**shown.json(), "attempts": 1} == body


async def test_a_call_that_takes_longer_is_accepted_and_can_be_waited_for(
    sluice: Served, vendor: VendorProcess
) -> None:
    await vendor.aio.script("echo", Behaviour(do=Kind.HOLD))
    answer = await sluice.http.post("/v1/calls", json={"tool": "crm.echo", "arguments": {}})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
    body = answer.json()
    assert set(body) == {"call", "state", "hold"}
    assert set(body["hold"]) == {"reason", "detail", "position", "eta_s", "action"}
    await vendor.aio.until(held=1)
    early = await sluice.http.get(answer.headers["location"], params={"wait": 1})
    assert early.status_code == 202
    assert early.json()["state"] == "processing"
    assert early.json()["attempts"] == []
    late = asyncio.create_task(sluice.http.get(answer.headers["location"], params={"wait": 20}))
    await asyncio.sleep(0.05)
    await vendor.aio.release()
    assert (await late).status_code == 200
    assert (await late).json()["state"] == "completed"


async def test_a_call_that_fails_is_a_result_and_not_an_error(sluice: Served, vendor: VendorProcess) -> None:
    await vendor.aio.script(CREATE.removeprefix("crm."), Behaviour(do=Kind.STATUS, status=422, forever=True))
    answer = await sluice.publish(CREATE, {"email": "a@b.c"})
    assert answer.status_code == 200
    assert answer.json()["state"] == "failed"
    assert answer.json()["error"]["class"] == "http.422"
    assert answer.json()["error"]["dead_letter"]


async def test_the_same_key_is_one_execution_and_one_answer(sluice: Served, vendor: VendorProcess) -> None:
    headers = {"Idempotency-Key": "step-1"}
    answers = await asyncio.gather(*(sluice.publish(CREATE, {"email": "a@b.c"}, headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len(await vendor.aio.arrivals("contacts.create")) == 1
    other = await sluice.publish(CREATE, {"email": "x@y.z"}, headers=headers)
    assert answers[0].json()["call"] in assert_problem(other, 409, "ingest.duplicate_conflict")["detail"]


async def test_a_trace_travels_from_the_request_to_the_result(sluice: Served, redis: "Redis") -> None:
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    await sluice.publish("crm.echo", {}, headers=headers)
    entries: Any = await redis.xrange("tool-results")
    ((_, fields),) = entries
    assert TRACE in json.loads(fields[FIELD.encode()])["traceparent"]


@pytest.mark.parametrize(
    ("body", "status", "failure"),
    [
        (b"{", 400, "decode.json"),
        (b"", 400, "decode.json"),
        (b'{"tool": "crm.echo", "arguments": {"word": NaN}}', 400, "decode.json"),
        (b'{"tool": "crm.echo", "arguments": {"word": "\xff"}}', 400, "decode.encoding"),
        (b'{"tool": "crm.echo", "arguments": ' + b'{"a":' * 70 + b"1" + b"}" * 71, 400, "decode.depth"),
        (b"[]", 400, "ingest.malformed"),
        (b'{"tool": "crm.echo"}', 400, "ingest.malformed"),
        (b'{"tool": "crm.echo", "arguments": {}, "prio": 1}', 400, "ingest.malformed"),
        (b'{"tool": "crm.echo", "arguments": {}, "deadline": "soon"}', 400, "ingest.malformed"),
        (b'{"tool": "crm.ecko", "arguments": {}}', 422, "ingest.unknown_tool"),
        (b'{"tool": "crm.echo", "arguments": {}, "connection": "x"}', 422, "ingest.unknown_connection"),
        (b'{"tool": "crm.echo", "arguments": {"word": 1}}', 422, "ingest.arguments"),
        (b'{"tool": "crm.echo", "arguments": {}, "deadline": "2020-01-01T00:00:00Z"}', 422, "admission.deadline"),
        (b'{"tool": "crm.echo", "arguments": {"word": "' + b"x" * 300_000 + b'"}}', 413, "ingest.oversize"),
    ],
    ids=lambda value: value[:48].decode("latin-1") if isinstance(value, bytes) else None,
)
async def test_bad_input_has_its_documented_answer(sluice: Served, body: bytes, status: int, failure: str) -> None:
    answer = await sluice.http.post("/v1/calls", content=body, headers={"Content-Type": "application/json"})
    assert assert_problem(answer, status, failure)["effect"] == "not_executed"
    assert (await sluice.gateway.lanes.stats()).get("received", 0) == 0


async def test_errors_point_into_the_body(sluice: Served) -> None:
    answer = await sluice.publish(CREATE, {"email": 7, "extra": 1})
    pointers = {error["pointer"] for error in assert_problem(answer, 422, "ingest.arguments")["errors"]}
    assert "/arguments/email" in pointers


async def test_a_secret_that_is_missing_is_named_and_the_call_is_not_accepted(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    manifests = manifest(vendor.url, auth="{type: bearer}") + LACKING
    async with served(redis_url, tmp_path, manifests, works=False) as gateway:
        problem = assert_problem(await gateway.publish("crm.echo", {}), 422, "token.config")
    assert "token" in problem["detail"]
    assert "doctor" in problem["action"]


async def test_a_body_announced_too_large_is_refused_before_it_is_sent(sluice: Served) -> None:
    host, port = sluice.url.removeprefix("http://").split(":")

    def ask() -> bytes:
        with socket.create_connection((host, int(port)), timeout=5) as door:
            door.sendall(b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n")
            return door.recv(65536)

    assert (await asyncio.to_thread(ask)).startswith(b"HTTP/1.1 413")


async def test_a_full_lane_refuses_and_says_when_to_come_back(idle: Served) -> None:
    first = await idle.http.post("/v1/calls", json={"tool": "crm.echo", "arguments": {}})
    assert first.status_code == 202
    second = await idle.http.post("/v1/calls", json={"tool": "crm.echo", "arguments": {}})
    assert assert_problem(second, 429, "admission.queue_full")["retryable"]
    assert int(second.headers["retry-after"]) > 0


async def test_what_has_not_started_can_be_withdrawn(idle: Served) -> None:
    answer = await idle.http.post("/v1/calls", json={"tool": "crm.echo", "arguments": {}})
    place = answer.headers["location"]
    for _ in range(2):
        gone = await idle.http.delete(place)
        assert gone.status_code == 200
        assert gone.json()["state"] == "cancelled"
        assert gone.json()["effect"] == "not_executed"
    assert (await idle.http.get(place)).json()["state"] == "cancelled"


async def test_what_runs_or_has_ended_cannot_be_withdrawn(sluice: Served, vendor: VendorProcess) -> None:
    await vendor.aio.script("echo", Behaviour(do=Kind.HOLD))
    answer = await sluice.http.post("/v1/calls", json={"tool": "crm.echo", "arguments": {}})
    await vendor.aio.until(held=1)
    assert_problem(await sluice.http.delete(answer.headers["location"]), 409, None)
    await vendor.aio.release()
    await sluice.http.get(answer.headers["location"], params={"wait": 20})
    assert_problem(await sluice.http.delete(answer.headers["location"]), 409, None)


@pytest.mark.parametrize("address", ["/v1/calls/01J", "/nothing", "/v1", "/schema", "/openapi.json/x"])
async def test_what_is_not_there_is_a_problem_too(sluice: Served, address: str) -> None:
    assert_problem(await sluice.http.get(address), 404, None)


async def test_a_wrong_method_and_a_wrong_wait_are_problems(sluice: Served) -> None:
    assert_problem(await sluice.http.put("/v1/calls", json={}), 405, None)
    for wait in ("61", "-1", "x", "1.5", ""):
        assert_problem(await sluice.http.get("/v1/calls/01J", params={"wait": wait}), 400, None)


@pytest.mark.parametrize("query", ["wait=abc", "wait=99", "wait=30", "foo=bar", "foo="])
async def test_publishing_takes_no_query_parameter_and_names_the_header_that_waits(sluice: Served, query: str) -> None:
    answer = await sluice.http.post(f"/v1/calls?{query}", json={"tool": "crm.echo", "arguments": {}})
    problem = assert_problem(answer, 400, None)
    name = query.partition("=")[0]
    assert repr(name) in problem["detail"]
    assert problem["errors"][0]["pointer"] == f"?{name}"
    assert ("Prefer: wait=N" in problem["detail"]) == (name == "wait")


async def test_two_keys_that_differ_are_refused(sluice: Served) -> None:
    headers = {"Idempotency-Key": "a"}
    assert_problem(await sluice.publish("crm.echo", {}, idempotency_key="b", headers=headers), 400, None)


async def test_without_a_key_nothing_is_told(peopled: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert_problem(await peopled.publish("crm.echo", {}, headers=headers), 401, "ingest.auth")
        for address in ("/v1/calls/01J", "/v1/connectors"):
            answer = await peopled.http.get(address, headers=headers)
            assert_problem(answer, 401, "ingest.auth")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for address in ("/livez", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json"):
        assert (await peopled.http.get(address)).status_code == 200


async def test_an_agent_keeps_to_its_scope_and_its_own_calls(peopled: Served) -> None:
    assert_problem(await peopled.publish("crm.echo", {}, headers=bearer("one")), 403, "ingest.scope")
    answer = await peopled.publish(CREATE, {"email": "a@b.c"}, headers=bearer("one"))
    assert answer.json()["request"]["source"] == "agent/one"
    place = f"/v1/calls/{answer.json()['call']}"
    assert (await peopled.http.get(place, headers=bearer("one"))).status_code == 200
    assert (await peopled.http.get(place, headers=bearer("viewer"))).status_code == 200
    assert_problem(await peopled.http.get(place, headers=bearer("other")), 404, None)
    assert_problem(await peopled.http.delete(place, headers=bearer("other")), 404, None)
    tools = (await peopled.http.get("/v1/connectors", headers=bearer("one"))).json()["tools"]
    assert {tool["tool"] for tool in tools} == {CREATE, "crm.contacts.get", "crm.contacts.update"}


async def test_a_viewer_reads_and_changes_nothing(peopled: Served) -> None:
    assert_problem(await peopled.publish(CREATE, {"email": "a@b.c"}, headers=bearer("viewer")), 403, "ingest.scope")
    assert_problem(await peopled.http.delete("/v1/calls/01J", headers=bearer("viewer")), 403, "ingest.scope")
    assert (await peopled.http.get("/v1/connectors", headers=bearer("viewer"))).status_code == 200


async def test_while_redis_is_away_nothing_is_accepted_and_nobody_waits(
    short_path: Path, tmp_path: Path, vendor: VendorProcess
) -> None:
    async with (
        EmbeddedRedis(short_path) as server,
        served(server.url, tmp_path, manifest(vendor.url), works=False) as gateway,
    ):
        await server.stop()
        async with asyncio.timeout(4):
            answer = await gateway.publish("crm.echo", {})
            assert assert_problem(answer, 503, None)["effect"] == "not_executed"
            assert int(answer.headers["retry-after"]) > 0
            assert_problem(await gateway.http.get("/v1/calls/01J"), 503, None)
            ready = assert_problem(await gateway.http.get("/readyz"), 503, None)
            assert ready["errors"][0]["pointer"] == "/redis"
            assert (await gateway.http.get("/livez")).status_code == 200
            assert b"sluice_build_info" in (await gateway.http.get("/metrics")).content


async def test_asking_after_readiness_harms_no_queue(sluice: Served) -> None:
    assert (await sluice.http.get("/readyz")).json()["status"] == "ready"
    assert (await sluice.publish("crm.echo", {})).json()["state"] == "completed"


async def test_metrics_count_the_events_by_fate(sluice: Served) -> None:
    await sluice.publish("crm.echo", {})
    text = (await sluice.http.get("/metrics")).text
    assert 'sluice_events{fate="received"} 1.0' in text
    assert 'sluice_events{fate="completed"} 1.0' in text
    assert 'sluice_events{fate="live"} 0.0' in text


async def test_the_openapi_document_describes_bodies_problems_and_keys(sluice: Served) -> None:
    document = (await sluice.http.get("/openapi.json")).json()
    publish = document["paths"]["/v1/calls"]["post"]
    assert publish["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ToolCallData"
    }
    assert set(publish["responses"]) == {"200", "202", "400", "401", "403", "408", "409", "413", "422", "429", "503"}
    assert "application/problem+json" in publish["responses"]["422"]["content"]
    assert publish["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    names = set(document["components"]["schemas"])
    assert references(document) <= {f"#/components/schemas/{name}" for name in names}


async def test_the_asyncapi_document_describes_every_topic_and_refers_to_nothing_missing(sluice: Served) -> None:
    document = (await sluice.http.get("/asyncapi.json")).json()
    assert document["asyncapi"] == "3.0.0"
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {"tool-calls", "tool-results", "tool-events", "dead-letters", "gateway-alerts"}
    for reference in references(document):
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def references(value: Any) -> set[str]:
    match value:
        case {"$ref": str(reference)}:
            return {reference}
        case dict():
            return set().union(*map(references, value.values()))
        case list():
            return set().union(*map(references, value))
        case _:
            return set()

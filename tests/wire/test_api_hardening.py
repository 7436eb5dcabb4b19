"""The HTTP door against those who mean harm or have no luck: web pages, other agents, slow senders, crowds and races."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.entrypoints.api import elsewhere, reading
from gateway.entrypoints.api.problems import MAX_ECHO
from gateway.flow import status
from gateway.flow.status import Finale
from gateway.ports import Claim
from tests.served import Served, assert_problem, bearer, people, served
from tests.vendor.client import VendorProcess, manifest

pytestmark = pytest.mark.wire

CREATE = "crm.contacts.create"
ECHO = {"tool": "crm.echo", "arguments": {}}


@pytest.fixture
async def idle(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    """A gateway that declares nobody and has no worker."""
    async with served(redis_url, tmp_path, manifest(vendor.url), works=False) as gateway:
        yield gateway


@pytest.fixture
async def peopled(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    agents = people(tmp_path, {"one": "crm.*", "other": "crm.*"})
    async with served(redis_url, tmp_path, manifest(vendor.url) + agents) as gateway:
        yield gateway


async def waiting(gateway: Served) -> str:
    """Publish a call that nobody works on and return its id."""
    call: str = (await gateway.http.post("/v1/calls", json=ECHO)).json()["call"]
    return call


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "evil.example:8080"},
    {"Host": "localhost.evil.example"},
    {"Host": "192.168.1.5:8080"},
    {"Host": "127.0.0.1@evil.example"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_while_nobody_is_declared_a_request_from_elsewhere_is_refused(
    idle: Served, headers: dict[str, str]
) -> None:
    body = b'{"tool": "crm.echo", "arguments": {}}'
    answer = await idle.http.post("/v1/calls", content=body, headers={"Content-Type": "text/plain", **headers})
    problem = assert_problem(answer, 403, "ingest.auth")
    assert "declare an Agent or Operator" in problem["action"]
    assert (await idle.gateway.lanes.stats()).get("received", 0) == 0
    for address in ("/v1/calls/01J", "/v1/connectors", "/metrics", "/openapi.json", "/asyncapi.json"):
        assert_problem(await idle.http.get(address, headers=headers), 403, "ingest.auth")
    assert (await idle.http.get("/livez", headers=headers)).status_code == 200
    assert (await idle.http.get("/readyz", headers=headers)).status_code != 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:8080"},
        {"Host": "127.8.9.1:1"},
        {"Host": "[::1]:8080"},
        {"Host": "[::1]"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_what_this_machine_asks_is_answered_also_without_a_content_type(
    idle: Served, headers: dict[str, str]
) -> None:
    answer = await idle.http.post("/v1/calls", content=b'{"tool": "crm.echo", "arguments": {}}', headers=headers)
    assert answer.status_code == 202
    form = {"Content-Type": "application/x-www-form-urlencoded", **headers}  # what curl -d says
    answer = await idle.http.post("/v1/calls", content=b'{"tool": "crm.echo", "arguments": {}}', headers=form)
    assert answer.status_code == 202


async def test_where_keys_are_declared_the_name_of_the_host_does_not_matter(peopled: Served) -> None:
    headers = {"Host": "sluice.internal", **bearer("one")}
    assert (await peopled.http.get("/v1/connectors", headers=headers)).status_code == 200


def test_a_request_without_a_host_comes_from_elsewhere() -> None:
    assert elsewhere.foreign([], [], []) is not None
    assert elsewhere.foreign(["localhost", "evil.example"], [], []) is not None


@pytest.mark.parametrize("email", ["a@b.c", "x@y.z"], ids=["the same payload", "another payload"])
async def test_a_key_of_another_agent_is_taken_and_tells_nothing_of_its_call(peopled: Served, email: str) -> None:
    def key(name: str) -> dict[str, str]:
        return {**bearer(name), "Idempotency-Key": "step-1"}

    first = await peopled.publish(CREATE, {"email": "a@b.c"}, session="not-yours", headers=key("one"))
    second = await peopled.publish(CREATE, {"email": email}, headers=key("other"))
    problem = assert_problem(second, 409, "ingest.duplicate_conflict")
    assert problem["action"] == "Use another idempotency key."
    assert first.json()["call"] not in second.text
    assert "not-yours" not in second.text
    assert "location" not in second.headers
    again = await peopled.publish(CREATE, {"email": "a@b.c"}, session="not-yours", headers=key("one"))
    assert again.json() == first.json()


async def test_what_ends_while_it_is_withdrawn_is_not_answered_as_withdrawn(
    idle: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes, delivery = idle.gateway.lanes, idle.gateway.delivery
    seize = lanes.seize

    async def too_late(call: str) -> Any:
        (claim,) = (await lanes.home.claim("w", 1, room=1, grace_us=5_000_000)).claims
        await delivery.deliver(claim, idle.gateway.ambient.monotonic())
        return await seize(call)

    monkeypatch.setattr(lanes, "seize", too_late)
    call = await waiting(idle)
    answer = await idle.http.delete(f"/v1/calls/{call}")
    assert "completed" in assert_problem(answer, 409, None)["detail"]


async def test_a_withdrawal_whose_lease_ended_is_no_withdrawal(idle: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = idle.gateway.delivery
    cancel = delivery.cancel

    async def stalled(claim: Claim) -> Any:
        (taken,) = await _reaped(idle)
        await delivery.recover(taken)
        return await cancel(claim)

    monkeypatch.setattr(delivery, "cancel", stalled)
    call = await waiting(idle)
    assert_problem(await idle.http.delete(f"/v1/calls/{call}"), 409, None)
    assert (await idle.http.get(f"/v1/calls/{call}")).status_code == 202


async def _reaped(gateway: Served) -> tuple[Claim, ...]:
    redis: Any = gateway.gateway.redis
    leases = gateway.gateway.shard.key("leases")
    for call in await redis.zrange(leases, 0, -1):
        await redis.zadd(leases, {call: 1})
    return await gateway.gateway.lanes.home.reap(most=10, lease_us=10_000_000, gap_us=1 << 50, hold_us=0)


async def test_a_body_that_does_not_come_is_not_waited_for(idle: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_WITHIN_S", 0.1)
    host, port = idle.url.removeprefix("http://").split(":")
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        answer = await reader.read()  # to the end: the connection is closed too
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answer


async def test_a_sender_that_goes_away_is_no_bug_of_ours(idle: Served, capfd: pytest.CaptureFixture[str]) -> None:
    host, port = idle.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.05)
    told = capfd.readouterr()
    assert "api.broken" not in told.out + told.err


async def test_all_who_wait_for_one_call_share_one_look(
    idle: Served, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looks() -> int:
        return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])

    monkeypatch.setattr(status, "LOOK_EVERY_S", 0.1)
    call = await waiting(idle)
    before, crowd, rounds = await looks(), 100, 10
    await asyncio.gather(*(idle.gateway.status.wait(call, rounds * 0.1) for _ in range(crowd)))
    # Each looks when it comes and when it goes; in between they look together.
    assert await looks() - before <= 2 * crowd + 2 * rounds


async def test_one_who_gives_up_does_not_end_the_wait_of_the_others(idle: Served) -> None:
    call = await waiting(idle)
    first = asyncio.create_task(idle.gateway.status.wait(call, 20))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(idle.gateway.status.wait(call, 20))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await idle.http.delete(f"/v1/calls/{call}")).status_code == 200
    async with asyncio.timeout(5):
        view, _ = await second
    assert isinstance(view, Finale)


async def test_a_crowd_that_waits_is_bounded(idle: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MAX_WAITING", 1)
    place = f"/v1/calls/{await waiting(idle)}"
    first = asyncio.create_task(idle.http.get(place, params={"wait": 1}))
    await asyncio.sleep(0.1)
    crowded = await idle.http.get(place, params={"wait": 1})
    assert assert_problem(crowded, 503, None)["retryable"]
    assert int(crowded.headers["retry-after"]) > 0
    assert (await idle.http.get(place)).status_code == 202
    stored = await idle.http.post("/v1/calls", json=ECHO, headers={"Prefer": "wait=30"})
    assert stored.status_code == 202
    assert "preference-applied" not in stored.headers
    assert (await first).status_code == 202
    assert (await idle.http.get(place, params={"wait": 1})).status_code == 202


async def test_a_signal_that_cannot_be_read_does_not_end_the_listening(
    idle: Served, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "LOOK_EVERY_S", 30.0)  # only a signal can end the wait below in time
    signals, channel = idle.gateway.signals, idle.gateway.shard.key("settled")
    signals.agendas[0].clear()
    await redis.publish(channel, b"\xff")
    async with asyncio.timeout(5):
        await signals.agendas[0].sleep(10)  # it listens again
    call = await waiting(idle)
    wait = asyncio.create_task(idle.gateway.status.wait(call, 20))
    await asyncio.sleep(0.05)
    await idle.http.delete(f"/v1/calls/{call}")
    async with asyncio.timeout(5):
        view, _ = await wait
    assert isinstance(view, Finale)


LONG = "x" * 20_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"tool": LONG, "arguments": {}}, 400),
        ({"tool": "crm.echo", "arguments": {}, "connection": LONG}, 400),
        ({"tool": CREATE, "arguments": {"email": [LONG], LONG: 1}}, 422),
        ({"tool": "crm.echo", "arguments": {}, LONG: 1}, 400),
        ({"tool": "crm.echo", "arguments": {}, "deadline": LONG}, 400),
    ],
    ids=["tool", "connection", "arguments", "field", "deadline"],
)
async def test_a_refusal_does_not_send_back_what_it_was_sent(idle: Served, body: dict[str, Any], expected: int) -> None:
    answer = await idle.http.post("/v1/calls", json=body)
    assert answer.status_code == expected, answer.text
    problem = answer.json()
    texts = [problem["detail"], *(error[name] for error in problem["errors"] for name in ("pointer", "message"))]
    assert max(map(len, texts)) <= MAX_ECHO
    assert "x" * (MAX_ECHO + 1) not in answer.text

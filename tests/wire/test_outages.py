"""A vendor in trouble behind a whole gateway: calls wait instead of failing, and the vendor counts how often it was asked."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from structlog.testing import capture_logs

from connectors.breaking.breaker import Breaker
from connectors.breaking.standing import State, phase
from gateway.embedded_redis import EmbeddedRedis
from gateway.lanes.connect import connect
from schemas.topics import Topics
from tests.outage import changes, declared, is_a_path, moment_us, one_at_a_time, reopened, since, too_many
from tests.served import Served, served
from tests.vendor.client import VendorProcess
from tests.vendor.record import busiest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

BREAKER = {"open": "300ms"}
DOWN = Behaviour(do=Kind.STATUS, status=503, seconds=0.05, forever=True)
WELL = Behaviour(do=Kind.DELAY, seconds=0.05, forever=True)
NOW = {"Prefer": "wait=0"}
US = 1_000_000
ON_THE_WAY_US = 150_000
"""What was let through just before it opened may arrive so long after; the first probe comes later than this."""


class Scene:
    """A gateway before a vendor, and what a test asks them."""

    def __init__(self, running: Served, vendor: VendorProcess, redis: "Redis") -> None:
        self.running = running
        self.vendor = vendor
        self._redis: Any = redis

    async def publish(self, tool: str, *several: dict[str, Any], **more: Any) -> list[str]:
        """Accept calls, and wait for none."""
        publish = self.running.publish
        answers = await asyncio.gather(*(publish(tool, one, headers=NOW, **more) for one in several))
        assert {answer.status_code for answer in answers} <= {200, 202}, answers[0].text
        return [answer.json()["call"] for answer in answers]

    async def create(self, count: int, first: int = 0) -> list[str]:
        """Accept keyed calls, one effect each."""
        emails = [{"email": f"{first + at}@example.com"} for at in range(count)]
        return await self.publish("crm.contacts.create", *emails)

    async def call(self, identity: str, *, wait_s: int = 0) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.running.http.get(f"/v1/calls/{identity}?wait={wait_s}")).json()
        return shown

    async def ended(self, calls: list[str]) -> list[dict[str, Any]]:
        """Wait until all have ended."""
        async with asyncio.timeout(30):
            return [await self.call(one, wait_s=25) for one in calls]

    async def held(self, calls: list[str], saying: str = "") -> dict[str, Any]:
        """Wait until a breaker holds one of the calls, in words that have these among them; return it."""
        async with asyncio.timeout(10):
            while True:
                for identity in reversed(calls):
                    shown = await self.call(identity)
                    hold = shown.get("hold") or {}
                    if hold.get("reason") == "breaker_open" and saying in hold["detail"]:
                        return shown
                await asyncio.sleep(0.02)

    async def events(self) -> list[dict[str, Any]]:
        entries = await self._redis.xrange(Topics().events)
        return [json.loads(fields[b"data"]) for _, fields in entries]

    async def told(self) -> list[tuple[str, str]]:
        return changes(await self.events())

    async def until_told(self, enough: Callable[[list[tuple[str, str]]], bool], seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while not enough(await self.told()):  # noqa: ASYNC110 - no event comes from a stream
                await asyncio.sleep(0.02)

    @property
    def breaker(self) -> Breaker:
        """As the gateway's own process sees it."""
        return self.running.gateway.guarding.guards.breakers.of("crm", self.vendor.url)


@asynccontextmanager
async def scene(
    redis: "Redis", url: str, folder: Path, vendor: VendorProcess, connector: dict[str, Any], *more: dict[str, Any]
) -> AsyncIterator[Scene]:
    text = "\n---\n".join(json.dumps(one) for one in (connector, *more)) + "\n"
    async with served(url, folder / "data", text, concurrency=32) as running:
        yield Scene(running, vendor, redis)


def ends(calls: list[dict[str, Any]]) -> Counter[str]:
    return Counter(call["state"] for call in calls)


async def test_in_an_outage_calls_wait_spend_nothing_and_all_complete_in_a_slow_start(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    connector = declared(vendor.url, BREAKER, timeout="2s", retry={"max_attempts": 2})
    labels = {"connector": "crm", "origin": vendor.url}
    vendor.script("contacts.create", Behaviour(do=Kind.DELAY, seconds=0.05, count=20), DOWN)
    with capture_logs() as logs:
        async with scene(redis, redis_url, tmp_path, vendor, connector) as it:
            calls = await it.create(110)
            waiting = await it.held(calls, "the breaker of its origin is open: ")
            said = "It waits in lane crm|-|contacts.create: crm is held (breaker_open) until 20"
            assert waiting["hold"]["detail"].startswith(said)
            assert "tried again by itself" in waiting["hold"]["action"]
            # More failed probes than a call may have attempts, and the first in the lane is in each of them.
            await it.until_told(lambda told: reopened(told) >= 3)
            vendor.script("contacts.create", WELL)
            over = await it.ended(calls)
            await it.until_told(lambda told: told[-1][1] == "closed")
            events, told = await it.events(), await it.told()
    arrivals, counts = vendor.arrivals("contacts.create"), vendor.counts()
    assert ends(over) == {"completed": 110}
    assert (counts.effects_total, counts.repeated_effects, counts.repeated_refs) == (110, [], [])
    assert max(len(call["attempts"]) for call in over) > 2, "attempts that failed while it was open were not spent"
    # While it was open nothing arrived but one probe each time, as the vendor counts.
    assert is_a_path(told), told
    opened, closed = moment_us(events, "open"), moment_us(events, "closed", last=True)
    probes = since(arrivals, opened + ON_THE_WAY_US, closed)
    assert [one.status for one in probes].count(503) == reopened(told), [one.wall_us - opened for one in probes]
    assert one_at_a_time(probes)
    after = since(arrivals, closed)
    assert len(after) > 40
    assert too_many(after) == []
    # The same story three times: events, log, and counters.
    lines = [(line["before"], line["state"]) for line in logs if line["event"] == "breaker.changed"]
    assert lines == told
    for state in ("open", "half_open", "closed"):
        sample = REGISTRY.get_sample_value("sluice_breaker_transitions_total", {**labels, "state": state})
        assert sample == [to for _, to in told].count(state)
    assert REGISTRY.get_sample_value("sluice_breaker_state", {**labels, "state": "closed"}) == 1


async def test_a_vendor_that_is_gone_is_waited_for(redis: "Redis", redis_url: str, tmp_path: Path) -> None:
    with VendorProcess() as vendor:
        connector = declared(vendor.url, BREAKER, timeout="2s")
        async with scene(redis, redis_url, tmp_path, vendor, connector) as it:
            first = await it.create(20)
            assert ends(await it.ended(first)) == {"completed": 20}
            assert vendor.counts().effects_total == 20
            vendor.kill()
            rest = await it.create(40, first=20)
            await it.held(rest)
            await it.until_told(lambda told: reopened(told) >= 2)
            vendor.start()
            assert ends(await it.ended(rest)) == {"completed": 40}
            counts = vendor.counts()
            assert (counts.effects_total, counts.repeated_effects) == (40, [])


async def test_calls_that_are_slow_trip_it_although_each_succeeds(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    connector = declared(vendor.url, {**BREAKER, "slow": {"over": "200ms", "rate": "80%"}}, timeout="2s")
    vendor.script("contacts.create", Behaviour(do=Kind.DELAY, seconds=0.4, forever=True))
    async with scene(redis, redis_url, tmp_path, vendor, connector) as it:
        calls = await it.create(60)
        await it.held(calls)
        trip = next(one for one in await it.events() if one["type"] == "breaker.changed")
        assert trip["data"]["reason"].endswith("calls took longer than 0.2 s")
        # A slow probe is no sign of health, either.
        await it.until_told(lambda told: reopened(told) >= 1)
        vendor.script("contacts.create", WELL)
        assert ends(await it.ended(calls)) == {"completed": 60}
        assert len(vendor.arrivals("contacts.create")) == vendor.counts().effects_total == 60


async def test_one_tenants_bad_credential_leaves_the_others_alone(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    connector = declared(vendor.url, BREAKER, timeout="2s") | {"auth": {"type": "bearer"}}
    connections = []
    for name, token in {"north": "the-right-token", "south": "a-wrong-token"}.items():
        (tmp_path / name).write_text(token)
        metadata = {"name": name, "connector": "crm"}
        secrets = {"token": f"${{file:{tmp_path / name}}}"}
        connections.append({"apiVersion": "sluice/v1", "kind": "Connection", "metadata": metadata, "secrets": secrets})
    vendor.auth("bearer", "the-right-token")
    async with scene(redis, redis_url, tmp_path, vendor, connector, *connections) as it:
        names = [{"id": f"c{at}"} for at in range(20)]
        vendor.script("contacts.get", Behaviour(do=Kind.STATUS, status=200, body={"id": "c"}, forever=True))
        bad = await it.publish("crm.contacts.get", *names, connection="south")
        good = await it.publish("crm.contacts.get", *names, connection="north")
        assert ends(await it.ended(good)) == {"completed": 20}
        assert "completed" not in ends(await it.ended(bad))
        assert vendor.counts().statuses["401"] >= 20
        assert await it.told() == []
        assert it.breaker.standing.state is State.CLOSED


async def test_a_503_that_names_a_time_is_left_alone_for_so_long(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    connector = declared(vendor.url, BREAKER, timeout="2s")
    busy = Behaviour(do=Kind.STATUS, status=503, headers={"Retry-After": "2"}, seconds=0.3, count=8)
    vendor.script("contacts.create", busy, WELL)
    async with scene(redis, redis_url, tmp_path, vendor, connector) as it:
        calls = await it.create(8)
        await it.until_told(lambda told: told == [("closed", "open")])
        (event,) = [one for one in await it.events() if one["type"] == "breaker.changed"]
        assert event["data"]["reason"].endswith("failures in a row")
        assert ends(await it.ended(calls)) == {"completed": 8}
    arrivals = vendor.arrivals("contacts.create")
    refused = [one.done_us or 0 for one in arrivals if one.status == 503]
    assert len(refused) == 8
    assert min(one.mono_us for one in arrivals if one.status != 503) >= max(refused) + 2 * US


async def test_an_unsafe_call_in_doubt_goes_to_a_person_and_those_that_wait_are_sent_once(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    """The vendor does what it is asked and answers 502: nobody knows, so nobody repeats."""
    connector = declared(vendor.url, BREAKER, timeout="2s")
    broken = Behaviour(do=Kind.STATUS, status=502, executes=True, seconds=0.05, forever=True)
    vendor.script("messages.send", broken)
    vendor.script("contacts.get", DOWN)
    async with scene(redis, redis_url, tmp_path, vendor, connector) as it:
        doubtful = await it.publish("crm.messages.send", *({"ref": f"d{at}", "text": "x"} for at in range(6)))
        await it.until_told(lambda told: len(told) >= 1)
        sent = vendor.counts().by_operation["messages.send"]
        (safe,) = await it.publish("crm.contacts.get", {"id": "c"})
        waiting = await it.publish("crm.messages.send", *({"ref": f"w{at}", "text": "x"} for at in range(20)))
        await it.until_told(lambda told: reopened(told) >= 3)
        # Probes are what may be repeated, as long as there is one that waits.
        assert vendor.counts().by_operation["messages.send"] - sent <= 1
        assert (await it.call(safe))["state"] in {"pending", "processing", "retrying"}
        vendor.script("contacts.get", Behaviour(do=Kind.STATUS, status=200, body={"id": "c"}, forever=True))
        vendor.script("messages.send", WELL)
        assert ends(await it.ended([safe])) == {"completed": 1}
        over = await it.ended(doubtful + waiting)
        counts = vendor.counts()
        assert ends(over)["escalated"] >= 5
        assert ends(over)["escalated"] + ends(over)["completed"] == 26
        assert all(call["effect"] == "unknown" for call in over if call["state"] == "escalated")
        assert counts.effects_by_ref["messages.send"] == dict.fromkeys(
            [f"d{at}" for at in range(6)] + [f"w{at}" for at in range(20)], 1
        )


async def test_while_redis_is_away_a_worker_decides_alone_and_then_tells_the_others(
    tmp_path: Path, vendor: VendorProcess
) -> None:
    connector = declared(vendor.url, {"open": "3s"}, timeout="5s")
    vendor.script("contacts.create", Behaviour(do=Kind.STATUS, status=503, seconds=1.0, count=8), WELL)
    (tmp_path / "redis").mkdir()
    server = EmbeddedRedis(tmp_path / "redis")
    await server.start()
    async with (
        connect(server.url) as redis,
        scene(redis, server.url, tmp_path, vendor, connector) as it,
    ):
        calls = await it.create(8)
        await vendor.aio.until(arrivals=8)
        await server.stop()
        async with asyncio.timeout(5):
            while phase(it.breaker.standing, 0) is not State.OPEN:  # noqa: ASYNC110 - it has nobody to tell
                await asyncio.sleep(0.01)
        server = EmbeddedRedis(tmp_path / "redis")
        await server.start()
        await it.until_told(lambda told: told[:1] == [("closed", "open")])
        shared = (await it.running.gateway.guarding.standings.look())[it.breaker.key]
        assert shared.standing.generation == it.breaker.standing.generation == 1
        assert ends(await it.ended(calls)) == {"completed": 8}
        assert vendor.counts().repeated_effects == []
    await server.stop()
    arrivals = vendor.arrivals("contacts.create")
    assert busiest((one.mono_us for one in arrivals if one.status != 503), US) <= 8

"""The state on a Redis Cluster of three nodes: calls of many connectors lie in many shards, and each runs once, whatever a node does."""

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.exceptions import ResponseError

from gateway.entrypoints.relay import Relay
from gateway.kafka.producer import Message
from gateway.lanes import scripts
from gateway.lanes.fleet import Fleet
from gateway.lanes.outbox import Outbox, Wires
from gateway.lanes.spread.shards import reach
from schemas.sharding import shard_of, shard_of_id
from schemas.topics import Shard, Topics
from tests.redis_cluster import RedisCluster
from tests.served import Served, bearer, people, served
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

SHARDS = 8
NOWHERE = "kafka://127.0.0.1:9"
"""A bus that is away: what is told waits in the outbox."""

NAMES = ("crm", "erp", "mail", "shop", "desk", "wiki")
SPREAD = {name: shard_of(name, SHARDS) for name in NAMES}
BROKEN = Behaviour(do=Kind.STATUS, status=422, forever=True, body={"error": "no"})
LIMIT = "limits: {core: {rate: 10/s, per: connector}}\noperations:\n  contacts.create:\n    limits: {core: 1}\n"


@pytest.fixture
async def gateway(cluster: RedisCluster, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    async with on(cluster, tmp_path, vendor) as running:
        yield running


@contextlib.asynccontextmanager
async def on(cluster: RedisCluster, folder: Path, vendor: VendorProcess, **more: Any) -> AsyncIterator[Served]:
    """Serve on a cluster, with as many connectors as there are names; the vendor is one."""
    text = manifest(vendor.url).replace("max_attempts: 5", "max_attempts: 1")
    text = text.replace("operations:\n  contacts.create:\n", LIMIT)
    told = "\n---\n".join(text.replace("name: crm", f"name: {name}") for name in NAMES)
    told += people(folder, {"one": "*"}, {"night": "operator"})
    terms: dict[str, Any] = {"shards": SHARDS, "bus_url": NOWHERE, "beat_every": 0.1, "lease_guard": 1.0} | more
    async with served(cluster.url, folder / "data", told, **terms) as running:
        yield running


async def send(gateway: Served, connector: str, ref: str, **more: Any) -> dict[str, Any]:
    """Make an unsafe call and wait for its end, however often the API has to be asked."""
    return await call(gateway, f"{connector}.messages.send", {"ref": ref, "text": "hi"}, idempotency_key=ref, **more)


async def call(gateway: Served, tool: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    for _ in range(60):
        answer = await gateway.http.post(
            "/v1/calls",
            json={"tool": tool, "arguments": arguments, **more},
            headers={**bearer("one"), "Prefer": "wait=20"},
        )
        if answer.status_code == 200:
            found: dict[str, Any] = answer.json()
            return found
        assert answer.status_code in {202, 503}, answer.text
        await asyncio.sleep(0.2)
    raise AssertionError("it does not end")


async def test_calls_spread_over_shards_and_nodes_and_are_found_by_their_id(
    gateway: Served, cluster: RedisCluster, vendor: VendorProcess
) -> None:
    made = await asyncio.gather(*(send(gateway, name, f"{name}-{at}") for name in NAMES for at in range(5)))
    assert {one["state"] for one in made} == {"completed"}
    assert vendor.counts().effects_total == len(made) == len({one["call"] for one in made})
    for one in made:
        number = SPREAD[one["tool"].partition(".")[0]]
        assert shard_of_id(one["call"], SHARDS) == number
        node = cluster.of(Shard("", number).tag)
        assert node.client.exists(Shard("", number).answer(one["call"]))
        looked = await gateway.http.get(f"/v1/calls/{one['call']}", headers=bearer("one"))
        assert looked.json()["state"] == "completed"
    assert len({cluster.of(Shard("", number).tag).port for number in SPREAD.values()}) == 3
    assert (await gateway.gateway.lanes.stats())["completed"] == len(made)
    again = await send(gateway, "erp", "erp-0")
    assert again["call"] in {one["call"] for one in made}
    assert vendor.counts().effects_total == len(made)


async def test_every_script_runs_with_the_keys_that_it_declares(cluster: RedisCluster) -> None:
    blank = {"int": 1, "string": "x", "msgpack": msgspec.msgpack.encode([])}
    async with reach(cluster.url, "p.", SHARDS) as shards:
        for seat in (shards.parts[0], shards.parts[5]):
            topics = seat.topics
            streams = {
                "source": topics.calls,
                "results": topics.results,
                "events": topics.events,
                "letters": topics.letters,
                "alerts": topics.alerts,
                "topic": topics.letters,
                "stream": topics.results,
                "shard": seat.shard.tag,
            }
            for name in scripts.names():
                script = scripts.load(name)
                arguments = [blank.get(kind, "x") for kind in _kinds(script.source)]
                told = await complaint(seat.redis, name, [streams[key] for key in script.keys], arguments)
                assert "slot" not in told, (name, told)
                assert "non local key" not in told, (name, told)


async def complaint(redis: Any, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> str:
    """Return what the server or the script says against it; its arguments mean nothing."""
    try:
        await scripts.run(redis, name, keys, arguments)
    except ResponseError as error:
        return str(error)
    return ""


def _kinds(source: str) -> list[str]:
    return [line.split()[3] for line in source.splitlines() if line.startswith("-- ARGV[")]


async def test_a_limit_stays_exact_wherever_its_connector_lies(gateway: Served, vendor: VendorProcess) -> None:
    calls = [
        call(gateway, f"{name}.contacts.create", {"email": f"{name}{at}@b.c"})
        for name in ("crm", "erp")
        for at in range(15)
    ]
    made = await asyncio.gather(*calls)
    assert {one["state"] for one in made} == {"completed"}
    assert vendor.counts().by_operation["contacts.create"] == 30
    # Ten a second each, by the vendor's own count: the keys tell the two apart no more than the vendor does.
    assert vendor.window(1.0, "contacts.create") <= 20


async def test_lanes_letters_and_replays_are_those_of_all_shards(
    gateway: Served, vendor: VendorProcess, cluster: RedisCluster
) -> None:
    vendor.script("messages.send", BROKEN)
    ended = await asyncio.gather(*(send(gateway, name, f"{name}-{at}") for name in NAMES for at in range(3)))
    letters = {one["error"]["dead_letter"] for one in ended}
    assert len(letters) == 18
    found, cursor = list[str](), None
    while True:
        query = {"limit": "5"} | ({"cursor": cursor} if cursor else {})
        page = (await gateway.http.get("/v1/dead-letters", params=query, headers=bearer("night"))).json()
        found += [one["letter"] for one in page["letters"]]
        cursor = page.get("cursor") or page.get("next")
        if not cursor:
            break
    assert len(found) == 18
    assert set(found) == letters
    vendor.script("messages.send")
    plan = await gateway.http.post("/v1/replays", json={"filter": {}, "canary": 0}, headers=bearer("night"))
    assert plan.status_code == 201, plan.text
    over: dict[str, Any] = {}
    async with asyncio.timeout(30):
        while over.get("state") in {None, "running", "planned"}:
            await asyncio.sleep(0.05)
            over = (await gateway.http.get(f"/v1/replays/{plan.json()['replay']}", headers=bearer("night"))).json()
    assert (over["state"], over["progress"]["replayed_ok"]) == ("done", 18), over
    assert vendor.counts().effects_total == 18
    assert vendor.counts().repeated_refs == []
    paused = await gateway.http.post(
        "/v1/lanes/pause", json={"connector": "wiki", "reason": "x"}, headers=bearer("night")
    )
    assert paused.status_code == 200, paused.text
    waiting = [
        (await gateway.http.post("/v1/calls", json=asked(name), headers=bearer("one"))).json()
        for name in ("wiki", "wiki")
    ]
    lanes = (await gateway.http.get("/v1/lanes", headers=bearer("night"))).json()["lanes"]
    assert [(one["lane"], one["waiting"]) for one in lanes] == [("wiki|-|messages.send", 2)]
    gone = await gateway.http.delete(f"/v1/calls/{waiting[0]['call']}", headers=bearer("one"))
    assert gone.status_code in {200, 202}, gone.text
    assert (await gateway.http.get("/readyz")).status_code == 200


def asked(connector: str) -> dict[str, Any]:
    return {"tool": f"{connector}.messages.send", "arguments": {"ref": "later", "text": "hi"}}


class Bus:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.told: dict[str, list[dict[str, Any]]] = defaultdict(list)

    async def ready(self) -> int:
        return 1 << 20

    async def send(self, messages: Sequence[Message]) -> None:
        for one in messages:
            self.told[one.topic].append(json.loads(one.value))

    async def close(self) -> None:
        return


async def test_what_is_told_leaves_every_shard_once_and_under_its_public_name(
    gateway: Served, vendor: VendorProcess
) -> None:
    for name in NAMES:
        await send(gateway, name, f"{name}-ok")
    vendor.script("messages.send", BROKEN)
    failed = await send(gateway, "erp", "erp-bad")
    bus, public = Bus(), Topics()
    for seat in gateway.gateway.shards.writing:
        fleet = Fleet(seat.redis, seat.shard, "relay", dead_after_s=5)
        await seat.redis.delete(seat.shard.key("turn:relay"))  # the gateway's own has it, and its bus is away
        outbox = Outbox(Wires(redis=seat.redis, listener=seat.listener), seat.shard, seat.topics.outgoing, fleet)
        names = dict(zip(seat.topics.outgoing, public.outgoing, strict=True))
        relay = Relay(outbox, bus, public=names)
        while True:
            before = sum(map(len, bus.told.values()))
            assert await relay.turn(20)
            if sum(map(len, bus.told.values())) == before:
                break
    results = Counter(event["data"]["tool"].partition(".")[0] for event in bus.told[public.results])
    assert results == Counter(NAMES) + Counter(["erp"])
    (letter,) = bus.told[public.letters]
    assert letter["data"]["identity"]["dl_id"] == failed["error"]["dead_letter"]
    assert len(bus.told[public.events]) >= 3 * 7
    assert set(bus.told) <= set(public.outgoing)


async def test_a_node_that_is_killed_and_comes_back_loses_nothing_and_nothing_runs_twice(
    gateway: Served, vendor: VendorProcess, cluster: RedisCluster
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    victim = cluster.of(Shard("", SPREAD["erp"]).tag)
    sent = [asyncio.create_task(send(gateway, name, f"{name}-{at}")) for at in range(20) for name in NAMES]
    while vendor.counts(names=False).arrivals < 15:  # noqa: ASYNC110 - the vendor tells when asked
        await asyncio.sleep(0.02)
    victim.kill()
    elsewhere = next(name for name in NAMES if cluster_node(cluster, name) not in {None, victim.port})
    await asyncio.sleep(0.5)
    victim.start()
    made = await asyncio.gather(*sent)
    states = Counter(one["state"] for one in made)
    assert set(states) <= {"completed", "escalated"}, states
    counts = vendor.counts()
    assert counts.repeated_refs == []
    assert counts.effects_total + states["escalated"] >= len(made)
    assert (await send(gateway, elsewhere, "after"))["state"] == "completed"


def cluster_node(cluster: RedisCluster, connector: str) -> int | None:
    with contextlib.suppress(AssertionError):
        return cluster.of(Shard("", SPREAD[connector]).tag).port
    return None


async def test_a_slot_that_moves_under_load_takes_its_calls_with_it(
    gateway: Served, vendor: VendorProcess, cluster: RedisCluster
) -> None:
    tag = Shard("", SPREAD["erp"]).tag
    source = cluster.of(tag)
    target = next(node for node in cluster.masters if node is not source)
    sent = [asyncio.create_task(send(gateway, "erp", f"erp-{at}")) for at in range(40)]
    while vendor.counts(names=False).arrivals < 5:  # noqa: ASYNC110 - the vendor tells when asked
        await asyncio.sleep(0.01)
    await asyncio.to_thread(cluster.move, tag, target)
    made = await asyncio.gather(*sent)
    assert {one["state"] for one in made} <= {"completed", "escalated"}
    assert vendor.counts().repeated_refs == []
    assert vendor.counts().effects_total == len(made)
    assert (await send(gateway, "erp", "after"))["state"] == "completed"
    assert cluster.of(tag) is target
    await asyncio.to_thread(cluster.move, tag, source)


async def test_a_replica_that_takes_over_sends_nothing_twice_and_is_told(
    six: RedisCluster, tmp_path: Path, vendor: VendorProcess
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    async with on(six, tmp_path, vendor) as gateway:
        victim = six.of(Shard("", SPREAD["erp"]).tag)
        sent = [asyncio.create_task(send(gateway, name, f"{name}-{at}")) for at in range(15) for name in NAMES]
        while vendor.counts(names=False).arrivals < 15:  # noqa: ASYNC110 - the vendor tells when asked
            await asyncio.sleep(0.02)
        victim.kill()
        made = await asyncio.gather(*sent)
        counts = vendor.counts()
        assert counts.repeated_refs == []
        states = Counter(one["state"] for one in made)
        assert set(states) <= {"completed", "escalated"}, states
        assert counts.effects_total + states["escalated"] >= len(made)
        assert (await send(gateway, "erp", "after"))["state"] == "completed"
        home = gateway.gateway.shards.home
        told: Any = await home.redis.xrange(home.topics.alerts)
        assert [fields for _, fields in told if b"gateway.epoch_lost" in fields[b"data"]]

"""Kafka as the bus and a Redis Cluster as the state: calls of many connectors go in, results come out, whoever dies in between."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.sharding import shard_of
from schemas.topics import Shard
from tests.faults.conftest import Workers
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import NUMBERS
from tests.kafka.stage import Stage
from tests.redis_cluster import RedisCluster
from tests.redis_pair import until
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SHARDS = 8
NAMES = ("crm", "erp", "mail", "shop", "desk", "wiki")
WITHIN_S = 60.0


@pytest.fixture
def spread(broker: KafkaBroker, cluster: RedisCluster, vendor: VendorProcess, tmp_path: Path) -> Iterator[Stage]:
    """Workers whose state lies on a cluster, with connectors in many of its shards."""
    workers = Workers(cluster.url, tmp_path, vendor.url)
    text = (tmp_path / "connectors.d" / "crm.yaml").read_text()
    for name in NAMES[1:]:
        (tmp_path / "connectors.d" / f"{name}.yaml").write_text(text.replace("name: crm", f"name: {name}"))
    workers.environment |= {"SLUICE_SHARDS": str(SHARDS)}
    stage = Stage(broker, workers, cluster.masters[0].client, vendor, f"c{next(NUMBERS)}-")
    stage.create()
    try:
        yield stage
    finally:
        workers.stop()


def events(count: int) -> list[bytes]:
    """Unsafe calls of every connector in turn, one that nobody can read and one of a tool that is not there."""
    made = [event(name, f"{name}-{at}") for at in range(count) for name in NAMES]
    return [*made, b"no event", event("nobody", "nobody")]


def event(connector: str, ref: str) -> bytes:
    data = {"tool": f"{connector}.messages.send", "arguments": {"ref": ref, "text": "hi"}}
    envelope = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/t", "id": ref}
    return json.dumps({**envelope, "data": data}).encode()


def results(stage: Stage, count: int) -> list[dict[str, Any]]:
    """Wait for results of so many calls, and return one of each."""
    found = stage.until_told(stage.topics.results, count, WITHIN_S)
    return list({one["id"]: one for one in found}.values())


def test_what_goes_in_at_kafka_lies_on_every_node_and_comes_out_again(spread: Stage, cluster: RedisCluster) -> None:
    spread.publish(events(8))
    spread.workers.start()
    told = results(spread, 49)
    states = [one["data"]["state"] for one in told]
    assert (states.count("completed"), states.count("rejected"), len(told)) == (48, 1, 49)
    (letter,) = spread.until_told(spread.topics.letters, 1)
    assert "decode." in json.dumps(letter["data"]["failure"])
    counts = spread.vendor.counts()
    assert (counts.effects_total, counts.repeated_refs) == (48, [])
    spread.publish(events(8))  # all of it once more: what is known is told again, and done no second time
    spread.until_told(spread.topics.letters, 2)
    spread.publish([event("crm", "last")])
    assert "last" in {one["data"]["request"]["id"] for one in results(spread, 51)}
    assert spread.vendor.counts().effects_total == 49
    homes = {cluster.of(Shard(spread.topics.prefix, shard_of(name, SHARDS)).tag).port for name in NAMES}
    assert len(homes) > 1
    assert all(node.client.dbsize() for node in cluster.masters)


def test_a_node_and_a_worker_that_are_killed_lose_nothing_and_double_nothing(
    spread: Stage, cluster: RedisCluster
) -> None:
    spread.vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    first = spread.workers.start()
    spread.workers.start()
    spread.publish(events(20))
    arrived_by = time.monotonic() + WITHIN_S
    while spread.vendor.counts(names=False).arrivals < 20:
        assert time.monotonic() < arrived_by, spread.workers.log[-6000:]
        time.sleep(0.02)
    victim = cluster.of(Shard(spread.topics.prefix, shard_of("erp", SHARDS)).tag)
    victim.kill()
    first.kill()
    time.sleep(0.5)
    victim.start()
    until(cluster.settled)
    spread.workers.start()
    told = results(spread, 121)
    counts = spread.vendor.counts()
    assert counts.repeated_refs == []
    states = [one["data"]["state"] for one in told]
    assert set(states) <= {"completed", "escalated", "rejected"}
    assert states.count("rejected") == 1
    assert counts.effects_total + states.count("escalated") >= 120
    assert len({one["data"]["request"]["id"] for one in told}) == 121

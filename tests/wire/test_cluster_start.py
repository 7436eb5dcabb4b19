"""What a gateway finds out about its state at the start: how many shards it has, and whether it is a Redis Cluster at all."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.entrypoints.cli import checks
from gateway.lanes.cluster import Cluster
from gateway.lanes.queue import PASSING
from gateway.lanes.spread.agreement import StateUnfit, agree
from gateway.lanes.spread.shards import reach
from gateway.policy.state_address import cluster_of
from gateway.settings import Settings
from gateway.starting import unsupported
from tests.redis_cluster import RedisCluster
from tests.redis_pair import Server

pytestmark = pytest.mark.wire


async def test_a_node_without_the_slot_counts_as_one_that_is_away(cluster: RedisCluster) -> None:
    address = cluster_of(cluster.url)
    assert address is not None
    whole = Cluster(address)
    async with whole.client("{s0}", timeout_s=5, most=2) as client:
        await client.set("{s0}:x", 1)
        source = cluster.of("{s0}")
        target = next(node for node in cluster.masters if node is not source)
        await asyncio.to_thread(cluster.move, "{s0}", target)
        with pytest.raises(PASSING):
            await client.get("{s0}:x")
        assert await client.get("{s0}:x") == b"1"
        await asyncio.to_thread(cluster.move, "{s0}", source)


async def test_the_number_of_shards_is_fixed_when_the_state_is_made(
    cluster: RedisCluster, redis_url: str, redis: Any
) -> None:
    del redis  # an empty one
    for url in (cluster.url, redis_url):
        async with reach(url, "", 4) as shards:
            await agree(shards)
            await agree(shards)
        async with reach(url, "", 5) as others:
            with pytest.raises(StateUnfit, match="SLUICE_SHARDS=4"):
                await agree(others)
    async with reach(redis_url, "old.", 2) as shards:
        await shards.home.redis.set(shards.home.shard.key("epoch"), "made before there were shards")
        with pytest.raises(StateUnfit, match="SLUICE_SHARDS=1"):
            await agree(shards)


async def test_a_url_of_the_other_kind_is_told_at_the_start(cluster: RedisCluster, alone: Server) -> None:
    with pytest.raises(StateUnfit, match="redis-cluster://"):
        async with reach(f"redis://127.0.0.1:{cluster.masters[0].port}/0", "", 1) as shards:
            await agree(shards)
    with pytest.raises(StateUnfit, match="no Redis Cluster"):
        async with reach(f"redis-cluster://127.0.0.1:{alone.port}", "", 1) as shards:
            await agree(shards)


async def test_the_doctor_looks_at_every_node(cluster: RedisCluster, tmp_path: Path) -> None:
    found = await checks._redis(Settings(redis_url=cluster.url, data=tmp_path))
    assert [one.status for one in found] == ["ok"] * 9 + ["fail"], found
    assert {one.detail.partition(": ")[0] for one in found[:9]} == {
        f"127.0.0.1:{node.port}" for node in cluster.masters
    }
    assert "kafka://" in found[9].fix


def test_a_cluster_is_no_bus() -> None:
    told = unsupported(Settings(redis_url="redis-cluster://a:1", connectors=[]))
    assert told is not None
    assert "SLUICE_BUS_URL=kafka://" in told
    assert unsupported(Settings(redis_url="redis-cluster://a:1", bus_url="kafka://a:1", connectors=[])) is None

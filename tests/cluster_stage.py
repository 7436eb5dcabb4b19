"""A Redis Cluster for whoever asks: one of three nodes for the whole run, empty for each test, and one with replicas."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_cluster import RedisCluster, redis_cluster
from tests.redis_pair import Server, until


@pytest.fixture(scope="session")
def three() -> Iterator[RedisCluster]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder, redis_cluster(Path(folder)) as started:
        yield started


@pytest.fixture
def cluster(three: RedisCluster) -> RedisCluster:
    """The three nodes, all running and empty."""
    for node in three.masters:
        if not node.running:
            node.start()
    until(three.settled)
    three.empty()
    return three


@pytest.fixture
def six() -> Iterator[RedisCluster]:
    """Three nodes with a replica each."""
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder, redis_cluster(Path(folder), replicas=True) as started:
        yield started


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Server]:
    """A server that is none of a cluster."""
    server = Server(tmp_path, "alone")
    yield server
    server.kill()

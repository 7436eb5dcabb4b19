"""A Redis Cluster of real servers of the machine: three masters on the loopback, with a replica each where a test asks for them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.redis_pair import Server, free_port, programs_here, until

SLOTS = 16_384
MASTERS = 3


class Node(Server):
    """One server of a cluster; it comes back under its own port with what is on its disk."""

    def flags(self) -> dict[str, object]:
        return super().flags() | {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": 1000,
            "cluster-port": self.bus_port,
            "cluster-replica-validity-factor": 0,
        }

    def __init__(self, folder: Path, name: str) -> None:
        self.bus_port = free_port()
        super().__init__(folder, name)

    def cluster(self, *words: object) -> str:
        """Say something to the cluster."""
        told = self.say("CLUSTER", *words)
        return told.decode() if isinstance(told, bytes) else str(told)

    def say(self, *words: object) -> Any:
        """Send a command as it stands."""
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    @property
    def name(self) -> str:
        return self.cluster("MYID")


class RedisCluster:
    """Three masters, each with a third of the slots."""

    def __init__(self, folder: Path, *, replicas: bool = False) -> None:
        self.masters = [Node(folder, f"m{number}") for number in range(MASTERS)]
        self.replicas = [Node(folder, f"r{number}") for number in range(MASTERS)] if replicas else []
        self._join()

    @property
    def nodes(self) -> list[Node]:
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        return "redis-cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.masters)

    def of(self, key: str) -> Node:
        """Return the server that has a key now."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            with contextlib.suppress(RedisError):
                for first, last, owner, *_ in _slots(node):
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == owner)
        raise AssertionError(f"nobody has {key}")

    def empty(self) -> None:
        for node in self.masters:
            node.client.flushall()

    def settled(self) -> bool:
        """Tell whether every server that runs takes the cluster for whole."""
        return all("cluster_state:ok" in node.cluster("INFO").replace("'", "") for node in self.nodes if node.running)

    def move(self, key: str, to: Node) -> None:
        """Move the slot of a key, with all that is in it, as an operator would."""
        slot, source = key_slot(key.encode()), self.of(key)
        to.cluster("SETSLOT", slot, "IMPORTING", source.name)
        source.cluster("SETSLOT", slot, "MIGRATING", to.name)
        while names := source.say("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.say("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *names)
        for node in (to, source, *(one for one in self.masters if one not in {to, source})):
            node.cluster("SETSLOT", slot, "NODE", to.name)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def _join(self) -> None:
        first = self.masters[0]
        for number, node in enumerate(self.masters):
            begin, end = SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1
            node.cluster("ADDSLOTSRANGE", begin, end)
            node.cluster("SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.cluster("MEET", "127.0.0.1", first.port, first.bus_port)
        until(lambda: all(len(_known(node)) == len(self.nodes) for node in self.nodes))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            until(lambda master=master, replica=replica: master.name in _known(replica))  # type: ignore[misc]
            replica.cluster("REPLICATE", master.name)
        until(self.settled)
        for master in self.masters if self.replicas else ():
            until(lambda master=master: master.say("WAIT", 1, 100))  # type: ignore[misc]


def _slots(node: Node) -> list[tuple[int, int, int]]:
    return [(one[0], one[1], one[2][1]) for one in node.say("CLUSTER", "SLOTS")]


def _known(node: Node) -> list[str]:
    told = node.say("CLUSTER", "NODES")
    if isinstance(told, dict):
        return [str(one["node_id"]) for one in told.values() if "handshake" not in str(one["flags"])]
    return [line.split()[0] for line in told.decode().splitlines() if "handshake" not in line]


@contextlib.contextmanager
def redis_cluster(folder: Path, *, replicas: bool = False) -> Iterator[RedisCluster]:
    """Start a cluster, and end it; where no server program is, whoever asks is skipped and told why."""
    if not programs_here():
        pytest.skip("NO REDIS CLUSTER HERE: no redis-server or valkey-server 7.0 or newer is on this machine")
    cluster = RedisCluster(folder, replicas=replicas)
    try:
        yield cluster
    finally:
        cluster.kill()

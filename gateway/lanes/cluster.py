"""A Redis Cluster, one shard at a time: all keys of a shard lie in one slot, so one node has it, and a plain client of that node is enough.

The node is looked up whenever a connection is made. A node that has the slot no more says so before it does anything: the connection then
counts as lost, and whoever waits for Redis waits until the next one finds the node that has it. Chosen over the library's cluster client,
which knows no Pub/Sub, no `WAIT` on the connection that wrote, and no scripts in a pipeline.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MasterDownError, RedisError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.lanes.connect import NoticingConnection, NoticingSSLConnection
from gateway.policy.state_address import ClusterAddress

ELSEWHERE: Final = (AskError, ClusterDownError, MasterDownError, TryAgainError)
"""This node does not serve the slot now (`MOVED` is a kind of the first): it has done nothing, and another does, or will."""

FRESH_S: Final = 0.5
"""How old a view of the cluster may be when a connection is made."""

ASK_S: Final = 2.0
"""How long one node may take to say who has which slot."""

Node = tuple[str, int]


class NoCluster(ResponseError):  # noqa: N818 - it names a situation
    """The server is none of a cluster."""


class Cluster:
    """Who has which slot, as one process sees it."""

    def __init__(self, address: ClusterAddress) -> None:
        """Asks nobody before it must."""
        self._address = address
        self._ranges: list[tuple[int, int, Node]] = []
        self._seen: list[Node] = []
        self._looked_s = float("-inf")
        self._lock = asyncio.Lock()

    async def node_of(self, slot: int | None) -> Node:
        """Return the node that has a slot, None: one that answers; raises a connection error when nobody knows."""
        async with self._lock:
            if slot is None or time.monotonic() - self._looked_s > FRESH_S:
                await self._look()
        if slot is None:
            return self._seen[0]
        for first, last, node in self._ranges:
            if first <= slot <= last:
                return node
        raise RedisConnectionError(f"no node of the cluster has slot {slot}")

    def moved(self, error: Exception) -> None:
        """Take it that the view is out of date; whom an error names is asked first."""
        self._looked_s = float("-inf")
        if isinstance(error, AskError) and error.host:
            self._seen = [(error.host, error.port), *self._seen]

    async def nodes(self) -> list[Node]:
        """Return all that have slots."""
        async with self._lock:
            await self._look()
        return sorted({node for _, _, node in self._ranges})

    def client(self, key: str | None, *, timeout_s: float | None, most: int) -> "Redis":
        """Return a client of whichever node has a key, None: of any; `timeout_s` None is for connections that block."""
        kind = _SealedToSlot if self._address.tls else _ToSlot
        pool = BlockingConnectionPool(
            connection_class=kind,
            cluster=self,
            slot=None if key is None else key_slot(key.encode()),
            max_connections=most,
            timeout=30,
            socket_timeout=timeout_s,
            **_common(self._address),
        )
        return Redis.from_pool(pool)

    async def _look(self) -> None:
        """Ask one node after the other; those that were seen last first, since the ones of the URL may be gone."""
        failure: Exception = RedisConnectionError("no node of the cluster is known")
        for node in dict.fromkeys([*self._seen, *self._address.nodes]):
            try:
                told = await self._ask(node)
            except ResponseError as error:
                if "cluster support disabled" in str(error):
                    raise NoCluster(str(error)) from error
                failure = error
                continue
            except (RedisError, OSError) as error:
                failure = error
                continue
            self._ranges = [(int(one[0]), int(one[1]), _named(one[2], node)) for one in told]
            self._seen = list(dict.fromkeys([node, *(_named(one, node) for shard in told for one in shard[2:])]))
            self._looked_s = time.monotonic()
            return
        raise RedisConnectionError(f"no node of the cluster answers: {type(failure).__name__}") from failure

    async def _ask(self, node: Node) -> Sequence[Any]:
        kind = NoticingSSLConnection if self._address.tls else NoticingConnection
        connection = kind(host=node[0], port=node[1], socket_timeout=ASK_S, **_common(self._address))
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLUSTER", "SLOTS")
            told: Sequence[Any] = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        return told


class _ToSlot(NoticingConnection):
    """A connection to the node that has a slot."""

    def __init__(self, *, cluster: Cluster, slot: int | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._cluster = cluster
        self._slot = slot

    async def _connect(self) -> None:
        self.host, self.port = await self._cluster.node_of(self._slot)
        await super()._connect()  # type: ignore[no-untyped-call]

    async def read_response(self, *arguments: Any, **more: Any) -> Any:
        """Return an answer; a node that is not the one any more counts as one that is away."""
        try:
            return await super().read_response(*arguments, **more)
        except ELSEWHERE as error:
            await self.disconnect(nowait=True)
            self._cluster.moved(error)
            raise RedisConnectionError(f"the node does not have the slot: {type(error).__name__}") from error


class _SealedToSlot(NoticingSSLConnection, _ToSlot):
    """The same, over TLS."""


def _common(address: ClusterAddress) -> dict[str, Any]:
    return {
        "username": address.username,
        "password": address.password,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": 5,
        "protocol": 3,
        "legacy_responses": True,
    }


def _named(told: Sequence[Any], asked: Node) -> Node:
    """Read a node's address; one that does not know its own name is the one that was asked."""
    host = told[0].decode() if isinstance(told[0], bytes) else told[0]
    return (host if host and host != "?" else asked[0]), int(told[1])

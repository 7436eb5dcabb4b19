"""The shards of one state, and the clients that reach them: one client for all on one server, one for each in a cluster.

With one shard nothing here costs a round trip: whoever asks for all of them asks one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from redis.asyncio import Redis

from gateway.lanes.cluster import Cluster
from gateway.lanes.connect import POOL, connect
from gateway.policy.state_address import cluster_of
from schemas.sharding import placed, shard_of, shard_of_id, shard_of_lane, shard_of_tool
from schemas.topics import Shard, Topics

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One shard: the clients that reach it, and the names of the topics that its scripts write."""

    shard: Shard
    topics: Topics
    redis: "Redis"
    listener: "Redis"
    """A client without a read timeout."""


class Spread(Generic[T]):
    """One object for each shard."""

    def __init__(self, parts: Sequence[T]) -> None:
        """In the order of the shards; the first is the home of what belongs to no connector."""
        self.parts = tuple(parts)
        self.home = self.parts[0]

    def of(self, connector: str) -> T:
        """Return that of a connector's shard."""
        return self.parts[shard_of(connector, len(self.parts))]

    def of_lane(self, lane: str) -> T:
        """Return that of a lane, a limit, a gate or a credential, each of which begins with its connector."""
        return self.home if len(self.parts) == 1 else self.parts[shard_of_lane(lane, len(self.parts))]

    def of_tool(self, tool: str) -> T:
        """Return that of a tool."""
        return self.parts[shard_of_tool(tool, len(self.parts))]

    def of_id(self, identity: str) -> T:
        """Return that of a call or a letter."""
        return self.parts[shard_of_id(identity, len(self.parts))]

    async def everywhere(self, do: Callable[[T], Awaitable[R]]) -> list[R]:
        """Do it in every shard, also where another one fails; then raise what failed first."""
        return await together(self.parts, do)

    async def sorted_out(
        self, items: Sequence[I], home: Callable[[I], T], do: Callable[[T, Sequence[I]], Awaitable[Sequence[R]]]
    ) -> list[R]:
        """Do it once in each shard with what belongs there; the answers come in the order of the items."""
        if len(self.parts) == 1:
            return list(await do(self.home, items))
        groups: dict[int, list[int]] = {}
        for at, item in enumerate(items):
            groups.setdefault(self.parts.index(home(item)), []).append(at)

        async def one(group: tuple[int, list[int]]) -> list[tuple[int, R]]:
            number, places = group
            return list(zip(places, await do(self.parts[number], [items[at] for at in places]), strict=True))

        found = await together(list(groups.items()), one)
        return [answer for _, answer in sorted((pair for part in found for pair in part), key=lambda pair: pair[0])]


async def together(parts: Sequence[T], do: Callable[[T], Awaitable[R]]) -> list[R]:
    """Do it with each at the same time, and let all of them end; then raise what failed first."""
    if len(parts) == 1:
        return [await do(parts[0])]
    answers = await asyncio.gather(*(do(part) for part in parts), return_exceptions=True)
    found: list[R] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found


class Shards(Spread[Seat]):
    """All of them, and where their topics are."""

    def __init__(self, parts: Sequence[Seat], *, cluster: Cluster | None = None) -> None:
        """`cluster` is the Redis Cluster they lie on, if it is one."""
        super().__init__(parts)
        self.cluster = cluster

    def placed(self, identity: str, tool: str) -> str:
        """Make a new id say in which shard that lies which belongs to a tool."""
        shards = len(self.parts)
        return placed(identity, shard_of_tool(tool, shards), shards)

    @property
    def writing(self) -> list[Seat]:
        """One for each set of topics: on one server all shards write the same."""
        return list({seat.topics: seat for seat in reversed(self.parts)}.values())[::-1]


@asynccontextmanager
async def reach(url: str, prefix: str, shards: int) -> AsyncIterator[Shards]:
    """Make the clients; nobody is asked anything yet. Raises `Unreadable`."""
    async with AsyncExitStack() as stack:
        address = cluster_of(url)
        names = [Shard(prefix, number) for number in range(shards)]
        if address is None:
            redis = await stack.enter_async_context(connect(url))
            listener = await stack.enter_async_context(connect(url, timeout_s=None))
            topics = Topics(prefix)
            yield Shards([Seat(shard=one, topics=topics, redis=redis, listener=listener) for one in names])
            return
        cluster, seats = Cluster(address), []
        for one in names:
            redis = await stack.enter_async_context(cluster.client(one.tag, timeout_s=10.0, most=POOL))
            listener = await stack.enter_async_context(cluster.client(one.tag, timeout_s=None, most=POOL))
            # What a script writes lies in its own slot.
            seats.append(Seat(shard=one, topics=Topics(f"{one.tag}:"), redis=redis, listener=listener))
        yield Shards(seats, cluster=cluster)

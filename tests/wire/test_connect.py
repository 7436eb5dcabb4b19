"""What a client does whose connections the other side has reset, under the event loop that is shipped."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.lanes.connect import connect
from tests.faults.matrix.proxy import Proxy, ProxyLoop, Toxic
from tests.redis_pair import Server

RESET = Toxic(kind="reset_peer")
AT_ONCE = 8


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """A proxy before a real server."""
    loop, server = ProxyLoop(), Server(tmp_path, "redis")
    made = Proxy(loop, server.port, Random(1))
    yield made
    made.close()
    loop.stop()
    server.kill()
    server.client.close()


def scene(proxy: Proxy, play: "Callable[[Redis], Awaitable[None]]") -> None:
    async def played() -> None:
        async with connect(f"redis://127.0.0.1:{proxy.port}/0") as redis:
            await play(redis)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(played())


def test_connections_that_were_reset_while_idle_are_made_again_before_anything_is_written(proxy: Proxy) -> None:
    async def play(redis: "Redis") -> None:
        for _ in range(20):
            await asyncio.gather(*(redis.ping() for _ in range(AT_ONCE)))
            proxy.add(RESET)
            await asyncio.sleep(0.02)
            assert await asyncio.gather(*(redis.ping() for _ in range(AT_ONCE))) == [True] * AT_ONCE
            proxy.add(RESET)
            await asyncio.sleep(0.02)
            async with redis.pipeline(transaction=True) as pipe:
                pipe.ping()
                assert await pipe.execute() == [True]

    scene(proxy, play)


def test_a_connection_that_is_reset_while_it_is_used_fails_as_an_outage(proxy: Proxy) -> None:
    async def play(redis: "Redis") -> None:
        async with redis.pubsub() as heard:
            await heard.subscribe("one")
            proxy.add(RESET)
            await asyncio.sleep(0.02)
            with pytest.raises(RedisConnectionError):
                await heard.subscribe("two")

    scene(proxy, play)

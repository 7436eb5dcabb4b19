"""What a good engineer writes instead: a FastStream handler with tenacity, aiolimiter, pybreaker, jsonschema and one reused client.

`python -m bench.calls.handwritten httpx|httpx2|aiohttp REDIS VENDOR AT_ONCE`. It keeps no effect, forgets what it had under way when it
dies, and paces and breaks for its own process only.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import httpx2
import pybreaker
import uvloop
from aiolimiter import AsyncLimiter
from faststream import AckPolicy, FastStream
from faststream.redis import RedisBroker, StreamSub
from jsonschema import Draft202012Validator
from tenacity import retry, stop_after_attempt, wait_random_exponential

Get = Callable[[str], Awaitable[tuple[int, Any]]]

CONTRACT = Draft202012Validator(
    {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "email": {"type": "string"}}}
)
GROUP = "by-hand"


class RefusedError(Exception):
    """The vendor answered with an error."""


def topics(client: str) -> tuple[str, str]:
    """Return where its calls come from and where its results go."""
    return f"{client}-calls", f"{client}-results"


@asynccontextmanager
async def _httpx(vendor: str, at_once: int, module: Any) -> AsyncIterator[Get]:
    limits = module.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with module.AsyncClient(base_url=vendor, limits=limits, timeout=5, trust_env=False) as client:

        async def get(path: str) -> tuple[int, Any]:
            answer = await client.get(path)
            return answer.status_code, answer.json()

        yield get


@asynccontextmanager
async def _aiohttp(vendor: str, at_once: int) -> AsyncIterator[Get]:
    connector, timeout = aiohttp.TCPConnector(limit=at_once), aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(vendor, connector=connector, timeout=timeout) as session:

        async def get(path: str) -> tuple[int, Any]:
            async with session.get(path) as answer:
                return answer.status, await answer.json()

        yield get


def guarded(get: Get) -> Get:
    """Put the usual guards around a client; limits that do not bind."""
    pace, breaker = AsyncLimiter(1_000_000, 1), pybreaker.CircuitBreaker(fail_max=5, reset_timeout=30)

    @retry(stop=stop_after_attempt(5), wait=wait_random_exponential(max=30))
    async def call(path: str) -> tuple[int, Any]:
        async with pace:
            with breaker.calling():
                status, body = await get(path)
                if status >= 500:
                    raise RefusedError(status)
        CONTRACT.validate(body)
        return status, body

    return call


async def serve(client: str, redis: str, vendor: str, at_once: int) -> None:
    """Handle events until killed."""
    source, results = topics(client)
    opened = _aiohttp(vendor, at_once) if client == "aiohttp" else _httpx(vendor, at_once, _MODULES[client])
    broker = RedisBroker(redis, log_level=logging.WARNING)
    async with opened as get:
        call = guarded(get)
        sub = StreamSub(source, group=GROUP, consumer="one", polling_interval=100, max_records=at_once)

        @broker.subscriber(stream=sub, ack_policy=AckPolicy.ACK, max_workers=at_once)
        async def handle(event: dict[str, Any]) -> None:
            status, body = await call(f"/v1/contacts/{event['data']['arguments']['id']}")
            await broker.publish({"request": event["id"], "status": status, "result": body}, stream=results)

        await FastStream(broker).run(log_level=logging.WARNING)


_MODULES = {"httpx": httpx, "httpx2": httpx2}

if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))

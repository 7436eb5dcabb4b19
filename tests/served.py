"""A whole gateway in the test's own process, on a real Redis and a real port: API, bus, worker, and its housekeeping."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from gateway import journal_role, roles
from gateway.app import Gateway, ambient, open_gateway
from gateway.chores import check_epoch
from gateway.endings import ended
from gateway.entrypoints import api
from gateway.entrypoints.worker import keep_house
from gateway.lanes.spread.agreement import agree
from gateway.policy.bus_address import kafka_servers
from gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A gateway that answers at `url`."""

    url: str
    gateway: Gateway
    http: httpx2.AsyncClient

    async def publish(self, tool: str, arguments: dict[str, Any], **more: Any) -> httpx2.Response:
        """POST one call and wait for its end."""
        headers = {"Prefer": "wait=20", **more.pop("headers", {})}
        return await self.http.post("/v1/calls", json={"tool": tool, "arguments": arguments, **more}, headers=headers)


def people(folder: Path, agents: Mapping[str, str], operators: Mapping[str, str] | None = None) -> str:
    """Declare agents with their scope and operators with their role; each has a key, which `bearer` shows."""
    declared = [("Agent", name, f'allow: ["{scope}"]') for name, scope in agents.items()]
    declared += [("Operator", name, f"roles: [{role}]") for name, role in (operators or {}).items()]
    text = ""
    for kind, name, may in declared:
        file = folder / name
        file.write_text(key_of(name))
        text += (
            f"\n---\napiVersion: sluice/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nkey: ${{file:{file}}}\n{may}\n"
        )
    return text


def key_of(name: str) -> str:
    """Return the key of one of the `people`."""
    return f"key-of-{name}"


def bearer(name: str) -> dict[str, str]:
    """Return the header with which one of the `people` asks."""
    return {"Authorization": f"Bearer {key_of(name)}"}


def assert_problem(answer: httpx2.Response, status: int, failure: str | None) -> dict[str, Any]:
    """Check that an answer is a whole problem of this status and failure class, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["class"]) == (status, failure)
    assert {"type", "title", "detail", "effect", "retryable", "fingerprint", "errors"} <= set(body)
    return body


@asynccontextmanager
async def served(
    redis_url: str,
    data: Path,
    manifests: str,
    *,
    works: bool = True,
    journals: bool = False,
    door: int = 0,
    **more: Any,
) -> AsyncIterator[Served]:
    """Serve; without `works` calls are stored and nobody claims them; with `journals` a journal is written. `door` is its port."""
    data.mkdir(mode=0o700, exist_ok=True)
    file = data / "manifests.yaml"
    file.write_text(manifests, encoding="utf-8")
    settings = Settings(redis_url=redis_url, data=data, connectors=[file], backoff_base=0.05, **more)
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_gateway(settings, "worker"))
        await agree(gateway.shards)
        if kafka_servers(settings.bus_url) is None:
            await gateway.fleet.ensure_group(gateway.topics.calls)
        if works:
            await stack.enter_async_context(_working(gateway))
        if journals:
            await stack.enter_async_context(journalling(settings))
        url = await stack.enter_async_context(listening(api.build(roles._api_parts(gateway)), door))
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False))
        yield Served(url=url, gateway=gateway, http=http)


@asynccontextmanager
async def journalling(settings: Settings) -> AsyncIterator[journal_role.Joined]:
    """Write a journal, as its own process would."""
    async with contextlib.AsyncExitStack() as stack:
        joined = await journal_role.join(stack, settings, ambient("journal"))
        await journal_role.migrated(joined.database, asyncio.Event())
        house = [asyncio.create_task(keep_house(chore)) for chore in joined.chores]
        writing = asyncio.create_task(joined.writer.run())
        yield joined
        joined.writer.stop()
        await writing
        await ended(house)


@asynccontextmanager
async def listening(app: Any, port: int = 0) -> AsyncIterator[str]:
    """Serve an ASGI application on a port of the loopback, a free one by default."""
    with socket.create_server(("127.0.0.1", port)) as door:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none"))
        server.config.timeout_graceful_shutdown = 1
        task = asyncio.create_task(server.serve(sockets=[door]))
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def _working(gateway: Gateway) -> AsyncIterator[None]:
    await gateway.fleet.beat()
    await gateway.lanes.declare()
    await check_epoch(gateway)
    async with roles.working(gateway):
        yield

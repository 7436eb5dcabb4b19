"""Preflight and health while Redis or the journal is away: a clear answer, an exit code, and nobody waits for long."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.embedded_redis import EmbeddedRedis
from gateway.flow import gathering
from tests.planning import ECHO, Serve, ask, declare, serving
from tests.served import Served, assert_problem, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess

pytestmark = pytest.mark.wire

AWAY_S = 8.0
"""A generous bound for an answer: a client of a Redis that hangs would wait ten seconds for each thing it asks."""


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedRedis]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        one = EmbeddedRedis(Path(folder))
        await one.start()
        yield one
        await one.stop()


@asynccontextmanager
async def suspended(server: EmbeddedRedis) -> AsyncIterator[None]:
    """Let the server keep its connections open and answer nothing."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def killed(server: EmbeddedRedis) -> AsyncIterator[None]:
    await server.stop()
    try:
        yield
    finally:
        await server.start()


@pytest.mark.parametrize("away", [suspended, killed])
async def test_while_redis_is_away_both_say_so_soon_and_are_right_again_afterwards(
    server: EmbeddedRedis, tmp_path: Path, vendor: VendorProcess, away: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(server.url, tmp_path / "data", declare(vendor.url), works=False) as gateway:
        await gateway.gateway.fleet.beat()
        assert (await ask(gateway, ECHO))["verdict"] == "go"
        shell = Shell(tmp_path, {"SLUICE_URL": gateway.url})
        async with away(server):
            monkeypatch.setattr(gathering, "LOOK_S", 0.3)
            answers = [
                await asyncio.wait_for(gateway.http.post("/v1/preflight", json={"steps": [ECHO]}), AWAY_S),
                await asyncio.wait_for(gateway.http.get("/v1/health"), AWAY_S),
            ]
            for answer in answers:
                problem = assert_problem(answer, 503, None)
                assert problem["detail"] == "the queue (Redis) does not answer"
                assert "sluice doctor" in problem["action"]
                assert answer.headers["retry-after"]
            for words in (("preflight", "crm.echo"), ("health",)):
                ran = await shell(*words)
                assert (ran.code, ran.data["status"]) == (5, 503), ran.err
                assert "the queue (Redis) does not answer" in ran.err
                assert "sluice doctor" in ran.err
                assert "go" not in ran.err.lower().split()
        monkeypatch.undo()
        await back(gateway)
        assert (await ask(gateway, ECHO))["verdict"] == "go"
        assert (await shell("preflight", "crm.echo")).code == 0
    assert vendor.counts().arrivals == 0


async def back(gateway: Served) -> None:
    async with asyncio.timeout(20):
        while True:
            if (await gateway.http.get("/v1/health")).status_code == 200:
                await gateway.gateway.fleet.beat()
                return
            await asyncio.sleep(0.1)


@pytest.fixture
def serve(redis: "Redis", redis_url: str, tmp_path: Path) -> Serve:
    return serving(redis_url, tmp_path)


@pytest.mark.parametrize("journal", ["none was started", "its database is gone"])
async def test_a_journal_that_is_away_changes_neither(
    serve: Serve, tmp_path: Path, vendor: VendorProcess, journal: str
) -> None:
    more = {"journal_url": "postgresql://nobody@127.0.0.1:9/none"} if "gone" in journal else {}
    async with serve(declare(vendor.url), **more) as gateway:
        await gateway.publish("crm.echo", {})
        assert_problem(await gateway.http.get("/v1/calls"), 503, None)
        assert (await ask(gateway, ECHO))["verdict"] == "go"
        health = (await gateway.http.get("/v1/health")).json()
        assert health["status"] == "ok", health

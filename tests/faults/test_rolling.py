"""Every process is replaced under load, one after the other, as a deployment does: no caller sees an error, nothing is lost or doubled."""

import asyncio
import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from redis import Redis

from tests.faults.conftest import Workers, free_port, until_quiet
from tests.vendor.client import ROOT, VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

AT_ONCE = 16


class Fleet:
    """Two processes of each role; one of them can be replaced."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: free_port() for name in ("api-1", "api-2")}
        for name in ("api-1", "api-2", "worker-1", "worker-2", "journal-1", "journal-2"):
            self.start(name)

    def start(self, name: str) -> None:
        role = name.partition("-")[0]
        environment = {
            **self._workers.environment,
            "SLUICE_PORT": str(self.ports.get(name, 0)),
            "SLUICE_DRAIN": "5",
            "SLUICE_LINGER": "3",
        }
        with (self._workers.folder / "log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "gateway", role], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    async def replace(self, name: str) -> None:
        """Stop one as a deployment does, and start its successor; returns when that is at work."""
        process = self._running[name]
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, 15)
        assert code in {0, -signal.SIGTERM}, (name, code, self._workers.log[-2000:])
        self.start(name)
        await self.up(name)

    async def up(self, name: str) -> None:
        """Wait until an API answers; of the others it is only said that they run."""
        for _ in range(300):
            if name not in self.ports:
                await asyncio.sleep(1.5)
                return
            try:
                async with httpx2.AsyncClient(trust_env=False) as http:
                    if (await http.get(f"http://127.0.0.1:{self.ports[name]}/readyz")).status_code == 200:
                        return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)
        raise AssertionError(f"{name} does not answer")

    def stop(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


@pytest.fixture
def fleet(workers: Workers) -> Iterator[Fleet]:
    started = Fleet(workers)
    yield started
    started.stop()


class Balancer:
    """What stands before the two: whoever is not ready gets no new request, and what it answers is the caller's answer."""

    def __init__(self, ports: list[int], http: httpx2.AsyncClient) -> None:
        self._servers = [f"http://127.0.0.1:{port}" for port in ports]
        self._http = http
        self._ready: list[str] = []
        self._turn = itertools.count()

    async def watch(self) -> None:
        """Ask each every now and then whether it is ready."""
        while True:
            told = await asyncio.gather(*(self._answers(server) for server in self._servers))
            self._ready = [server for server, ready in zip(self._servers, told, strict=True) if ready]
            await asyncio.sleep(0.1)

    async def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        for _ in range(100):
            if self._ready:
                break
            await asyncio.sleep(0.05)
        return await self._http.request(method, self._ready[next(self._turn) % len(self._ready)] + path, **more)

    async def _answers(self, server: str) -> bool:
        try:
            return (await self._http.get(f"{server}/readyz")).status_code == 200
        except httpx2.TransportError:
            return False


async def test_a_rolling_restart_shows_no_caller_an_error_and_loses_nothing(
    fleet: Fleet, workers: Workers, books: "Redis", vendor: VendorProcess
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    await asyncio.gather(*(fleet.up(name) for name in fleet.ports))
    rolled, wrong, done = asyncio.Event(), [], set()
    # An idle connection to a server that ends may turn out to be dead under a request that must not be repeated.
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=20, trust_env=False, limits=limits) as http:
        door = Balancer(list(fleet.ports.values()), http)

        async def call(number: int) -> None:
            data = {"tool": "crm.messages.send", "arguments": {"ref": f"r{number}", "text": "hi"}}
            answer = await door.ask("POST", "/v1/calls", json=data, headers={"Prefer": "wait=10"})
            while answer.status_code == 202:
                answer = await door.ask("GET", f"{answer.headers['location']}?wait=10")
            if answer.status_code != 200 or answer.json()["state"] != "completed":
                wrong.append((answer.status_code, answer.text))
            done.add(number)

        numbers = itertools.count()

        async def caller() -> None:
            while not rolled.is_set():
                await call(next(numbers))

        watching = asyncio.create_task(door.watch())
        callers = [asyncio.create_task(caller()) for _ in range(AT_ONCE)]
        for name in ("worker-1", "worker-2", "journal-1", "journal-2", "api-1", "api-2"):
            await fleet.replace(name)
        rolled.set()
        await asyncio.gather(*callers)
        watching.cancel()
    assert wrong == []
    sums = until_quiet(books, len(done))
    assert sums["completed"] == len(done) > 100
    assert sums.accepted_is_explained
    effects = vendor.counts().effects_by_ref["messages.send"]
    assert (len(effects), set(effects.values())) == (len(done), {1})

"""A vendor, a Redis and workers that can be killed, with leases short enough for a test's patience."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.demo import ledger
from tests.vendor.client import ROOT, VendorProcess, manifest

SHORT = {
    "SLUICE_START_WITHIN": "1",
    "SLUICE_LEASE_GUARD": "0.5",
    "SLUICE_BEAT_EVERY": "0.2",
    "SLUICE_DEAD_AFTER": "1",
    "SLUICE_REAP_EVERY": "0.1",
    "SLUICE_BACKOFF_BASE": "0.05",
    "SLUICE_CONCURRENCY": "8",
    "SLUICE_INTAKE_BATCH": "16",
}


class Workers:
    """Starts worker processes on one Redis, and takes them down at the end."""

    def __init__(self, redis_url: str, folder: Path, vendor_url: str) -> None:
        connectors = folder / "connectors.d"
        connectors.mkdir()
        text = manifest(vendor_url).replace("timeout: 2s", "timeout: 1s").replace("settle: 30s", "settle: 400ms")
        (connectors / "crm.yaml").write_text(text, encoding="utf-8")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        places = {
            "SLUICE_REDIS_URL": redis_url,
            "SLUICE_DATA": str(folder / "data"),
            "SLUICE_CONNECTORS": str(connectors),
        }
        (folder / "data").mkdir()
        self.folder = folder
        self.environment = {**clean, **SHORT, **places}
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a worker; with arguments, a deadly one."""
        module = ["-m", "tests.faults.deadly", *command] if command else ["-m", "gateway", "worker"]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *module], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def start_module(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker that something was done to."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def start_role(self, role: str) -> subprocess.Popen[bytes]:
        """Start a process of another role."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", role], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def start_api(self) -> None:
        """Start an API on the port of the environment, and wait until it answers."""
        self.start_role("api")
        give_up, port = time.monotonic() + 60, int(self.environment["SLUICE_PORT"])
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            assert time.monotonic() < give_up, self.log
            time.sleep(0.05)

    @property
    def log(self) -> str:
        """What the workers wrote."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def stop(self) -> None:
        """Kill what still runs."""
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


@pytest.fixture
def workers(redis_url: str, vendor: VendorProcess) -> Iterator[Workers]:
    Redis.from_url(redis_url).flushall()
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        started = Workers(redis_url, Path(folder), vendor.url)
        yield started
        started.stop()


@pytest.fixture
def books(redis_url: str) -> "Redis":
    """The Redis as an outsider reads it."""
    return Redis.from_url(redis_url)


ARGUMENTS: dict[str, Callable[[int], dict[str, str]]] = {
    "crm.contacts.get": lambda number: {"id": f"c{number}"},
    "crm.messages.send": lambda number: {"ref": f"r{number}", "text": "hi"},
}


def publish(books: Any, tool: str, numbers: range) -> None:
    """Publish one event for each number, as plain XADD."""
    for number in numbers:
        data = {"tool": tool, "arguments": ARGUMENTS[tool](number)}
        envelope = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/a", "id": f"e-{number}"}
        books.xadd("tool-calls", {"data": json.dumps({**envelope, "data": data})})


def soon(condition: Callable[[], Any], *, within_s: float = 15) -> bool:
    """Wait until something holds; false when it did not come."""
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.05)
    return False


def until_quiet(redis: "Redis", received: int, *, timeout_s: float = 25.0) -> ledger.Sums:
    """Wait until so many events were received and none is live."""
    give_up = time.monotonic() + timeout_s
    while True:
        sums = ledger.sums(redis)
        if sums["received"] >= received and sums.live == 0:
            return sums
        if time.monotonic() > give_up:
            pytest.fail(f"not quiet after {timeout_s} s: {sums}")
        time.sleep(0.05)

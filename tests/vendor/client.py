"""The test's hand on the vendor: starts its process, reads its books, sets its scene. Blocking, and `aio` for loops.

It talks to the control plane only; the calls that count are made by whoever is being tested.
"""

import asyncio
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import msgspec

from tests.vendor.limiter import LimitRequest
from tests.vendor.record import Arrival, Arrivals, Counts
from tests.vendor.script import Behaviour
from tests.vendor.tokens import DeskCounts, DeskRequest

ROOT = Path(__file__).parents[2]
START_S = 15.0
STOP_S = 5.0
PLACEHOLDER_URL = "http://vendor.invalid"
PLACEHOLDER_AUTH = "{type: none}"


class VendorRefused(Exception):  # noqa: N818 - the vendor says why
    """The control plane did not take the request."""


def manifest(url: str, *, auth: str = PLACEHOLDER_AUTH) -> str:
    """Give the text of the connector `crm` for a vendor at `url`; `auth` is a YAML flow mapping."""
    text = Path(__file__).with_name("connectors.yaml").read_text(encoding="utf-8")
    return text.replace(PLACEHOLDER_URL, url).replace(f"auth: {PLACEHOLDER_AUTH}", f"auth: {auth}")


class VendorControl:
    """A vendor that runs somewhere."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def aio(self) -> "AsyncVendorControl":
        """The same, for a test that runs on a loop."""
        return AsyncVendorControl(self)

    def counts(self, *, names: bool = True) -> Counts:
        """Read the sums; `names=False` leaves the maps per key empty and is cheap to poll."""
        return msgspec.json.decode(self._call("GET", f"counts?names={int(names)}"), type=Counts)

    def arrivals(self, operation: str = "*") -> list[Arrival]:
        answer = self._call("GET", "arrivals?" + urlencode({"operation": operation}))
        return msgspec.json.decode(answer, type=Arrivals).arrivals

    def window(self, seconds: float, operation: str = "*") -> int:
        """Count the most arrivals in any window of so many seconds."""
        answer = self._call("GET", "window?" + urlencode({"seconds": seconds, "operation": operation}))
        return int(json.loads(answer)["max"])

    def most_open(self, operation: str = "*") -> int:
        """Count the most requests that were open at the same moment."""
        return int(json.loads(self._call("GET", "open?" + urlencode({"operation": operation})))["max"])

    def script(self, operation: str, *behaviours: Behaviour, append: bool = False) -> None:
        """Replace the rules of an operation, or of all with `*`; none at all means good behaviour."""
        self._call("POST", "script", {"operation": operation, "behaviours": behaviours, "append": append})

    def auth(self, type_: str, secret: str = "", *, where: str = "header", name: str = "X-Api-Key") -> None:
        """Demand a credential: none, api_key, bearer, or basic with `username:password`."""
        self._call("POST", "auth", {"type": type_, "secret": secret, "in": where, "name": name})

    def desk(self, rule: DeskRequest) -> None:
        """Issue tokens by this rule from now on."""
        self._call("POST", "desk", msgspec.to_builtins(rule))

    def desk_counts(self) -> DeskCounts:
        """Read the books of the token endpoint."""
        return msgspec.json.decode(self._call("GET", "desk"), type=DeskCounts)

    def expire(self) -> None:
        """End every access token."""
        self._call("POST", "expire")

    def revoke(self) -> None:
        """End the grant."""
        self._call("POST", "revoke")

    def consent(self, refresh_token: str) -> None:
        """Let somebody consent again."""
        self._call("POST", "consent?" + urlencode({"refresh_token": refresh_token}))

    def limit(self, rule: LimitRequest) -> None:
        """Enforce a limit from now on, with an unspent budget."""
        self._call("POST", "limit", msgspec.to_builtins(rule))

    def spend(self, units: int, operation: str = "*") -> None:
        """Let another application use so much of a limit's budget."""
        self._call("POST", "spend", {"units": units, "operation": operation})

    def shut(self, seconds: float, operation: str = "*") -> None:
        """Refuse everything that a limit covers for so long."""
        self._call("POST", "shut", {"seconds": seconds, "operation": operation})

    def release(self) -> int:
        """Let go of what is held, and say how many that were."""
        return int(json.loads(self._call("POST", "release"))["released"])

    def reset(self) -> None:
        self._call("POST", "reset")

    def until(self, *, timeout: float = 10.0, **wanted: int) -> Counts:
        """Wait until each of these sums is at least so high: `until(held=1)`."""
        give_up = time.monotonic() + timeout
        while True:
            counts = self.counts(names=False)
            if all(getattr(counts, name) >= value for name, value in wanted.items()):
                return counts
            if time.monotonic() > give_up:
                raise TimeoutError(f"waited {timeout} s for {wanted}, the vendor has {counts}")
            time.sleep(0.005)

    def _call(self, method: str, verb: str, body: Mapping[str, Any] | None = None) -> bytes:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        try:
            connection.request(method, f"/_vendor/{verb}", None if body is None else msgspec.json.encode(body))
            answer = connection.getresponse()
            read = answer.read()
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise VendorRefused(f"{method} {verb}: {answer.status} {read.decode()}")
        return read


class AsyncVendorControl:
    """Each verb of `VendorControl`, off the loop."""

    def __init__(self, control: VendorControl) -> None:
        self._control = control

    async def counts(self, *, names: bool = True) -> Counts:
        return await asyncio.to_thread(self._control.counts, names=names)

    async def arrivals(self, operation: str = "*") -> list[Arrival]:
        return await asyncio.to_thread(self._control.arrivals, operation)

    async def window(self, seconds: float, operation: str = "*") -> int:
        return await asyncio.to_thread(self._control.window, seconds, operation)

    async def most_open(self, operation: str = "*") -> int:
        return await asyncio.to_thread(self._control.most_open, operation)

    async def script(self, operation: str, *behaviours: Behaviour, append: bool = False) -> None:
        await asyncio.to_thread(self._control.script, operation, *behaviours, append=append)

    async def auth(self, type_: str, secret: str = "", *, where: str = "header", name: str = "X-Api-Key") -> None:
        await asyncio.to_thread(self._control.auth, type_, secret, where=where, name=name)

    async def desk(self, rule: DeskRequest) -> None:
        await asyncio.to_thread(self._control.desk, rule)

    async def desk_counts(self) -> DeskCounts:
        return await asyncio.to_thread(self._control.desk_counts)

    async def expire(self) -> None:
        await asyncio.to_thread(self._control.expire)

    async def revoke(self) -> None:
        await asyncio.to_thread(self._control.revoke)

    async def consent(self, refresh_token: str) -> None:
        await asyncio.to_thread(self._control.consent, refresh_token)

    async def limit(self, rule: LimitRequest) -> None:
        await asyncio.to_thread(self._control.limit, rule)

    async def spend(self, units: int, operation: str = "*") -> None:
        await asyncio.to_thread(self._control.spend, units, operation)

    async def shut(self, seconds: float, operation: str = "*") -> None:
        await asyncio.to_thread(self._control.shut, seconds, operation)

    async def release(self) -> int:
        return await asyncio.to_thread(self._control.release)

    async def reset(self) -> None:
        await asyncio.to_thread(self._control.reset)

    async def until(self, *, timeout: float = 10.0, **wanted: int) -> Counts:  # noqa: ASYNC109 - the thread obeys it
        return await asyncio.to_thread(self._control.until, timeout=timeout, **wanted)


class VendorProcess(VendorControl):
    """A vendor of our own: `with VendorProcess() as vendor`, or `async with`. A second start takes the same port."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__("")
        self._host = host
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<VendorProcess {self.url or 'not started'}{'' if self._process else ', stopped'}>"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the vendor is not running")
        return self._process.pid

    def start(self) -> Self:
        # Never from a short-lived thread: the kernel sends the death signal when the starting *thread* ends.
        command = [sys.executable, "-m", "tests.vendor", "--host", self._host, "--port", str(self._port)]
        self._process = subprocess.Popen([*command, "--die-with-parent"], cwd=ROOT, stdout=subprocess.PIPE)
        self.url = self._greeting(self._process)
        self._port = urlsplit(self.url).port or 0
        return self

    def stop(self) -> None:
        """End it gently, then not gently."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget()

    def kill(self) -> None:
        """SIGKILL: the port refuses connections until the next start, and the books are gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def freeze(self) -> None:
        """SIGSTOP: connections are taken by the kernel and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _greeting(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            raise RuntimeError(f"the vendor did not start; it left with {process.returncode}")
        return str(json.loads(line)["url"])

    def _forget(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

"""The ground of a run from outside: `sluice up` on a directory of its own, as a user starts it, and hands on its processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis

ROOT = Path(__file__).parents[2]
READY_S = 90.0
STOP_S = 15.0


class Ground:
    """A running gateway; `with Ground(manifest) as ground`."""

    def __init__(self, manifest: str, settings: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-"))
        self.data = self.folder / "data"
        self.log = self.folder / "sluice.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        connectors = self.folder / "connectors.d"
        connectors.mkdir()
        (connectors / "crm.yaml").write_text(manifest, encoding="utf-8")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
            "SLUICE_DATA": str(self.data),
            "SLUICE_CONNECTORS": str(connectors),
            "SLUICE_PORT": str(self.port),
            **(settings or {}),
        }
        self._up: subprocess.Popen[bytes] | None = None

    @property
    def redis(self) -> "Redis":
        """A client of the embedded server, as redis-cli would be one."""
        return Redis(unix_socket_path=str(self.data / "redis.sock"))

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name: up, api, worker-1, …"""
        loaded: dict[str, int] = json.loads((self.data / "processes.json").read_text(encoding="utf-8"))
        return loaded

    @property
    def up_pid(self) -> int:
        """The process that watches the others."""
        assert self._up is not None
        return self._up.pid

    def start(self) -> Self:
        """Run `sluice up` and wait until it is ready."""
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "gateway", "up"]
            self._up = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=output, stderr=output)
        self.until_ready()
        return self

    def until_ready(self) -> None:
        """Wait until /readyz says so."""
        give_up = time.monotonic() + READY_S
        while time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(self.url + "/readyz", timeout=2):  # noqa: S310 - our own loopback URL
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
            if self._up is not None and self._up.poll() is not None:
                break
        message = f"sluice did not become ready:\n{self.log.read_text(encoding='utf-8')[-4000:]}"
        raise RuntimeError(message)

    def kill(self, name: str) -> None:
        """SIGKILL one of the processes."""
        os.kill(self.processes[name], signal.SIGKILL)

    def stop(self) -> int:
        """Stop it as Ctrl-C would; returns its exit code."""
        if self._up is None:
            return 0
        if self._up.poll() is None:
            self._up.send_signal(signal.SIGINT)
        code = self._up.wait(STOP_S)
        self._up = None
        return code

    def wait(self) -> int:
        """Wait for the end of `up` after it was killed."""
        assert self._up is not None
        return self._up.wait(STOP_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            failed = kind is not None and issubclass(
                kind, Exception
            )  # Ctrl-C is no failure: nothing is to be looked into
            if not failed and not os.environ.get("KEEP"):
                shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

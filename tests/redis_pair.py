"""A Redis and its replica, real servers of the machine, behind one address that can be pointed at either: what a failover needs."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from gateway import redis_programs

PATIENCE_S = 15.0


class Server:
    """One server process on a port of the loopback, as durable as the product wants it."""

    def __init__(self, folder: Path, name: str) -> None:
        programs = asyncio.run(redis_programs.find())
        assert programs, "no Redis server on this machine"
        self._program, self.home = programs[0].path, folder / name
        self.home.mkdir()
        self.port = free_port()
        self.client = Redis(port=self.port, socket_timeout=5)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, *, most_bytes: int = resource.RLIM_INFINITY, fsync: str = "always") -> None:
        """Start it; `most_bytes` stands for the size of its disk."""

        def bound() -> None:
            # Without this the limit kills; ignored, a write fails with an error, as on a full disk.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))

        flags = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.home,
            "save": "",
            "appendonly": "yes",
            "appendfsync": fsync,
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": 0,
        }
        arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *arguments], stdout=log, stderr=log,
                preexec_fn=bound,  # noqa: PLW1509 - no thread of a test holds a lock that this needs
            )  # fmt: skip
        until(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(RedisError):
            return bool(self.client.ping())
        return False

    def follow(self, other: "Server") -> None:
        """Be a replica, and return when in step."""
        self.client.replicaof("127.0.0.1", str(other.port))
        until(lambda: any(_in_step(known) for known in other.client.info("replication").values()))
        # It is said to be online before it has read what it was sent.
        until(lambda: other.client.set("in-step", 1) and self.client.get("in-step"))
        other.client.delete("in-step")

    def promote(self) -> None:
        self.client.replicaof("NO", "ONE")

    def suspend(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def give_room(self) -> None:
        """Let the disk have room again; a server that has ended because it had none is started."""
        if self._process.poll() is None:
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        else:
            self.start()

    def kill(self) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()


def _in_step(replica: object) -> bool:
    return isinstance(replica, dict) and replica.get("state") == "online"


class Forwarder:
    """An address that leads to one server, and from a moment on to another: what was connected is cut off."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._door = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._door.getsockname()[1]}/0"

    def lead_to(self, target: int) -> None:
        self.target = target
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._serving.join()
        self.lead_to(self.target)

    def _serve(self) -> None:
        while True:
            try:
                inner, _ = self._door.accept()
            except OSError:
                return
            try:
                outer = socket.create_connection(("127.0.0.1", self.target), 1)
            except OSError:
                inner.close()
                continue
            outer.settimeout(None)
            self._open += [inner, outer]
            threading.Thread(target=_carry, args=(inner, outer), daemon=True).start()


def _carry(inner: socket.socket, outer: socket.socket) -> None:
    with inner, outer:
        back = threading.Thread(target=_pump, args=(outer, inner), daemon=True)
        back.start()
        _pump(inner, outer)
        back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Pair:
    """A primary, its replica, and the address that the gateway knows."""

    def __init__(self, folder: Path) -> None:
        self.primary, self.replica = Server(folder, "a"), Server(folder, "b")
        self.door = Forwarder(self.primary.port)

    def fail_over(self) -> None:
        """Let the primary die and the replica take its place."""
        self.primary.kill()
        self.replica.promote()
        self.door.lead_to(self.replica.port)


@contextlib.contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Start a pair, and end it."""
    both = Pair(folder)
    try:
        both.replica.follow(both.primary)
        yield both
    finally:
        both.door.close()
        both.primary.kill()
        both.replica.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def until(holds: Callable[[], object]) -> None:
    """Wait until it holds."""
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up, "did not come to hold"
        time.sleep(0.02)

"""What is really dialled: every `connect` and every name that is asked for in this process, told by the interpreter itself.

An audit hook sees each call of `socket.connect` before the kernel does. While somebody watches, only the loopback is reached; a
dial to anywhere else is written down and refused there, so that no test ever sends a packet out of the machine.
"""

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).with_name("addresses.txt")

Resolve = Callable[[str], list[str]]


@dataclass
class Watch:
    """What was dialled while it lasted."""

    dials: list[tuple[str, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def elsewhere(self, *ports: int) -> list[tuple[str, int]]:
        """Return the dials but those to the loopback on these ports."""
        return [dial for dial in self.dials if not (dial[0] == "127.0.0.1" and dial[1] in ports)]


_watches: list[Watch] = []


@cache
def _install() -> None:
    # A hook cannot be taken out again: it is there once, and does nothing while nobody watches.
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect" or not _watches or not isinstance(arguments[1], tuple):
        return
    host, port = str(arguments[1][0]), int(arguments[1][1])
    _watches[-1].dials.append((host, port))
    if not _is_here(host):
        raise OSError(errno.ENETUNREACH, "nothing but this machine is dialled here")


def _is_here(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


def to_us(_: str) -> list[str]:
    """Resolve as an attacker would who wants in: every name is this machine."""
    return ["127.0.0.1", "::1"]


@contextmanager
def watching(resolve: Resolve = to_us) -> Iterator[Watch]:
    """Write down every dial; names are resolved by `resolve`, numbers of whatever form by the system."""
    _install()
    watch, real = Watch(), socket.getaddrinfo

    def found(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002 - as the original
        try:
            return real(host, port, family, type, proto, (flags & ~socket.AI_ADDRCONFIG) | socket.AI_NUMERICHOST)
        except socket.gaierror:
            name = host.decode() if isinstance(host, bytes) else str(host)
            watch.names.append(name)
            numeric = socket.AI_NUMERICHOST
            return [row for one in resolve(name) for row in real(one, port, 0, type, proto, numeric)]

    _watches.append(watch)
    setattr(socket, "getaddrinfo", found)  # noqa: B010 - not an assignment that a type checker should read
    try:
        yield watch
    finally:
        setattr(socket, "getaddrinfo", real)  # noqa: B010
        _watches.remove(watch)


@dataclass
class Trap:
    """A listener on every address of this machine, which no request should ever find; it answers, so that nobody stays unseen."""

    port: int = 0
    taken: int = 0

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()


@asynccontextmanager
async def trap() -> AsyncIterator[Trap]:
    """Listen on IPv4 and IPv6 with one port."""
    one = Trap()
    family, both = (socket.AF_INET6, True) if socket.has_dualstack_ipv6() else (socket.AF_INET, False)
    with socket.create_server(("", 0), family=family, dualstack_ipv6=both) as door:
        server = await asyncio.start_server(one.serve, sock=door)
        one.port = door.getsockname()[1]
        try:
            yield one
        finally:
            server.close()


def corpus(port: int) -> list[str]:
    """Return the addresses; escapes of Python in the file stand for what cannot be written there."""
    lines = CORPUS.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line and not line.startswith("#")]
    return [_plain(line).replace("{port}", str(port)) for line in kept]


def _plain(line: str) -> str:
    for written, meant in (("\\t1", "\t1"), ("\\r\\n", "\r\n"), ("\\u0430", "\u0430"), ("\\u017f", "\u017f")):
        line = line.replace(written, meant)
    return line.replace("\\u00ad", "\u00ad")


def authority(url: str) -> str:
    """Return what stands between the slashes, whatever it is."""
    return url.partition("://")[2].partition("/")[0]

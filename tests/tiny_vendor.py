"""A vendor of a few lines per test, on a real socket: it counts requests at arrival and answers as the test says."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from connectors.exchange import Answered, Exchange, RenderedRequest, SendPolicy

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Vendor:
    """A server that counts at arrival; `answer` gets each request's head and the writer."""

    answer: Callable[["Vendor", bytes, asyncio.StreamWriter], Awaitable[None]]
    port: int = 0
    connections: int = 0
    arrivals: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/x"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int((head.lower().partition(b"content-length: ")[2] or b"0").partition(b"\r\n")[0])
                self.arrivals.append(head + await reader.readexactly(length))
                await self.answer(self, head, writer)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a port of the loopback and leave nothing behind."""
    served: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        served.add(task)
        with suppress(asyncio.CancelledError):  # how a test ends; streams would log it as an error
            await serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
        await asyncio.sleep(0)


@asynccontextmanager
async def vendor(answer: Callable[[Vendor, bytes, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Vendor]:
    upstream = Vendor(answer)
    async with listening(upstream.serve) as upstream.port:
        yield upstream


def sends(*parts: bytes, close: bool = False, pause: float = 0.0) -> Any:
    async def answer(_: Vendor, __: bytes, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        if close:
            writer.close()

    return answer


async def hangs(upstream: Vendor, _: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def resets(_: Vendor, __: bytes, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


POLICY = SendPolicy(timeout_s=5.0, allow_private=True, fresh=False, cap_wire_bytes=1 << 20, cap_decoded_bytes=2 << 20)


def request(url: str, method: str = "POST", body: bytes | None = b'{"a":1}', **headers: str) -> RenderedRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RenderedRequest(method, url, {"content-type": "application/json", **named}, body)


def get(url: str) -> RenderedRequest:
    return request(url, "GET", None)


def is_answered(exchange: Exchange) -> Answered:
    assert isinstance(exchange, Answered), exchange
    return exchange

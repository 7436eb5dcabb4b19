"""A TCP proxy that does to connections what networks do: Toxiproxy's vocabulary, on a loop of its own, with seeded dice.

`down` and `reset_peer` act on connections; all else acts on what travels through them, upwards (to the server) or downwards.
"""

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, TypeVar

RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds
CHUNK = 65_536
REOPEN_S = 10.0

T = TypeVar("T")
Kind = Literal["latency", "down", "timeout", "reset_peer", "slicer", "limit_data", "bandwidth", "drop_reply"]
Way = Literal["up", "down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """One thing that is wrong with a network."""

    kind: Kind
    way: Way = "down"
    """Towards the server (`up`) or towards its client (`down`)."""
    seconds: float = 0.0
    """latency: of each piece; timeout: until it closes, 0 never; slicer: between slices."""
    jitter_s: float = 0.0
    amount: int = 0
    """slicer: bytes of a slice; limit_data: bytes of a connection; bandwidth: bytes a second; drop_reply: how many replies."""
    share: float = 1.0
    """Of the pieces or connections that it strikes."""


class Cut(Exception):  # noqa: N818 - not an error: what shall happen
    """This connection ends here, without a goodbye."""


class Proxy:
    """One address in front of one port of the loopback."""

    def __init__(self, loop: "ProxyLoop", target: int, dice: Random) -> None:
        self.target = target
        self.struck: Counter[str] = Counter()
        """How often each toxic did something."""
        self._loop, self._dice = loop, dice
        self._toxics: list[Toxic] = []
        self._changed = asyncio.Event()
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        loop.run(self._open())

    def add(self, toxic: Toxic) -> None:
        """Let something go wrong, from now on or, for `reset_peer`, now."""
        self._loop.run(self._add(toxic))

    def remove(self, toxic: Toxic) -> None:
        """Let this be well again. What a `timeout` held back then goes on its way."""
        self._loop.run(self._remove(toxic))

    def clear(self) -> None:
        """Let all be well again."""
        self._loop.run(self._clear())

    def close(self) -> None:
        self._loop.run(self._shut())

    async def _add(self, toxic: Toxic) -> None:
        match toxic.kind:
            case "down":
                self.struck["down"] += 1
                await self._shut()
            case "reset_peer":
                self._cut_all()
            case _:
                self._toxics.append(toxic)
                self._turn()

    async def _remove(self, toxic: Toxic) -> None:
        self._toxics = [one for one in self._toxics if (one.kind, one.way) != (toxic.kind, toxic.way)]
        self._turn()
        if toxic.kind == "down" and self._server is None:
            await self._open()

    async def _clear(self) -> None:
        self._toxics.clear()
        self._turn()
        if self._server is None:
            await self._open()

    def _turn(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _open(self) -> None:
        give_up = asyncio.get_running_loop().time() + REOPEN_S
        while True:
            try:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            except OSError:  # somebody's own end of a connection has the port just now
                if asyncio.get_running_loop().time() > give_up:
                    raise
                await asyncio.sleep(0.02)
            else:
                self.port = self._server.sockets[0].getsockname()[1]
                return

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.cut()

    def _cut_all(self) -> None:
        for link in list(self._links):
            self.struck["reset_peer"] += 1
            link.cut()

    async def _serve(self, inner: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            outer, out = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            back.transport.abort()
            return
        link = Link(self, back, out)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(link.carry(inner, out, "up"))
                both.create_task(link.carry(outer, back, "down"))
        except* (Cut, OSError, asyncio.CancelledError):
            link.cut()
        finally:
            self._links.discard(link)
            link.end()

    def spend(self, toxic: Toxic) -> bool:
        """Take one from what is left of a toxic that only lasts for so many."""
        if toxic not in self._toxics:
            return False
        self._toxics.remove(toxic)
        if toxic.amount > 1:
            self._toxics.append(replace(toxic, amount=toxic.amount - 1))
        return True

    def against(self, way: Way) -> list[Toxic]:
        """Return what goes wrong with the next piece in this direction."""
        return [one for one in self._toxics if one.way == way and self._dice.random() < one.share]

    def blur(self, toxic: Toxic) -> float:
        return max(0.0, toxic.seconds + self._dice.uniform(-toxic.jitter_s, toxic.jitter_s))

    async def held(self, seconds: float) -> None:
        """Wait for a change of the weather; with seconds, no longer than so long, and then it is cut."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds or None)
        except TimeoutError:
            raise Cut from None


class Link:
    """One connection through a proxy."""

    def __init__(self, proxy: Proxy, *ends: asyncio.StreamWriter) -> None:
        self._proxy, self._ends = proxy, ends
        self._carried = 0

    def cut(self) -> None:
        """RST both ends."""
        for end in self._ends:
            sock: Any = end.get_extra_info("socket")
            if sock is not None and not end.transport.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            end.transport.abort()

    def end(self) -> None:
        for end in self._ends:
            end.close()

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Way) -> None:
        """Carry what comes until it ends, and whatever happens to it."""
        while piece := await source.read(CHUNK):
            await self._suffer(piece, sink, way)
        if sink.can_write_eof():
            sink.write_eof()

    async def _suffer(self, piece: bytes, sink: asyncio.StreamWriter, way: Way) -> None:
        size = len(piece)
        for toxic in self._proxy.against(way):
            if toxic.kind == "slicer":
                size = max(1, toxic.amount)
            await self._strike(toxic, piece, sink)
        for at in range(0, len(piece), size):
            sink.write(piece[at : at + size])
            await sink.drain()
            if size < len(piece):
                await asyncio.sleep(0)
        self._carried += len(piece)

    async def _strike(self, toxic: Toxic, piece: bytes, sink: asyncio.StreamWriter) -> None:
        proxy, kind = self._proxy, toxic.kind
        if kind == "limit_data" and self._carried + len(piece) <= toxic.amount:
            return
        if kind == "drop_reply" and not proxy.spend(toxic):
            return
        proxy.struck[kind] += 1
        match kind:
            case "latency":
                await asyncio.sleep(proxy.blur(toxic))
            case "bandwidth":
                await asyncio.sleep(len(piece) / toxic.amount)
            case "timeout":
                await proxy.held(toxic.seconds)
            case "limit_data":
                sink.write(piece[: max(0, toxic.amount - self._carried)])
                await sink.drain()
                raise Cut
            case "drop_reply":
                raise Cut
            case _:
                pass


class ProxyLoop:
    """The loop of all proxies of a run, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it there, and wait for it here."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(REOPEN_S + 5)

    def stop(self) -> None:
        self.run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

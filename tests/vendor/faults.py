"""What each behaviour does on the wire. One small handler a kind; which arrivals get it is decided in `script`.

A handler states the status it gives before the first byte leaves, so that the books are never behind the caller.
"""

import asyncio
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus

import msgspec
from aiohttp import web

from tests.vendor.script import Behaviour, Kind
from tests.vendor.shop import Answer

JSON = "application/json"
CHUNK = b"x" * 65_536
BOMB_BYTES = 50 * 2**20
FLOOD_HEADERS = 500
DRIP_BYTES = 1_000
RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A request at the moment of its answer; without an effect `answer` is an empty 200."""

    request: web.BaseRequest
    behaviour: Behaviour
    answer: Answer
    give: Callable[[int], None]
    gone: asyncio.Event


async def answer(scene: Scene) -> web.StreamResponse:
    """Say the truth."""
    truth = scene.answer
    scene.give(truth.status)
    if truth.pad_to:
        return await _padded(scene.request, truth.pad_to)
    return _response(truth.status, encode(truth.body))


async def status(scene: Scene) -> web.StreamResponse:
    rule = scene.behaviour
    given = rule.status or 500
    scene.give(given)
    if rule.body is None:
        body = b"" if given in {204, 304} else encode({"error": {"code": f"scripted_{given}"}})
    else:
        body = rule.body.encode() if isinstance(rule.body, str) else encode(rule.body)
    return _response(given, body, **rule.headers)


async def hang(scene: Scene) -> web.StreamResponse:
    await scene.gone.wait()
    return _nothing()


async def reset(scene: Scene) -> web.StreamResponse:
    transport = scene.request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        transport.abort()
    return _nothing()


async def close(scene: Scene) -> web.StreamResponse:
    return _raw(scene.request, b"")


async def truncate(scene: Scene) -> web.StreamResponse:
    scene.give(scene.answer.status)
    body = encode(scene.answer.body)
    return _raw(scene.request, _head(scene.answer.status, len(body)) + body[: len(body) // 2])


async def drip(scene: Scene) -> web.StreamResponse:
    rule, transport = scene.behaviour, scene.request.transport
    scene.give(scene.answer.status)
    body = encode(scene.answer.body).ljust(DRIP_BYTES if rule.size is None else rule.size)
    if transport is not None:
        transport.write(_head(scene.answer.status, len(body)))
    for at in range(len(body)):
        if transport is None or scene.gone.is_set():
            break
        transport.write(body[at : at + 1])
        await asyncio.sleep(rule.interval)
    return _raw(scene.request, b"")


async def redirect(scene: Scene) -> web.StreamResponse:
    given = scene.behaviour.status or 302
    scene.give(given)
    return _response(given, b"", Location=scene.behaviour.url, **scene.behaviour.headers)


async def gzip_bomb(scene: Scene) -> web.StreamResponse:
    size = BOMB_BYTES if scene.behaviour.size is None else scene.behaviour.size
    body = await asyncio.to_thread(_bomb, size)
    scene.give(scene.answer.status)
    return _response(scene.answer.status, body, **{"Content-Encoding": "gzip"})


async def header_flood(scene: Scene) -> web.StreamResponse:
    count = FLOOD_HEADERS if scene.behaviour.size is None else scene.behaviour.size
    scene.give(scene.answer.status)
    return _response(scene.answer.status, b"{}", **{f"X-Flood-{n}": "y" * 100 for n in range(count)})


async def page(scene: Scene, *, content_type: str, body: bytes) -> web.StreamResponse:
    """Give a 200 with a body that is not what the operation promises."""
    scene.give(200)
    return _response(200, body, **{"Content-Type": content_type})


garbage = partial(page, content_type=JSON, body=b'{"id": \xff\xfe, "email"')
wrong_type = partial(page, content_type="text/html; charset=utf-8", body=b"<html><body>Welcome back!</body></html>")

HANDLERS: Mapping[Kind, Callable[[Scene], Awaitable[web.StreamResponse]]] = {
    Kind.OK: answer,
    Kind.DELAY: answer,
    Kind.HOLD: answer,
    Kind.STATUS: status,
    Kind.HANG: hang,
    Kind.RESET: reset,
    Kind.CLOSE: close,
    Kind.TRUNCATE: truncate,
    Kind.DRIP: drip,
    Kind.REDIRECT: redirect,
    Kind.GZIP_BOMB: gzip_bomb,
    Kind.HEADER_FLOOD: header_flood,
    Kind.GARBAGE: garbage,
    Kind.WRONG_TYPE: wrong_type,
}


def _response(given: int, body: bytes, **headers: str) -> web.Response:
    return web.Response(status=given, body=body, headers={"Content-Type": JSON, **headers})


def _raw(request: web.BaseRequest, wire: bytes) -> web.StreamResponse:
    """Write these bytes and then a FIN."""
    transport = request.transport
    if transport is not None:
        if wire:
            transport.write(wire)
        transport.close()
    return _nothing()


def _nothing() -> web.StreamResponse:
    """Satisfy the server, which finds the connection closed and sends none of it."""
    return web.Response()


def _head(given: int, length: int) -> bytes:
    line = f"HTTP/1.1 {given} {HTTPStatus(given).phrase}"
    return f"{line}\r\nContent-Type: {JSON}\r\nContent-Length: {length}\r\n\r\n".encode()


async def _padded(request: web.BaseRequest, size: int) -> web.StreamResponse:
    """Stream a JSON document of exactly `size` bytes."""
    response = web.StreamResponse(headers={"Content-Type": JSON, "Content-Length": str(size)})
    await response.prepare(request)
    opening, closing = (b'{"data":"', b'"}') if size > 10 else (b"", b"")
    left = size - len(opening) - len(closing)
    await response.write(opening)
    while left > 0:
        await response.write(CHUNK[:left])
        left -= len(CHUNK)
    await response.write(closing)
    return response


@lru_cache(maxsize=4)
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    parts = [packer.compress(zeros[: size - at]) for at in range(0, size, len(zeros))]
    return b"".join((*parts, packer.flush()))

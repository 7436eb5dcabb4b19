"""A vendor that answers with as much as it can: bytes, headers, members, brackets, or nearly nothing for ever."""

import gzip
import socket
import socketserver
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

GIGABYTE = 1 << 30
CHUNK = b"x" * 65_536
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
INFLATED = 256 << 20
"""What a bomb of some hundred kilobytes unpacks to."""


@cache
def _zeros(bits: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, bits)
    block = bytes(1 << 20)
    return b"".join([*(packer.compress(block) for _ in range(INFLATED >> 20)), packer.flush()])


def _body(encoding: bytes, body: bytes) -> Iterator[bytes]:
    line = b"Content-Encoding: " + encoding + b"\r\n" if encoding else b""
    yield HEAD + line + b"Content-Length: %d\r\n\r\n" % len(body)
    yield body


def _endless(start: bytes, piece: bytes, pause_s: float = 0.0, most: int = GIGABYTE) -> Iterator[bytes]:
    yield start
    sent = 0
    while sent < most:
        yield piece
        sent += len(piece)
        if pause_s:
            time.sleep(pause_s)


ATTACKS = {
    "gzip": lambda: _body(b"gzip", _zeros(31)),
    "gzip-twice": lambda: _body(b"gzip, gzip", gzip.compress(_zeros(31))),
    "gzip-in-gzip": lambda: _body(b"gzip", gzip.compress(_zeros(31))),
    "gzip-members": lambda: _body(b"gzip", gzip.compress(b"") * 100_000),
    "deflate": lambda: _body(b"deflate", _zeros(15)),
    "deflate-raw": lambda: _body(b"deflate", _zeros(-15)),
    "br": lambda: _body(b"br", b"\x5b\xff\xff\x0f" + b"\x00" * 1_000_000),
    "zstd": lambda: _body(b"zstd", b"\x28\xb5\x2f\xfd\xa4" + b"\xff" * 1_000_000),
    "long": lambda: _endless(HEAD + b"Content-Length: %d\r\n\r\n" % GIGABYTE, CHUNK),
    "chunked": lambda: _endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + CHUNK + b"\r\n"),
    "until-closed": lambda: _endless(HEAD + b"Connection: close\r\n\r\n", CHUNK),
    "chunk-extension": lambda: _endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", CHUNK),
    "trailers": lambda: _endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-T: " + CHUNK[:4000] + b"\r\n"),
    "drip": lambda: _endless(HEAD + b"Content-Length: 1000\r\n\r\n", b" ", pause_s=1.0, most=60),
    "drip-head": lambda: _endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"x", pause_s=1.0, most=60),
    "headers-many": lambda: _endless(HEAD, b"X-Flood: " + b"y" * 100 + b"\r\n"),
    "header-long": lambda: _endless(HEAD + b"X-Flood: ", CHUNK),
    "status-long": lambda: _endless(b"HTTP/1.1 200 ", CHUNK),
    "informational": lambda: _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "early-hints": lambda: _endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100),
    "noise": lambda: _endless(b"", CHUNK),
    "deep-lists": lambda: _body(b"", b"[" * 1_000_000),
    "deep-objects": lambda: _body(b"", b'{"a":' * 300_000),
    "many-lists": lambda: _body(b"", b"[" + b"[]," * 600_000 + b"1]"),
    "many-objects": lambda: _body(b"", b"[" + b'{"a":{}},' * 200_000 + b"1]"),
    "many-keys": lambda: _body(b"", b"{" + b",".join(b'"%d":0' % n for n in range(150_000)) + b"}"),
    "long-number": lambda: _body(b"", b"1" * 1_000_000),
    "large-exponent": lambda: _body(b"", b"1e" + b"9" * 1_000_000),
}


@dataclass
class Bomber:
    """How often each attack was asked for, and where."""

    url: str = ""
    arrivals: Counter[str] = field(default_factory=Counter)


@contextmanager
def bomber() -> Iterator[Bomber]:
    """Listen on a port of the loopback, a thread for each connection."""
    one = Bomber()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head and (more := self.request.recv(65_536)):
                head += more
            if not head:
                return
            name = head.split(b" ")[1].decode().strip("/")
            one.arrivals[name] += 1
            self.request.settimeout(20)
            with suppress(OSError):
                for piece in ATTACKS[name]():
                    self.request.sendall(piece)
                self.request.shutdown(socket.SHUT_WR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

    for bits in (31, 15, -15):
        _zeros(bits)  # not while somebody waits for it
    with Server(("127.0.0.1", 0), Handler) as server:
        one.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield one
        server.shutdown()
        thread.join()


def connector(url: str) -> str:
    """Declare it: a read and a write of each attack, one attempt each, and no breaker in between."""
    return f"""
---
apiVersion: sluice/v1
kind: Connector
metadata: {{name: bomber, version: 1.0.0}}
base_url: {url}
auth: {{type: none}}
egress: {{allow_hosts: ["127.0.0.1"], allow_private: true}}
defaults:
  timeout: 4s
  retry: {{max_attempts: 1}}
  breaker: {{min_calls: 10000, consecutive: 10000}}
operations:
  read: {{request: {{method: GET, path: "/{{attack}}"}}, class: safe}}
  write: {{request: {{method: POST, path: "/{{attack}}"}}, class: unsafe}}
"""

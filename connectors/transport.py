"""The wire to the vendors: the only door to aiohttp. Sends one request once and says what is known about it.

Whether the vendor can have seen the request is read from the connection (did one stand?), never from the name of an
exception. No redirects, no cookies, no proxies from the environment, no repeats of its own, everything bounded.
It never judges an answer, and lets a cancellation through at once, closing the socket.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace
from yarl import URL

from connectors.egress import vet
from connectors.exchange import (
    Ambiguous,
    Answered,
    Cut,
    Exchange,
    Fault,
    NotSent,
    RenderedRequest,
    SendPolicy,
)
from connectors.inflate import ACCEPTED, inflate

DNS_CACHE_S: Final = 30
KEEP_ALIVE_S: Final = 15.0
"""Idle time of a reusable connection; longer than most vendors keep theirs buys only dead ones."""
MOST_HEADERS: Final = 128
LONGEST_HEADER_BYTES: Final = 8190
MOST_EARLY: Final = 20
"""Answers before the answer (1xx) to one request; nobody has a use for more than a few."""

_NO_TIMEOUTS: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_VERSIONS: Final = MappingProxyType({(1, 0): "1.0", (1, 1): "1.1"})
_DROPPED: Final = frozenset({"set-cookie", "set-cookie2"})
_BEFORE: Final = (
    (aiohttp.ClientConnectorDNSError, Fault.DNS),
    (aiohttp.ClientSSLError, Fault.TLS),
    (aiohttp.InvalidURL, Fault.URL),
    (TimeoutError, Fault.CONNECT_TIMEOUT),
)
"""How a connection did not come about; anything else counts as refused."""
_SENTENCES: Final = MappingProxyType(
    {
        Fault.DNS: "The host name {host} could not be resolved{reason}.",
        Fault.TLS: "No TLS connection to {host} came about{reason}.",
        Fault.URL: "The address of {host} is not a valid URL.",
        Fault.CONNECT_TIMEOUT: "{host} did not accept a connection in time.",
        Fault.REFUSED: "{host} did not accept a connection{reason}.",
    }
)


_LATE: Final = "The worker was held up until its lease had ended; nothing was sent."


class _Flight:
    """What is known about one request under way."""

    __slots__ = ("blocked", "chunks", "connected", "cut", "dialled", "holds", "response")

    def __init__(self, holds: Callable[[], bool]) -> None:
        self.holds = holds
        self.blocked: str | None = None
        self.dialled = False
        self.connected = False
        self.response: aiohttp.ClientResponse | None = None
        self.chunks: list[bytes] = []
        self.cut: Cut | None = None


# Everything that happens to a request happens in its task or in children of it (happy eyeballs), which inherit this.
_flight: ContextVar[_Flight] = ContextVar("flight")


class _TooLate(Exception):  # noqa: N818 - control flow inside this file only
    """The process was held up, and its right to send has ended."""


class _Protocol(ResponseHandler):
    """Bounds what comes before an answer: the library queues every 1xx without end, faster than it reads them."""

    _early = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        code = data[0].code
        self._early = self._early + 1 if 100 <= code < 200 and code != 101 else 0
        if self._early <= MOST_EARLY:
            super().feed_data(data, size)
        elif self._early == MOST_EARLY + 1:
            self.abort()
            self.set_exception(HttpProcessingError(message="too many answers before the answer"))


class _Connector(aiohttp.TCPConnector):
    """A pool that tells the flight when a connection stands."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the base class names it
    ) -> Connection:
        flight = _flight.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            # Bytes that arrived while a connection lay idle would be taken for the answer to this request.
            if flight.dialled or protocol is None or not protocol.should_close:
                if not flight.holds():
                    connection.release()
                    raise _TooLate
                flight.connected = True
                return connection
            connection.close()


def _guard(*, allow_private: bool) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    def dial(info: aiohttp.AddrInfoType) -> socket.socket:
        flight = _flight.get()
        address = str(info[4][0])
        if refusal := vet(address, allow_private=allow_private):
            flight.blocked = refusal
            raise OSError(errno.EACCES, refusal)
        flight.dialled = True
        return socket.socket(family=info[0], type=info[1], proto=info[2])

    return dial


class Engine:
    """The sessions of one process; four of them, so that policies never share a connection."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        self._trust = trust
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}

    async def open(self) -> None:
        """Make the sessions; the TLS context is shared because it takes milliseconds to build."""
        context = self._trust or ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        for allow_private in (False, True):
            for fresh in (False, True):
                self._sessions[allow_private, fresh] = _session(context, allow_private=allow_private, fresh=fresh)

    async def close(self) -> None:
        """Close every connection."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

    async def send(self, request: RenderedRequest, policy: SendPolicy) -> Exchange:
        """Send `request` once. Returns whatever the vendor or the network does; raises only if the gateway is broken."""
        loop = asyncio.get_running_loop()
        flight = _Flight(policy.holds)
        token = _flight.set(flight)
        began = loop.time()
        try:
            async with asyncio.timeout(policy.timeout_s):
                response = await self._ask(request, policy, flight)
                await _read(response, flight, policy.cap_wire_bytes)
        except _TooLate:
            return NotSent(Fault.LATE, _LATE, loop.time() - began)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            return _without_end(request, flight, policy, error, loop.time() - began)
        finally:
            _flight.reset(token)
            if flight.response is not None:
                flight.response.close()
        return _answered(request, response, flight, policy, loop.time() - began)

    async def _ask(self, request: RenderedRequest, policy: SendPolicy, flight: _Flight) -> aiohttp.ClientResponse:
        flight.response = await self._sessions[policy.allow_private, policy.fresh].request(
            request.method,
            URL(request.url, encoded=True),
            headers={**request.headers, "accept-encoding": ACCEPTED},
            data=request.body,
            allow_redirects=False,
        )
        return flight.response


def _session(context: ssl.SSLContext, *, allow_private: bool, fresh: bool) -> aiohttp.ClientSession:
    guard = _guard(allow_private=allow_private)
    resolver = aiohttp.ThreadedResolver()
    if fresh:
        connector = _Connector(
            limit=0, ssl=context, socket_factory=guard, resolver=resolver, ttl_dns_cache=DNS_CACHE_S, force_close=True
        )
    else:
        connector = _Connector(
            limit=0,
            ssl=context,
            socket_factory=guard,
            resolver=resolver,
            ttl_dns_cache=DNS_CACHE_S,
            keepalive_timeout=KEEP_ALIVE_S,
        )
    connector._factory = partial(_Protocol, loop=asyncio.get_running_loop())  # type: ignore[assignment] # noqa: SLF001 - no public way
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=_NO_TIMEOUTS,  # ours is total; theirs are per phase
        max_headers=MOST_HEADERS,
        max_field_size=LONGEST_HEADER_BYTES,
        max_line_size=LONGEST_HEADER_BYTES,
    )
    # Otherwise GET, PUT and DELETE are sent a second time, unseen, when a reused connection dies (calls.md §1.3).
    session._retry_connection = False  # noqa: SLF001 - no public switch; a test counts arrivals
    return session


async def _read(response: aiohttp.ClientResponse, flight: _Flight, cap: int) -> None:
    """Read the body as it is on the wire; what was read stays in the flight if the time runs out."""
    length = response.content_length
    if length is not None and length > cap and response.method != "HEAD":
        flight.cut = Cut.WIRE
        return
    if response.status < 200:  # a switch of protocols nobody asked for has no end
        return
    while chunk := await response.content.readany():
        flight.chunks.append(chunk[:cap])
        cap -= len(chunk)
        if cap < 0:
            flight.cut = Cut.WIRE
            return


def _without_end(
    request: RenderedRequest, flight: _Flight, policy: SendPolicy, error: Exception, took: float
) -> Exchange:
    if flight.response is not None:
        flight.cut = Cut.DEADLINE if isinstance(error, TimeoutError) else Cut.LOST
        return _answered(request, flight.response, flight, policy, took)
    if flight.connected:
        return Ambiguous(*_after_connect(error), took, len(request.body or b""))
    return NotSent(*_before_connect(error, flight, _host(request)), took)


def _answered(
    request: RenderedRequest, response: aiohttp.ClientResponse, flight: _Flight, policy: SendPolicy, took: float
) -> Answered:
    headers = _headers(response)
    body, broken = inflate(b"".join(flight.chunks), headers.get("content-encoding", ""), policy.cap_decoded_bytes)
    version = _VERSIONS.get(response.version or (1, 1), "?")
    return Answered(response.status, headers, body, flight.cut or broken, version, took, len(request.body or b""))


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if len(headers) < len(response.headers):
        headers = {name: ", ".join(response.headers.getall(name)) for name in headers}
    for name in _DROPPED:
        headers.pop(name, None)
    return headers


def _host(request: RenderedRequest) -> str:
    # Only the host: the rest of an address may hold a key.
    return URL(request.url, encoded=True).host or "?"


def _before_connect(error: Exception, flight: _Flight, host: str) -> tuple[Fault, str]:
    if flight.blocked is not None and not flight.dialled:
        return Fault.BLOCKED, f"The gateway may not connect to {host}: {flight.blocked}"
    fault = next((fault for kind, fault in _BEFORE if isinstance(error, kind)), Fault.REFUSED)
    if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT:
        fault = Fault.CONNECT_TIMEOUT
    return fault, _SENTENCES[fault].format(host=host, reason=_reason(error))


def _after_connect(error: Exception) -> tuple[Fault, str]:
    match error:
        case TimeoutError() if not isinstance(error, aiohttp.ClientOSError):
            return Fault.RECEIVE_TIMEOUT, "The vendor did not answer in time after the request was sent."
        case aiohttp.ClientResponseError():
            return Fault.GARBAGE, "What the vendor sent back is not HTTP, or its head is larger than we accept."
        case aiohttp.ServerDisconnectedError():
            return Fault.RECEIVE_RESET, "The vendor closed the connection after the request was sent."
        case aiohttp.ClientOSError(errno=errno.ECONNRESET):
            # A reset is noticed while waiting for the answer; one that cuts the writing itself is a broken pipe.
            return Fault.RECEIVE_RESET, f"The vendor broke the connection before it answered{_reason(error)}."
        case aiohttp.ClientOSError():
            return Fault.SEND_RESET, f"The connection broke while the request was under way{_reason(error)}."
        case _:
            return Fault.RECEIVE_RESET, "The connection to the vendor was lost after the request was sent."


def _reason(error: Exception) -> str:
    """Return the operating system's words, never the library's: those quote the address with its query."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    words = getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or getattr(cause, "strerror", None)
    return f" ({words})" if isinstance(words, str) else ""

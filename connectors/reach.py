"""Can an origin be reached? Resolves, vets each address as the transport does, connects, shakes hands, and closes: no request is sent.

What is known of an origin is kept for a short time, and all who ask at once share one attempt.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from connectors.declared import Egress
from connectors.egress import allowed, vet
from connectors.exchange import Fault

WITHIN_S: Final = 5.0
"""In total: name, dial and handshake."""
KEPT_S: Final = 30.0
"""So long an origin that was reached is not dialled again ..."""
KEPT_FAILED_S: Final = 5.0
"""... and one that was not."""
MOST: Final = 1000
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Reached:
    """What came of it: no fault, or which and a sentence."""

    fault: Fault | None
    detail: str
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Place:
    scheme: str
    host: str
    port: int
    allow_private: bool

    @property
    def origin(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{shown}:{self.port}"


class Reach:
    """One process's; `monotonic` is a clock in seconds."""

    def __init__(self, monotonic: Callable[[], float], trust: ssl.SSLContext | None = None) -> None:
        """`trust` replaces the system's authorities."""
        self._monotonic = monotonic
        self._trust = trust
        self._known: dict[_Place, tuple[float, Reached]] = {}
        self._flights: dict[_Place, asyncio.Task[Reached]] = {}

    async def look(self, url: str, egress: Egress) -> tuple[Reached, float]:
        """Return whether the origin of `url` can be reached, and how old that is in seconds."""
        if refusal := allowed(url, egress):
            return Reached(Fault.BLOCKED, refusal), 0.0
        parts = urlsplit(url)
        place = _Place(
            parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443), egress.allow_private
        )
        at, known = self._known.get(place, (float("-inf"), None))
        age_s = self._monotonic() - at
        if known is not None and age_s < (KEPT_S if known.fault is None else KEPT_FAILED_S):
            return known, age_s
        flight = self._flights.get(place)
        if flight is None:
            flight = self._flights[place] = asyncio.create_task(self._dial(place))
            flight.add_done_callback(lambda _: self._flights.pop(place, None))
        return await asyncio.shield(flight), 0.0

    async def _dial(self, place: _Place) -> Reached:
        began = self._monotonic()
        try:
            async with asyncio.timeout(WITHIN_S):
                reached = await self._connected(place)
        except TimeoutError:
            detail = f"{place.origin} did not accept a connection within {WITHIN_S:g} s."
            reached = Reached(Fault.CONNECT_TIMEOUT, detail, self._monotonic() - began)
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[place] = (self._monotonic(), reached)
        return reached

    async def _connected(self, place: _Place) -> Reached:
        began = self._monotonic()
        try:
            found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            return Reached(Fault.DNS, f"The host name {place.host} could not be resolved{_reason(error)}.")
        refusals, last = [], Reached(Fault.DNS, f"The host name {place.host} has no address.")
        for address in dict.fromkeys(str(one[4][0]) for one in found):
            if refusal := vet(address, allow_private=place.allow_private):
                refusals.append(refusal)
                continue
            last = await self._dialled(place, address)
            if last.fault is None:
                return Reached(None, last.detail, self._monotonic() - began)
        if refusals and last.fault is Fault.DNS:
            return Reached(Fault.BLOCKED, f"The gateway may not connect to {place.host}: {refusals[0]}")
        return last

    async def _dialled(self, place: _Place, address: str) -> Reached:
        context = self._context() if place.scheme == "https" else None
        try:
            _, writer = await asyncio.open_connection(
                address, place.port, ssl=context, server_hostname=place.host if context else None
            )
        except ssl.SSLError as error:
            return Reached(Fault.TLS, f"No TLS connection to {place.host} came about{_reason(error)}.")
        except OSError as error:
            return Reached(Fault.REFUSED, f"{place.origin} did not accept a connection{_reason(error)}.")
        # A polite end of TLS would wait for the other side's.
        writer.transport.abort()
        how = "resolves, connects, and its certificate is good" if context else "resolves and connects"
        return Reached(None, f"{place.host} {how}.")

    def _context(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = ssl.create_default_context()
        return self._trust


def _reason(error: Exception) -> str:
    """Return the system's words; a library's may quote more than the host."""
    words = getattr(error, "verify_message", None) or getattr(error, "reason", None) or getattr(error, "strerror", None)
    return f" ({words})" if isinstance(words, str) else ""

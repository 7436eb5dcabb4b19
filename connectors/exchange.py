"""One exchange with a vendor as values: what is to be sent, under which limits, and what came of it.

Shared by the pure rooms (render, classify) and the wire (transport); it must never do I/O or judge anything.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class RenderedRequest:
    """A request as it will stand on the wire; header names are lower case."""

    method: str
    url: str
    """Percent-encoded; may hold a credential once the credentials are applied, so it is never shown."""
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class RenderRefused:
    """The arguments cannot be put into the request."""

    message: str


@dataclass(frozen=True, slots=True)
class EgressRefused:
    """The request's host is not one the connector may call."""

    message: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Something the call needs is not set up: a secret, or what this version cannot do yet."""

    message: str


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The `sending` mark was refused: another worker owns the call now, so nothing was sent."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """The `sending` mark may not survive a failure of its server, so nothing was sent."""


Marked = Literal["marked", "lost", "unconfirmed"]
"""What came of the `sending` mark; `unconfirmed`: the claim is the caller's, but no replica has said that it holds the mark."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make one attempt, as long as it lasts."""

    mark: Callable[[], Awaitable[Marked]]
    """Writes the `sending` mark; `lost` when the right is."""
    holds: Callable[[], bool]
    """Tells, on a clock that counts suspend, whether a byte may still be sent: it is asked last, before the first one."""


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """What an operation allows one exchange."""

    timeout_s: float
    """Total: name, dial, handshake, send and the last byte of the answer."""
    allow_private: bool
    fresh: bool
    """Dial anew: a kept-alive connection that dies cannot be told from an answer that got lost."""
    cap_wire_bytes: int
    cap_decoded_bytes: int
    holds: Callable[[], bool] = lambda: True
    """See `Lease`."""


class Fault(StrEnum):
    """Why there is no answer."""

    BLOCKED = "blocked"
    DNS = "dns"
    URL = "url"
    REFUSED = "refused"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    LATE = "late"
    """The process was held up until its right to send had ended."""
    SEND_RESET = "send_reset"
    RECEIVE_RESET = "receive_reset"
    RECEIVE_TIMEOUT = "receive_timeout"
    GARBAGE = "garbage"


class Cut(StrEnum):
    """Why the body of an answer is not whole."""

    WIRE = "wire"
    """More bytes than we accept."""
    OVERSIZE = "oversize"
    """Inflates to more than we accept."""
    ENCODING = "encoding"
    """An encoding we did not ask for, or a broken one."""
    LOST = "lost"
    """The connection ended before the body did."""
    DEADLINE = "deadline"
    """The time was up before the body ended."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The head of an answer was read; the body as far as `truncated` tells."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case, repeated ones joined by a comma, cookies left out."""
    body: bytes
    truncated: Cut | None
    http_version: str
    duration_s: float
    bytes_out: int


@dataclass(frozen=True, slots=True)
class NotSent:
    """No connection ever stood: proof that the vendor did not see the request."""

    fault: Fault
    message: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A connection stood and no answer came: the vendor may have seen the request."""

    fault: Fault
    message: str
    duration_s: float
    bytes_out: int
    """Of the body, at most."""


Exchange = Answered | NotSent | Ambiguous
Refusal = RenderRefused | EgressRefused | Unavailable | LeaseLost | Unconfirmed

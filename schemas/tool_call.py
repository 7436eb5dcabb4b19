"""A tool call: what was asked (`ToolCallData`) and what was accepted (`ToolCall`, frozen, travels to the worker)."""

from typing import Annotated, Any, Literal

import msgspec

from schemas.codec import canonical, encode, sha256
from schemas.effect import Effect, OperationClass

TENANT = "default"
"""The one tenant of an installation without tenants."""

Priority = Literal["interactive", "normal", "batch"]
DIGEST_LENGTH = 32
"""Characters of scope and fingerprint: 128 bits tell the calls of one tenant apart, and every call that waits keeps both."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
"""A key that is given holds no control character, so that it can never equal one that is derived."""

SEPARATOR = "\x1f"
"""Parts the source of an event from its id in a derived key (ASCII's unit separator)."""


def derived_key(source: str, identity: str) -> str:
    """Return the key of an event that names none: its source and id; no other event, and no given key, has the same."""
    return f"{source.replace('%', '%25').replace(SEPARATOR, '%1F')}{SEPARATOR}{identity}"


class ToolCallData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `data` of a request, the body of `POST /v1/calls`; only `tool` and `arguments` are required."""

    tool: _Name
    arguments: dict[str, Any]
    connection: _Name | None = None
    session: _Name | None = None
    idempotency_key: _Key | None = None
    deadline: str | None = None
    priority: Priority = "normal"
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    reservation: str | None = None


def replay_key(letter: str, count: int) -> str:
    """Return the key of the n-th replay of a letter; no event, whose source is never empty, and no given key has the same."""
    return SEPARATOR.join(("", "replay", letter, str(count)))


def scope_of(tenant: str, tool: str, connection: str | None, key: str) -> str:
    """Hash (tenant, tool, connection, key): the idempotency scope."""
    return sha256(tenant, tool, connection or "", key)[:DIGEST_LENGTH]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call came in, enough to find it there again."""

    engine: str
    """`redis`, `kafka`, `http`, `sdk` for a client in a process of its own, or `replay`, which has the operator as its stream."""
    stream: str | None = None
    entry: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The producer's own identity of the request, echoed in its result."""

    source: str
    id: str


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a vendor that is judged and delivered again without asking the vendor."""

    status: int
    headers: dict[str, str]
    body: bytes


class Replayed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a call knows of the letter that it replays."""

    replay: str
    """The replay that it belongs to."""
    by: str
    """The operator who started it."""
    call: str
    """The call that left the letter."""
    effect: Effect
    """What was known of the effect before."""
    first_us: int
    """When the vendor first may have seen the vendor key; 0: never."""
    patched: bool = False
    """Its arguments are not those of the letter, and its vendor key is its own."""
    override: str | None = None
    """Why it was replayed although its chain was as long as it may be."""
    ran: Ran | None = None
    """It ran before: this answer is judged again, and nothing is sent."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An accepted call. Everything a worker, a result or a letter needs; nothing in it ever changes.

    It is kept as a JSON array in the order below, since a name of each field would be a sixth of what a call takes. So a field is
    added at the end, with a default; JSON, because it alone keeps every number of the arguments as it came.
    """

    id: str
    tenant: str = TENANT
    tool: str
    connector: str
    connection: str | None
    op_class: OperationClass
    arguments: dict[str, Any]
    agent: str
    session: str | None
    priority: Priority
    key: str
    vendor_key: str
    """The key sent to the vendor, the same for every attempt."""
    accepted_us: int
    deadline_us: int
    timeout_us: int
    confidence: float | None = None
    reservation: str | None = None
    traceparent: str | None = None
    request: Request
    origin: Origin
    replay_of: str | None = None
    """The letter."""
    root: str | None = None
    """The first letter of its chain."""
    generation: int = 0
    replayed: Replayed | None = None

    @property
    def scope(self) -> str:
        """The idempotency scope."""
        return scope_of(self.tenant, self.tool, self.connection, self.key)

    @property
    def fingerprint(self) -> str:
        """Hash of {tool, connection, arguments}: what makes two requests the same."""
        same = {"tool": self.tool, "connection": self.connection, "arguments": self.arguments}
        return sha256(canonical(same))[:DIGEST_LENGTH]

    @property
    def lane(self) -> str:
        """The queue this call waits in: one per connector, connection and operation."""
        return f"{self.connector}|{self.connection or '-'}|{self.tool.removeprefix(self.connector + '.')}"


_read = msgspec.json.Decoder(ToolCall).decode


def stored(call: ToolCall) -> str:
    """Return the call as the lanes keep it."""
    return encode(call).decode()


def restored(body: bytes) -> ToolCall:
    """Read a call as `stored` wrote it; raises ValueError, saying what is wrong, when it is none."""
    try:
        return _read(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None

"""A record of Kafka as an entry of the bus: CloudEvents in structured mode are handed on as they are, in binary mode they are put together.

Never raises: what cannot be read is a flaw of the entry, and becomes a dead letter. Headers that are not of the event are not looked at.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from gateway.flow.intake import Entry
from schemas.codec import Undecodable
from schemas.failure import Failure

PREFIX = "ce_"
STRUCTURED = "application/cloudevents"
TYPE = "content-type"
TRACE = "traceparent"
"""A header of its own in many clients; the event's own attribute goes before it."""

SHOWN = 80
MOST = 300
"""Characters of a message about it."""

_raw = msgspec.json.Decoder(msgspec.Raw).decode


Headers = Sequence[tuple[str, bytes | None]]


class Record(Protocol):
    """What is read of a record."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that the client library could not read: only where it lies is known."""

    topic: str
    partition: int
    offset: int
    why: str
    timestamp: int = 0
    value: bytes | None = None
    headers: Headers = ()


def entry_of(record: Record, topic: str) -> Entry:
    """Make the entry; its id is `partition:offset`."""
    raw, flaw = record.value or b"", None
    if isinstance(record, Unreadable):
        flaw = Undecodable(Failure.DECODE_ENVELOPE, f"the record cannot be read: {record.why}"[:MOST])
    try:
        attributes = _attributes(record.headers or ())
        if attributes is not None:
            raw = _joined(attributes, raw)
    except Undecodable as wrong:
        flaw = wrong
    return Entry(stream=topic, id=f"{record.partition}:{record.offset}", raw=raw, engine="kafka", flaw=flaw)


def _attributes(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, Any] | None:
    """Return the attributes of a binary event; None: the value holds a structured one."""
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower.startswith(PREFIX) or lower in {TYPE, TRACE}:
            found[lower] = _text(name, value)
    if found.get(TYPE, "").lower().startswith(STRUCTURED) or not any(name.startswith(PREFIX) for name in found):
        return None
    attributes: dict[str, Any] = {TRACE: found[TRACE]} if TRACE in found else {}
    attributes |= {name.removeprefix(PREFIX): value for name, value in found.items() if name.startswith(PREFIX)}
    if TYPE in found:
        attributes["datacontenttype"] = found[TYPE]
    attributes.pop("data", None)
    return attributes


def _text(name: str, value: bytes | None) -> str:
    try:
        return (value if value is not None else b"\xff").decode("utf-8")
    except UnicodeDecodeError:
        shown = repr(value)[:SHOWN]
        raise Undecodable(Failure.DECODE_ENVELOPE, f"the header {name!r} is not UTF-8 text: {shown}") from None


def _joined(attributes: Mapping[str, Any], value: bytes) -> bytes:
    """Put a binary event together; its data must be whole by itself, or it could name attributes of its own."""
    try:
        value.decode("utf-8")
        data = bytes(_raw(value))
    except (UnicodeDecodeError, msgspec.DecodeError):
        raise Undecodable(Failure.DECODE_JSON, "the value of a binary event is not JSON") from None
    return msgspec.json.encode(attributes)[:-1] + b',"data":' + data + b"}"

"""CloudEvents 1.0 in structured JSON, the one envelope of every topic.

Reading is lenient about what Sluice does not use and strict about what makes a tool call; writing never varies.
"""

from typing import Any

import msgspec

from schemas import trace
from schemas.codec import Undecodable, decode, encode
from schemas.failure import Failure

REQUESTED = "tool.call.requested"
"""The one type that is read from `tool-calls`."""

MAX_NAME = 1024
"""Characters of `source` and `id`: they are copied into everything that is told about the event."""

SOURCE = "sluice"
"""The `source` of every event that Sluice publishes."""


class ToolCallRequested(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded request: the envelope's attributes and its `data`, which admission judges."""

    source: str
    id: str
    tool: str
    arguments: dict[str, Any]
    data: dict[str, Any]
    traceparent: str | None


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What Sluice publishes."""

    specversion: str = msgspec.field(default="1.0")
    type: str
    source: str = msgspec.field(default=SOURCE)
    id: str
    time: str
    subject: str | None = None
    traceparent: str | None = None
    datacontenttype: str | None = None
    data: Any


def publishable(event: CloudEvent) -> str:
    """Render an event for a stream or a topic."""
    fields: dict[str, Any] = {
        "specversion": event.specversion,
        "type": event.type,
        "source": event.source,
        "id": event.id,
        "time": event.time,
        "datacontenttype": "application/json",
    }
    if event.subject is not None:
        fields["subject"] = event.subject
    if event.traceparent is not None:
        fields["traceparent"] = event.traceparent
    fields["data"] = event.data
    return encode(fields).decode()


def read(raw: bytes, *, max_bytes: int) -> ToolCallRequested:
    """Decode one `tool.call.requested`, or raise `Undecodable` saying what is missing."""
    event = decode(raw, max_bytes=max_bytes)
    if not isinstance(event, dict):
        raise _envelope("the message is not a JSON object")
    if event.get("specversion") != "1.0":
        raise _envelope('"specversion" is not "1.0"')
    if event.get("type") != REQUESTED:
        raise _envelope(f'"type" is not "{REQUESTED}"')
    source, identity = _text(event, "source"), _text(event, "id")
    data = event.get("data")
    if not isinstance(data, dict):
        raise _envelope('"data" is not an object')
    tool, arguments = data.get("tool"), data.get("arguments")
    if not isinstance(tool, str):
        raise _envelope('"data.tool" is not a string')
    if not isinstance(arguments, dict):
        raise _envelope('"data.arguments" is not an object')
    return ToolCallRequested(
        source=source,
        id=identity,
        tool=tool,
        arguments=arguments,
        data=data,
        traceparent=trace.valid(event.get("traceparent")),
    )


def _text(event: dict[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise _envelope(f'"{name}" is not a string of 1 to {MAX_NAME} characters')
    return value


def _envelope(message: str) -> Undecodable:
    return Undecodable(Failure.DECODE_ENVELOPE, message)

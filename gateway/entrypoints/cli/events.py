"""One line to one event: a whole CloudEvent as it is, or a bare `data` object in an envelope of ours."""

from typing import Any

import msgspec
from ulid import ULID

from schemas import cloudevent
from schemas.codec import Undecodable, decode, encode
from schemas.moment import stamp
from schemas.tool_call import ToolCallData

_ENVELOPE = frozenset({"specversion", "type", "source", "id", "data"})


def event_of(raw: bytes, *, source: str, max_bytes: int) -> str | bytes:
    """Return the event to publish, or raise `ValueError` with what is wrong with the line."""
    text = raw.strip()
    try:
        value = decode(text, max_bytes=max_bytes)
        if isinstance(value, dict) and not _ENVELOPE.isdisjoint(value):
            cloudevent.read(text, max_bytes=max_bytes)
            return text
        msgspec.convert(value, ToolCallData)
    except Undecodable as wrong:
        raise ValueError(f"{wrong.message} [{wrong.failure}]") from None
    except msgspec.ValidationError as wrong:
        raise ValueError(f"neither an event nor the data of one: {wrong}") from None
    return _enveloped(value, source)


def _enveloped(data: dict[str, Any], source: str) -> bytes:
    identity = ULID()
    return encode(
        {
            "specversion": "1.0",
            "type": cloudevent.REQUESTED,
            "source": source,
            "id": str(identity),
            "time": stamp(identity.datetime),
            "datacontenttype": "application/json",
            "data": data,
        }
    )

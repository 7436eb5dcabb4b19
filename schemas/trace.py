"""W3C Trace Context, the part that travels: one trace id from the event to the vendor and back (www.w3.org/TR/trace-context)."""

import re

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def valid(traceparent: object) -> str | None:
    """Return the header if it is a lawful `traceparent`, else None: a broken one is not passed on."""
    return traceparent if isinstance(traceparent, str) and _TRACEPARENT.fullmatch(traceparent) else None


def trace_id(traceparent: str | None) -> str | None:
    """Return the part that is the same from the event to the vendor: 32 hex digits."""
    return None if valid(traceparent) is None or traceparent is None else traceparent.split("-")[1]


def child(traceparent: str, span: str) -> str:
    """Return the same trace with `span` (16 hex digits) as the parent of what follows."""
    version, trace, _, flags = traceparent.split("-")
    return f"{version}-{trace}-{span}-{flags}"

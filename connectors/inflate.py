"""Content-Encoding undone within bounds: a body of a few kilobytes must not become gigabytes. Pure, never raises."""

import zlib

from connectors.exchange import Cut

ACCEPTED = "gzip, deflate"
"""What we offer the vendor; an answer in anything else is not read."""

RATIO = 200
"""Times a body may grow; JSON compresses about 20-fold, a bomb 1000-fold."""
RATIO_FLOOR_BYTES = 1 << 20
"""Below this much decoded data no ratio is suspicious."""

MOST_MEMBERS = 100
"""Of one gzip body. Each costs a copy of all that follows it: a hundred thousand empty ones would cost minutes."""

_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


def inflate(body: bytes, encoding: str, cap: int) -> tuple[bytes, Cut | None]:
    """Return the decoded body, at most `cap` bytes of it, and why it is not whole."""
    name = encoding.strip().lower()
    if name in {"", "identity"} or not body:
        return (body, None) if len(body) <= cap else (body[:cap], Cut.OVERSIZE)
    if name in {"gzip", "x-gzip"}:
        bits = _GZIP_BITS
    elif name == "deflate":
        # The name means zlib (RFC 9110 §8.4.1.2), but raw deflate is what some servers send.
        bits = (
            _ZLIB_BITS if body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0 else _RAW_BITS
        )
    else:
        return body[:cap], Cut.ENCODING
    return _bounded(body, bits, min(cap, max(RATIO_FLOOR_BYTES, RATIO * len(body))))


def _bounded(body: bytes, bits: int, cap: int) -> tuple[bytes, Cut | None]:
    out = bytearray()
    rest, members = body, 0
    while rest:  # a gzip body may have several members
        members += 1
        if members > MOST_MEMBERS:
            return bytes(out), Cut.ENCODING
        member = zlib.decompressobj(bits)
        try:
            out += member.decompress(rest, cap - len(out) + 1)
        except zlib.error:
            return bytes(out[:cap]), Cut.ENCODING
        if len(out) > cap:
            return bytes(out[:cap]), Cut.OVERSIZE
        if not member.eof:
            return bytes(out), Cut.LOST
        rest = member.unused_data if bits == _GZIP_BITS else b""
    return bytes(out), None

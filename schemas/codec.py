"""Bytes to values and back, strictly: size before parse, UTF-8, no NaN, bounded depth, duplicate keys last wins.

Never raises anything but `Undecodable`; everything behind it works on values that survive a round trip.
"""

import hashlib
from typing import Any

import msgspec

from schemas.failure import Failure

MAX_DEPTH = 64
"""Levels of nesting that are accepted; the parsers behind us recurse."""

MAX_CONTAINERS = 100_000
"""Lists and objects of one text: of two million bytes they may be a million, and each takes more memory than its text."""

_PIECE = 65_536

_json = msgspec.json.Decoder()
_sorted = msgspec.json.Encoder(order="deterministic")
encode = msgspec.json.Encoder().encode


class Undecodable(Exception):  # noqa: N818 - it names a verdict on bytes, not an error of ours
    """The bytes are not what they should be; `failure` is the class, the text says where."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message


def decode(raw: bytes, *, max_bytes: int) -> Any:
    """Parse `raw` (at most `max_bytes` bytes) or raise `Undecodable`."""
    if len(raw) > max_bytes:
        raise Undecodable(Failure.INGEST_OVERSIZE, f"{len(raw)} bytes, at most {max_bytes} are accepted")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Undecodable(Failure.DECODE_ENCODING, f"not UTF-8 at byte {error.start}") from None
    # Two looks before any memory is taken: nearly always the first is enough.
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets > MAX_CONTAINERS and containers(raw) > MAX_CONTAINERS:
        raise Undecodable(Failure.DECODE_DEPTH, f"more than {MAX_CONTAINERS} lists and objects")
    try:
        value = _json.decode(raw)
    except RecursionError:
        raise Undecodable(Failure.DECODE_DEPTH, f"nested deeper than {MAX_DEPTH} levels") from None
    except msgspec.DecodeError as error:
        raise Undecodable(Failure.DECODE_JSON, str(error)) from None
    # A text with few brackets cannot be deep: the walk is only paid by those that could be.
    if brackets > MAX_DEPTH and depth(value) > MAX_DEPTH:
        raise Undecodable(Failure.DECODE_DEPTH, f"nested deeper than {MAX_DEPTH} levels")
    return value


def containers(raw: bytes) -> int:
    """Count the brackets that open a list or an object of a JSON text, those within strings left out, in linear time."""
    plain, found, within = raw.replace(b"\\\\", b"").replace(b'\\"', b""), 0, 0
    for at in range(0, len(plain), _PIECE):  # in pieces: a list of all strings would cost as much as what it prevents
        parts = plain[at : at + _PIECE].split(b'"')
        outside = b"".join(parts[within::2])
        found += outside.count(b"[") + outside.count(b"{")
        within ^= (len(parts) - 1) & 1
    return found


def depth(value: object) -> int:
    """Return how many containers lie inside one another, without recursing."""
    deepest, level = 0, [value]
    while level:
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        deepest += any(isinstance(item, dict | list) for item in level)
        level = inner
    return deepest


def pointed(error: msgspec.ValidationError) -> tuple[str, str]:
    """Split what msgspec says of a value into a JSON pointer (RFC 6901; empty for the value itself) and the words."""
    words, _, path = str(error).partition(" - at `$")
    known = path.rstrip("`").partition("[...]")[0]  # so msgspec writes a key of a mapping that it does not name
    return known.replace(".", "/").replace("[", "/").replace("]", ""), words


def canonical(value: object) -> bytes:
    """Encode with sorted keys, so that equal values give equal bytes."""
    return _sorted.encode(value)


def sha256(*parts: str | bytes) -> str:
    """Hash parts so that moving a character from one to the next changes the hash."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()

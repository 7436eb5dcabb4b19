"""What makes failures alike: a versioned fingerprint over the facts and the message without its particulars. Pure.

The rules below are part of the version: change one and the prefix becomes `v2`, so that old groups stay what they were.
"""

import re

from schemas.codec import sha256
from schemas.failure import Failure

VERSION = "v1"
_MOST = 4096
"""Characters of a message that are looked at."""

_PARTICULARS = tuple(
    (re.compile(pattern), word)
    for pattern, word in (
        (r'"[^"]*"|“[^“”]*”|`[^`]*`|(?<!\w)\'[^\']*\'(?!\w)', "<text>"),
        (r"(?<![\w.+-])[\w.+-]{1,64}@[\w-][\w.-]{0,252}", "<email>"),
        (r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<uuid>"),
        (r"\b0x[0-9a-f]+\b|\b(?=[a-f]{0,64}\d)[0-9a-f]{8,}\b", "<n>"),  # hex may happen to be all digits
        (r"\b(?=[a-z]{0,26}\d)[0-9a-hjkmnp-tv-z]{26}\b", "<id>"),
        (r"\d+(?:[.,:]\d+)*", "<n>"),
        (r"\s+", " "),
    )
)


def template(message: str) -> str:
    """Return the message with numbers, hex, ids, quoted strings and addresses replaced by their kind."""
    text = message[:_MOST].casefold()
    for pattern, word in _PARTICULARS:
        text = pattern.sub(word, text)
    return text.strip()


def fingerprint(connector: str | None, operation: str | None, failure: Failure, code: int | None, message: str) -> str:
    """Return `v1:` and 16 hex digits, equal for failures that have the same cause as far as can be told.

    `code` is the vendor's HTTP status.
    """
    parts = (connector or "", operation or "", failure.value, "" if code is None else str(code), template(message))
    return f"{VERSION}:{sha256(VERSION, *parts)[:16]}"

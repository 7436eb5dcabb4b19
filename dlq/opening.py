"""What is sealed in a letter, opened again for those who may: its arguments, the vendor's answer, its raw bytes."""

from typing import Any, Protocol

import msgspec

from dlq.letter import ARGUMENTS, BODY, RAW
from schemas.dead_letter import DeadLetter, Sealed
from schemas.tool_call import Ran


class Unseal(Protocol):
    """Opens one part of one letter."""

    def __call__(self, sealed: Sealed, letter_id: str, field: str, /) -> bytes:
        """Return what was sealed, or raise `UnsealError`. Blocks: it may read a file."""


def arguments(letter: DeadLetter, unseal: Unseal) -> dict[str, Any]:
    """Return the arguments of a letter's call; of what was no call, none."""
    sealed = letter.rendered.arguments
    if sealed is None:
        return {}
    return msgspec.json.decode(unseal(sealed, letter.identity.dl_id, ARGUMENTS), type=dict[str, Any])


def answered(letter: DeadLetter) -> bool:
    """Tell whether a whole answer that says success is kept."""
    upstream = letter.upstream
    if upstream is None or upstream.body is None or upstream.truncated or upstream.http_status is None:
        return False
    return upstream.http_status // 100 == 2


def answer(letter: DeadLetter, unseal: Unseal) -> Ran | None:
    """Return that answer."""
    upstream = letter.upstream
    if not answered(letter) or upstream is None or upstream.body is None or upstream.http_status is None:
        return None
    body = unseal(upstream.body, letter.identity.dl_id, BODY)
    return Ran(status=upstream.http_status, headers=upstream.headers, body=body)


def opened(letter: DeadLetter, unseal: Unseal) -> dict[str, Any]:
    """Return every sealed part in clear, for a person who may see it; what is no text as its length."""
    found: dict[str, Any] = {}
    if letter.rendered.arguments is not None:
        found["arguments"] = arguments(letter, unseal)
    for name, sealed, field in (
        ("raw", letter.raw.bytes, RAW),
        ("body", letter.upstream.body if letter.upstream else None, BODY),
    ):
        if sealed is not None:
            found[name] = _text(unseal(sealed, letter.identity.dl_id, field))
    return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")

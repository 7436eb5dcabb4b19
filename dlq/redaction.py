"""What of a letter may stand in clear, what is sealed, and what is never kept.

One row per field of `dlr/1`: a field without a row fails a test. Text from outside is made safe to show, and the secrets
of the connection are taken out of everything that came back before anything is kept, sealed parts included.
"""

import binascii
import hashlib
import re
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol
from urllib.parse import quote, quote_plus

from dlq.blobs import BlobStore
from dlq.keys import KeyRing, UnsealError
from schemas.dead_letter import Sealed
from schemas.tool_call import TENANT

POLICY = "sluice/1"
"""The name of these rules in `privacy.redaction_policy_id`."""

INLINE_MOST = 16_384
"""Bytes of a part that still travel inside the letter; Redis holds every letter in memory."""

MESSAGE_MOST = 2_048
"""Bytes of a message."""

REMOVED = "[secret]"


class FieldClass(StrEnum):
    """How a field is kept."""

    PLAIN = "P"
    REDACTED = "R"
    ENCRYPTED = "E"
    HASHED = "H"
    NEVER = "N"


_P, _R, _E, _H = FieldClass.PLAIN, FieldClass.REDACTED, FieldClass.ENCRYPTED, FieldClass.HASHED
_ROWS: tuple[tuple[str, FieldClass, str], ...] = (
    ("identity", _P, "schema dl_id tenant_id agent_id session_id event_id event_type call traceparent"),
    ("operation", _P, "tool connector operation connection op_class connector_rev gateway_version"),
    ("idempotency", _P, "key provider_window_until"),
    ("idempotency", _H, "request_fingerprint vendor_key"),
    ("source", _P, "engine stream offset_or_id group published_at delivery_count"),
    ("raw", _E, "bytes"),
    ("raw", _R, "decode_error"),
    ("rendered", _P, "method host path_template"),
    ("rendered", _E, "arguments"),
    ("failure", _P, "class stage retry_verdict action first_at last_at"),
    ("failure", _R, "message errors findings"),
    ("upstream", _P, "http_status size truncated"),
    ("upstream", _R, "headers"),
    ("upstream", _E, "body"),
    ("effect", _P, "state evidence decided_at decided_by"),
    ("attempts", _P, "total"),
    ("attempts", _R, "newest"),
    ("environment", _P, "deadline worker"),
    ("grouping", _H, "fingerprint"),
    ("lifecycle", _P, "status root_id parent_id generation"),
    ("lifecycle", _R, "override"),
    ("privacy", _P, "redaction_policy_id redacted_paths enc_key_id"),
    ("integrity", _H, "record_sha256"),
    ("integrity", _P, "written_by"),
)
CLASSES = MappingProxyType({f"{group}.{name}": kind for group, kind, names in _ROWS for name in names.split()})
"""The class of every field. Class N (Authorization, Cookie, signature and api-key headers) has no field to stand in."""

_HEADERS_IN_CLEAR = re.compile(
    r"date|retry-after(-ms)?|deprecation|sunset|content-type|(x-)?rate-?limit(-[a-z0-9-]*)?|cf-ray"
    r"|([a-z0-9-]*-)?(request|correlation)-?id"
)
_HEADERS_MOST = 32
_HEADER_VALUE_MOST = 256

_SHORTEST_SECRET = 4
"""Characters; taking shorter ones out would take the text apart and hide nothing."""

_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)|\x1b[@-Z\\^_]"
)
_INVISIBLE = frozenset({"Cf", "Co", "Cn"})
_ESCAPED = frozenset({"Cc", "Cs", "Zl", "Zp"})

_NAMES = (
    r"(?:proxy-)?authorization|[\w-]*(?:api[-_]?key|apikey|token|secret|password|passwd|signature|credential)"
    r"|private[-_]?key|sig"
)
_IS = r"[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
_SCHEME = r"(?:bearer|basic|digest|token)\s{1,4}"
_TELLTALES = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?:[^-]|-(?!----END))*", REMOVED),
        (r"\b((?:set-)?cookie[\"']?\s{0,4}[:=]\s{0,4})[^\r\n]+", rf"\1{REMOVED}"),
        (rf"(?<![\w-])((?:{_NAMES}){_IS}(?:{_SCHEME})?)(?!\[secret\])[^\s\"',;&]+", rf"\1{REMOVED}"),
        (r"\b((?:bearer|basic)\s{1,4})(?!auth|cred|token)[\w.~+/=-]{8,}", rf"\1{REMOVED}"),
        (r"(://)[^/\s@:]{0,256}:[^/\s@]{1,256}@", rf"\1{REMOVED}@"),
        (r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*", REMOVED),
        (r"\b(?:[spr]k[-_](?:live|test|proj|ant)[-_]|sk-|gh[opsur]_|github_pat_|glpat-|xox[a-z]-)[\w-]{10,}", REMOVED),
        (r"\bAKIA[0-9A-Z]{16}\b", REMOVED),
    )
)


def scrub(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return the text without the given secrets, in any usual spelling, and without what looks like one."""
    text = _without(text, secrets)
    for pattern, replacement in _TELLTALES:
        text = pattern.sub(replacement, text)
    return text


def _without(text: str, secrets: tuple[str, ...]) -> str:
    for spelling, _ in _spellings(secrets):
        text = text.replace(spelling, REMOVED)
    return text


def scrub_bytes(body: bytes, secrets: tuple[str, ...]) -> bytes:
    """Return the body without the given secrets; what only looks like one stays, the body is sealed."""
    for _, spelling in _spellings(secrets):
        body = body.replace(spelling, REMOVED.encode())
    return body


@lru_cache(maxsize=256)
def _spellings(secrets: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    """Return the usual spellings, the longest first; remembered, because every answer is searched for the secrets of its call."""
    spellings: set[str] = set()
    for secret in secrets:
        if len(secret) < _SHORTEST_SECRET:
            continue
        raw = secret.encode("utf-8", "surrogatepass")
        in_json = secret.replace("\\", "\\\\").replace('"', '\\"')
        spellings |= {secret, in_json, quote(raw, safe=""), quote_plus(raw), b64encode(raw).decode()}
    ordered = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
    return tuple((spelling, spelling.encode("utf-8", "surrogatepass")) for spelling in ordered)


def clean(text: str, most: int = MESSAGE_MOST) -> str:
    """Return at most `most` bytes that show what they are: no terminal codes, no hidden or reordering characters."""
    text = _ANSI.sub("", text[: most * 4])
    text = "".join(map(_shown, text)) if not text.isprintable() else text
    raw = text.encode()
    return text if len(raw) <= most else raw[: most - 3].decode(errors="ignore") + "…"


def _shown(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in _INVISIBLE:
        return ""
    return character.encode("unicode_escape").decode() if kind in _ESCAPED else character


def message(text: str, secrets: tuple[str, ...] = (), most: int = MESSAGE_MOST) -> str:
    """Return a message that may stand in a letter, a log or a terminal."""
    # Known secrets first, because cleaning may change or cut one; and again, because hidden characters may split one.
    return clean(scrub(clean(_without(text, secrets), most * 4), secrets), most)


def headers(received: Mapping[str, str], secrets: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the headers that may stand in clear, lower-cased, bounded in number and length."""
    kept = {name.lower(): value for name, value in received.items() if _HEADERS_IN_CLEAR.fullmatch(name.lower())}
    return {name: message(kept[name], secrets, _HEADER_VALUE_MOST) for name in sorted(kept)[:_HEADERS_MOST]}


class Seal(Protocol):
    """Encrypts one part of one letter."""

    def __call__(self, letter_id: str, field: str, plaintext: bytes, /) -> Sealed:
        """Return the sealed part, or raise `BlobStoreFull`."""


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals parts under the newest key: inline when small, as a blob when large. A part opens only in its own place."""

    keys: KeyRing
    blobs: BlobStore
    tenant: str = TENANT
    inline_most: int = INLINE_MOST
    """Bytes of a part that still stands in the letter itself."""

    def __call__(self, letter_id: str, field: str, plaintext: bytes, /) -> Sealed:
        key_id, sealed = self.keys.seal(plaintext, self._place(letter_id, field))
        small = len(plaintext) <= self.inline_most
        return Sealed(
            key_id=key_id,
            inline=b64encode(sealed).decode() if small else None,
            blob_ref=None if small else self.blobs.write(letter_id, field, sealed),
            size=len(plaintext),
            sha256=hashlib.sha256(plaintext).hexdigest(),
        )

    def unseal(self, sealed: Sealed, letter_id: str, field: str) -> bytes:
        """Return the plaintext, or raise `UnsealError`."""
        plaintext = self.keys.open(sealed.key_id, self._ciphertext(sealed), self._place(letter_id, field))
        if len(plaintext) != sealed.size or hashlib.sha256(plaintext).hexdigest() != sealed.sha256:
            raise UnsealError("What was sealed is not what the letter says: its size or hash was changed.")
        return plaintext

    def _place(self, letter_id: str, field: str) -> bytes:
        if "|" in f"{self.tenant}{letter_id}{field}":
            raise ValueError("`|` separates tenant, letter and field and cannot be part of one")
        return f"{self.tenant}|{letter_id}|{field}".encode()

    def _ciphertext(self, sealed: Sealed) -> bytes:
        if sealed.blob_ref is not None:
            return self.blobs.read(sealed.blob_ref)
        text = sealed.inline or ""
        try:
            blob = b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise UnsealError("The sealed part is not base64.") from None
        # base64 has spare bits in its last character: only one spelling is ours.
        if b64encode(blob).decode() != text:
            raise UnsealError("The sealed part is not base64 as it was written.")
        return blob


def unseal(sealed: Sealed, letter_id: str, field: str, keyring: KeyRing, blobs: BlobStore) -> bytes:
    """Read a sealed part back, or raise `UnsealError`."""
    return Sealer(keyring, blobs).unseal(sealed, letter_id, field)

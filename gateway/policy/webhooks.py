"""What is sent to a webhook, and how it is signed: Standard Webhooks 1.0 (github.com/standard-webhooks/standard-webhooks). Pure.

The headers are `webhook-id` (the same for every try), `webhook-timestamp` (seconds of this try) and `webhook-signature`: `v1,` and
the base64 of HMAC-SHA256 over `id.timestamp.body`, one for each secret, so that a secret can be replaced while both count. The key is
what stands behind `whsec_`, base64, 24 to 64 bytes.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from connectors.declared import Egress
from connectors.egress import allowed
from connectors.exchange import RenderedRequest
from schemas.alert import AlertKind
from schemas.codec import encode

PREFIX: Final = "whsec_"
KEY_BYTES: Final = (24, 64)

GIVE_UP_S: Final = 86_400.0
"""An alert that is older is not sent any more: it would tell of yesterday's fire."""

BACKOFF_S: Final = (1.0, 300.0)
"""First and longest pause between tries."""

_COVERED: Final = frozenset(AlertKind)


class _Event(msgspec.Struct):
    type: str
    id: str
    time: str
    data: dict[str, Any]


_event = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `body` is the same bytes at every try, since the signature covers them."""

    id: str
    type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where messages go, and what signs them. Never shown."""

    url: str
    keys: tuple[bytes, ...]
    private: bool
    """Plain http and private addresses are allowed."""

    def __repr__(self) -> str:
        return f"Target({self.host})"

    @property
    def host(self) -> str:
        """The only part of the address that may be told."""
        try:
            return urlsplit(self.url).hostname or "?"
        except ValueError:
            return "?"

    @property
    def refusal(self) -> str | None:
        """Why the address may not be called, if so."""
        try:
            own = urlsplit(self.url).netloc
        except ValueError:  # whose words quote the address
            return "The address cannot be read."
        return allowed(self.url, Egress(allow_hosts=(own,), allow_private=self.private))


def keys_of(secrets: str) -> tuple[bytes, ...] | str:
    """Read one secret, or several parted by spaces; a text says what is wrong, and holds nothing of them."""
    keys = []
    for secret in secrets.split() or [""]:
        key = _key_of(secret)
        if isinstance(key, str):
            return key
        keys.append(key)
    return tuple(keys)


def _key_of(secret: str) -> bytes | str:
    least, most = KEY_BYTES
    if not secret.startswith(PREFIX):
        return f"must begin with {PREFIX}"
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return f"must be base64 behind {PREFIX}"
    return key if least <= len(key) <= most else f"must hold {least} to {most} bytes behind {PREFIX}, in base64"


def misfit(url: str | None, secret: str | None, *, private: bool) -> str | None:
    """Say what is wrong with the settings of the webhook; None without a webhook."""
    if url is None:
        return None
    keys = keys_of(secret or "")
    if isinstance(keys, str):
        return f"SLUICE_ALERT_WEBHOOK_SECRET {keys}: alerts are not sent unsigned."
    refusal = Target(url=url, keys=keys, private=private).refusal
    if refusal is None:
        return None
    hint = " A webhook in a private network needs SLUICE_ALERT_WEBHOOK_PRIVATE=true." if not private else ""
    return f"SLUICE_ALERT_WEBHOOK: {refusal.replace('`egress.allow_private: true`', 'a private webhook')}{hint}"


def message(event: bytes) -> Message | None:
    """Return what is sent of an entry of the topic; None when nothing is."""
    try:
        told = _event(event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # anybody may write to the topic
        return None
    if _covered(told):
        return None
    return Message(told.id, told.type, encode({"type": told.type, "timestamp": told.time, "data": told.data}))


def _covered(told: _Event) -> bool:
    """Tell whether an alert is opened for this notice as well: then that one is sent."""
    return told.type in _COVERED or (told.type == "contract.finding" and told.data.get("level") == "breaking")


def signature(message: Message, at_s: int, key: bytes) -> str:
    """Sign a message for a try at `at_s`, epoch seconds."""
    signed = b".".join((message.id.encode(), str(at_s).encode(), message.body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def request(message: Message, at_s: int, target: Target) -> RenderedRequest:
    """Render one try."""
    headers = {
        "content-type": "application/json",
        "user-agent": "sluice",
        "webhook-id": message.id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(signature(message, at_s, key) for key in target.keys),
    }
    return RenderedRequest(method="POST", url=target.url, headers=headers, body=message.body)


def pause_s(tries: int, asked_s: float | None) -> float:
    """Return how long to wait after so many tries in vain: longer each time, and as long as the receiver asks, within the bound."""
    first, longest = BACKOFF_S
    return min(longest, max(first * 2.0 ** min(tries - 1, 30), asked_s or 0.0))

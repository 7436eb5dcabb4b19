"""What a token endpoint answered, as a verdict; and what an unclear answer costs under each rotation policy. Pure.

A message here never quotes the vendor: a token endpoint may repeat what it was sent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal

from connectors.auth.freshness import lifetime
from connectors.exchange import Ambiguous, Answered, Exchange, Fault, NotSent
from connectors.retry_after import retry_after_s
from connectors.secret import Secret
from schemas.codec import Undecodable, decode

Rotation = Literal["none", "grace", "strict"]

TRIES_IN_DOUBT: Final[Mapping[str, int]] = MappingProxyType({"none": -1, "grace": 3, "strict": 1})
"""How often the old refresh token is tried after an answer was lost; -1: as often as it takes.

Without rotation the old one simply stays valid. With a grace time a repeat is what the vendor expects. With neither the repeat may
look like theft and end the whole family of tokens, so there is one.
"""

MOST_CHARACTERS: Final = 16_384
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Verdict(StrEnum):
    """What an answer without a token means."""

    REFUSED = "refused"
    """The grant is not valid any more: somebody must consent anew."""
    MISCONFIGURED = "misconfigured"
    """Our client or its declaration is wrong; it says nothing about anybody's consent."""
    BUSY = "busy"
    """Nothing has changed; later."""
    UNCLEAR = "unclear"
    """The vendor may have given a new token that did not reach us."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A usable answer."""

    access: Secret
    refresh: Secret | None
    """None: the one that was used stays valid (RFC 6749 §6)."""
    life_s: float | None
    scopes: tuple[str, ...] | None
    """None: as asked for."""
    type: str = "Bearer"


@dataclass(frozen=True, slots=True)
class Denied:
    """An answer without a token."""

    verdict: Verdict
    message: str
    retry_after_s: float | None = None


_GRANT = "the vendor does not accept the grant any more"
_CLIENT = "the vendor does not accept the client: its id, its secret or key, or the way they are sent (client_auth)"
_ASKED = "the vendor does not accept what the connector asks for (grant or scopes)"
_LATER = "the vendor's token endpoint cannot answer now"
_ERRORS: Final[Mapping[str, tuple[Verdict, str]]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "invalid_grant",
                "bad_refresh_token",  # GitHub
                "invalid_refresh_token",  # Slack
                "token_expired",
                "token_revoked",
                "interaction_required",  # OpenID Connect Core §3.1.2.6
                "consent_required",
                "login_required",
            ),
            (Verdict.REFUSED, _GRANT),
        ),
        **dict.fromkeys(
            ("invalid_client", "unauthorized_client", "incorrect_client_credentials", "invalid_client_id"),
            (Verdict.MISCONFIGURED, _CLIENT),
        ),
        **dict.fromkeys(
            ("invalid_scope", "unsupported_grant_type", "invalid_request", "invalid_target"),
            (Verdict.MISCONFIGURED, _ASKED),
        ),
        **dict.fromkeys(("temporarily_unavailable", "server_error", "slow_down"), (Verdict.BUSY, _LATER)),
    }
)
"""Errors of RFC 6749 §5.2 and their cousins; any other word counts by its status."""

_MOVED = "the token endpoint is not where token_url says (HTTP {status})"


def judge(ending: Exchange, *, now_s: float) -> Granted | Denied:
    """Return what a token endpoint's answer, or its silence, means."""
    match ending:
        case NotSent(fault=Fault.BLOCKED | Fault.URL):
            return Denied(Verdict.MISCONFIGURED, "the token endpoint may not be called: " + ending.message.rstrip("."))
        case NotSent():
            return Denied(Verdict.BUSY, "the token endpoint could not be reached")
        case Ambiguous():
            return Denied(Verdict.UNCLEAR, "the token endpoint did not answer after it was asked")
        case Answered():
            return _answered(ending, now_s)


def _answered(answer: Answered, now_s: float) -> Granted | Denied:
    body = _object(answer)
    error = body.get("error") if body is not None else None
    if isinstance(error, str) and error in _ERRORS:
        verdict, message = _ERRORS[error]
        return Denied(verdict, message, retry_after_s(answer.headers, now_s))
    if 200 <= answer.status <= 299 and not error:
        return _granted(body)
    return _by_status(answer, now_s)


def _by_status(answer: Answered, now_s: float) -> Denied:
    match answer.status:
        case 401:
            return Denied(Verdict.MISCONFIGURED, _CLIENT)
        case 404 | 405 | 410 | 501:
            return Denied(Verdict.MISCONFIGURED, _MOVED.format(status=answer.status))
        case status if 300 <= status <= 399:
            return Denied(Verdict.MISCONFIGURED, _MOVED.format(status=status))
        case status:
            told = retry_after_s(answer.headers, now_s)
            return Denied(Verdict.BUSY, f"the token endpoint answered HTTP {status} without a token", told)


def _granted(body: Mapping[str, Any] | None) -> Granted | Denied:
    access = body.get("access_token") if body is not None else None
    if body is None or not _usable(access):
        return Denied(Verdict.UNCLEAR, "the token endpoint said yes, but what it sent holds no usable token")
    kind = body.get("token_type")
    if isinstance(kind, str) and kind.lower() not in {"bearer", ""}:
        return Denied(Verdict.MISCONFIGURED, "the vendor issues tokens of another type than Bearer")
    refresh = body.get("refresh_token")
    return Granted(
        access=Secret(str(access)),
        refresh=Secret(str(refresh)) if _usable(refresh) else None,
        life_s=lifetime(body.get("expires_in")),
        scopes=_scopes(body.get("scope")),
    )


def lost(asked: tuple[str, ...], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the scopes that were asked for and not given."""
    return () if given is None else tuple(scope for scope in asked if scope not in given)


def lacks_scope(headers: Mapping[str, str]) -> bool:
    """Tell whether a 401 or 403 complains of a missing right instead of the token (RFC 6750 §3.1): a new token would not help."""
    return "insufficient_scope" in headers.get("www-authenticate", "").lower()


def _usable(token: object) -> bool:
    return isinstance(token, str) and len(token) <= MOST_CHARACTERS and _TOKEN.fullmatch(token) is not None


def _scopes(told: object) -> tuple[str, ...] | None:
    if isinstance(told, list):
        return tuple(scope for scope in told if isinstance(scope, str))
    return tuple(told.replace(",", " ").split()) if isinstance(told, str) and told.strip() else None


def _object(answer: Answered) -> Mapping[str, Any] | None:
    if answer.truncated is not None:
        return None
    try:
        body = decode(answer.body, max_bytes=len(answer.body))
    except Undecodable:
        return None
    return body if isinstance(body, dict) else None

"""How a credential stands, and how long its token may be used. Pure: times are epoch seconds, dice are handed in."""

import math
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

EARLY_SHARE: Final = 0.25
"""Of its life that a token is renewed early ..."""
EARLY_MOST_S: Final = 900.0
"""... and at most so long before its end; what market leaders do."""
JITTER: Final = 0.2
"""By which processes differ, so that they do not all renew at once."""
LATE_SHARE: Final = 0.05
LATE_MOST_S: Final = 15.0
"""A token is not used in the last moments of its life: it would end on the way."""
LONGEST_S: Final = 400 * 86_400.0
"""A longer life is taken for one without an end."""
IDLE_S: Final = 86_400.0
"""A refresh token that nobody uses ends at many vendors; it is used once a day."""
BACKOFF_S: Final = 1.0
BACKOFF_MOST_S: Final = 600.0


class TokenState(StrEnum):
    """How one connection's credential stands."""

    ACTIVE = "active"
    REFRESHING = "refreshing"
    IN_DOUBT = "in_doubt"
    """The vendor was asked and nobody knows what it answered: the refresh token may have been replaced."""
    BACKOFF = "backoff"
    NEEDS_CONSENT = "needs_consent"
    REVOKED = "revoked"
    CONFIG_ERROR = "config_error"


_S = TokenState
SHUT: Final = frozenset({_S.NEEDS_CONSENT, _S.REVOKED, _S.CONFIG_ERROR})
"""Only a person ends these; calls wait at a closed gate."""

MOVES: Final = MappingProxyType(
    {
        # From active to needs_consent: Redis has forgotten the grant.
        _S.ACTIVE: frozenset({_S.ACTIVE, _S.REFRESHING, _S.BACKOFF, _S.NEEDS_CONSENT, _S.REVOKED}),
        _S.REFRESHING: frozenset({_S.ACTIVE, _S.IN_DOUBT, _S.BACKOFF, _S.NEEDS_CONSENT, _S.CONFIG_ERROR, _S.REVOKED}),
        _S.IN_DOUBT: frozenset({_S.ACTIVE, _S.REFRESHING, _S.NEEDS_CONSENT, _S.REVOKED}),
        _S.BACKOFF: frozenset({_S.ACTIVE, _S.REFRESHING, _S.REVOKED}),
        _S.NEEDS_CONSENT: frozenset({_S.ACTIVE, _S.REFRESHING, _S.REVOKED}),
        _S.REVOKED: frozenset({_S.ACTIVE, _S.REFRESHING, _S.REVOKED}),
        _S.CONFIG_ERROR: frozenset({_S.ACTIVE, _S.REFRESHING, _S.REVOKED}),
    }
)
"""Which state may follow which; a test holds what the scripts write against it."""


@dataclass(frozen=True, slots=True)
class Window:
    """Until when a token is as good as new, and until when it may be used at all."""

    soft_s: float
    hard_s: float


def window(now_s: float, life_s: float | None, left_s: float | None, dice: float) -> Window:
    """Return the window of a token that lives `life_s` in all and `left_s` from now; `dice` lies in -1..1, one throw a process.

    A token whose life nobody told is used until the vendor refuses it.
    """
    if life_s is None or left_s is None:
        return Window(math.inf, math.inf)
    early_s = min(EARLY_MOST_S, EARLY_SHARE * life_s) * (1 + JITTER * dice)
    late_s = min(LATE_MOST_S, LATE_SHARE * life_s)
    return Window(now_s + left_s - max(early_s, late_s), now_s + left_s - late_s)


def lifetime(told: object) -> float | None:
    """Read `expires_in` (RFC 6749 §5.1) in seconds; None for what tells nothing: missing, zero, negative, no number.

    Vendors write it as text as well, and a zero for a token without an end.
    """
    if isinstance(told, bool) or not isinstance(told, int | float | str):
        return None
    try:
        seconds = float(told)
    except (ValueError, OverflowError):  # a number of four hundred digits is none either
        return None
    return seconds if 0 < seconds <= LONGEST_S else None


def backoff_s(failures: int, retry_after_s: float | None, dice: float) -> float:
    """Return how long to leave the token endpoint alone after so many failures in a row; `dice` lies in 0..1."""
    waits = min(BACKOFF_MOST_S, BACKOFF_S * 2.0 ** min(failures, 20)) * (0.5 + 0.5 * dice)
    return max(waits, min(retry_after_s or 0.0, 86_400.0))

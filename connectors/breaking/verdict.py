"""What an outcome says about the health of a vendor's origin: one table over every failure. Pure.

The question is whether the host works, not whether the call did: an answer that refuses a request comes from a host that is
alive, and what one credential may not do says nothing about the others.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from schemas.failure import FACTS, Failure
from schemas.outcome import Outcome


class Verdict(StrEnum):
    """Evidence of one call."""

    OK = "ok"
    FAILED = "failed"
    NEUTRAL = "neutral"
    """No evidence either way: nothing was asked of the host, or the answer was about somebody's credential or pace."""


_ALIVE = frozenset(
    {
        Failure.RECEIVE_OVERSIZE,
        Failure.HTTP_REDIRECT,
        Failure.HTTP_BAD_REQUEST,
        Failure.HTTP_NOT_FOUND,
        Failure.HTTP_CONFLICT,
        Failure.HTTP_UNPROCESSABLE,
        Failure.HTTP_TOO_EARLY,
        Failure.HTTP_REFUSED,
        Failure.HTTP_OTHER_CLIENT,
        Failure.HTTP_NOT_IMPLEMENTED,
        Failure.SCHEMA_BREAKING,
        Failure.SCHEMA_UNDECODABLE,
    }
)


def _verdict(failure: Failure) -> Verdict:
    if FACTS[failure].trips_breaker:
        return Verdict.FAILED
    return Verdict.OK if failure in _ALIVE else Verdict.NEUTRAL


VERDICTS: Mapping[Failure, Verdict] = MappingProxyType({failure: _verdict(failure) for failure in Failure})
"""Every failure; 429 is the limiter's, 401 and 403 the credential's, a changed contract the contract guard's."""


def verdict_of(outcome: Outcome) -> Verdict:
    """Return what an outcome says about its origin."""
    return Verdict.OK if outcome.failure is None else VERDICTS[outcome.failure]


def asked_s(outcome: Outcome) -> float:
    """Return for how long a host that failed asks to be left alone (RFC 9110, 10.2.3); 0 when it does not."""
    return outcome.retry_after_s or 0.0 if verdict_of(outcome) is Verdict.FAILED else 0.0

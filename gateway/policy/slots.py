"""What became of a request, as far as a vendor's own count of arrivals goes. Pure.

When in doubt it counts: a slot that is held too long costs throughput, one that is given back too early breaks a promise.
"""

from gateway.ports import Slots
from schemas.failure import Failure
from schemas.outcome import Outcome

UNSENT = frozenset(
    {
        Failure.RENDER_INVALID,
        Failure.EGRESS_BLOCKED,
        Failure.EGRESS_DNS,
        Failure.TOKEN_CONFIG,
        Failure.TOKEN_NEEDS_CONSENT,
        Failure.TOKEN_IN_DOUBT,
        Failure.BREAKER_OPEN,
        Failure.PERSIST_MARK,
        Failure.DEADLINE_PASSED,
        Failure.CANCELLED,
        Failure.INGEST_UNKNOWN_TOOL,
        Failure.INGEST_UNKNOWN_CONNECTION,
    }
)
"""Failures before anything was dialled."""

MAY_ARRIVE = frozenset(
    {
        Failure.SEND_RESET,
        Failure.RECEIVE_TIMEOUT,
        Failure.RECEIVE_RESET,
        Failure.RECEIVE_GARBAGE,
        Failure.CONNECT_TIMEOUT,
    }
)
"""Failures after which the request may still be under way."""


def fate(outcome: Outcome) -> Slots:
    """Return what becomes of the slots of an attempt that ended like this."""
    if outcome.status is not None or outcome.failure is None:
        return "answered"
    if outcome.failure is Failure.SEND_WORKER_LOST:
        return "lost"
    if outcome.failure in UNSENT:
        return "unused"
    return "doubt" if outcome.failure in MAY_ARRIVE else "answered"

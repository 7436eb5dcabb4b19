"""The states of a call and the moves between them: one enum, one table, one function that changes a state."""

from enum import StrEnum
from types import MappingProxyType


class CallState(StrEnum):
    """Where a call is; meanings in docs/glossary.md."""

    PENDING = "pending"
    WAITING_FOR_REVIEW = "waiting_for_review"
    PROCESSING = "processing"
    RETRYING = "retrying"
    COMPLETED = "completed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ESCALATED = "escalated"
    ROLLED_BACK = "rolled_back"


class HoldReason(StrEnum):
    """Why a call waits."""

    RATE_LIMIT = "rate_limit"
    CONCURRENCY = "concurrency"
    BREAKER_OPEN = "breaker_open"
    NEEDS_CONSENT = "needs_consent"
    CONTRACT_QUARANTINE = "contract_quarantine"
    PAUSED = "paused"
    BACKOFF = "backoff"
    REVIEW = "review"


_S = CallState
TERMINAL = frozenset({_S.COMPLETED, _S.REJECTED, _S.EXPIRED, _S.CANCELLED, _S.FAILED, _S.ESCALATED, _S.ROLLED_BACK})
DEAD_LETTERED = frozenset({_S.FAILED, _S.ESCALATED})
"""The terminal states that leave a letter."""

TRANSITIONS = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.WAITING_FOR_REVIEW, _S.PROCESSING, _S.REJECTED, _S.EXPIRED, _S.CANCELLED}),
        _S.WAITING_FOR_REVIEW: frozenset({_S.PENDING, _S.REJECTED, _S.ESCALATED, _S.EXPIRED, _S.CANCELLED}),
        _S.PROCESSING: frozenset(
            {_S.PENDING, _S.RETRYING, _S.COMPLETED, _S.REJECTED, _S.EXPIRED, _S.CANCELLED, _S.FAILED, _S.ESCALATED}
        ),
        _S.RETRYING: frozenset({_S.PROCESSING, _S.EXPIRED, _S.CANCELLED, _S.FAILED, _S.ESCALATED}),
        _S.COMPLETED: frozenset({_S.ROLLED_BACK}),
        _S.REJECTED: frozenset[CallState](),
        _S.EXPIRED: frozenset[CallState](),
        _S.CANCELLED: frozenset[CallState](),
        _S.FAILED: frozenset[CallState](),
        _S.ESCALATED: frozenset[CallState](),
        _S.ROLLED_BACK: frozenset[CallState](),
    }
)


def move(before: CallState, after: CallState) -> CallState:
    """Return `after`, or raise `ValueError` when the table does not know the arrow: the gateway itself is broken then."""
    if after not in TRANSITIONS[before]:
        message = f"a call cannot go from {before} to {after}"
        raise ValueError(message)
    return after

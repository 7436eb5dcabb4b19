"""What to do with an outcome: complete, try again at a time, bury it, or leave it to a person. Pure.

The rule that matters most: an unknown effect of an operation that the vendor cannot deduplicate is never repeated here.
"""

from dataclasses import dataclass

from schemas.effect import REPEATABLE, Effect, OperationClass, join
from schemas.failure import FACTS, Failure
from schemas.lifecycle import CallState
from schemas.outcome import Outcome

REVIEWED = frozenset({Failure.APPROVAL_DENIED, Failure.APPROVAL_EXPIRED, Failure.APPROVAL_STALE})
"""A person, or the time for one, decided against it; nothing ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The facts of one attempt's end, gathered by the shell."""

    outcome: Outcome
    op_class: OperationClass
    attempts: int
    """Attempts spent, this one included when it spends."""
    max_attempts: int
    effect_before: Effect
    crashes: int
    max_crashes: int
    window_open: bool
    """Whether the vendor still honours the key (always true where there is no window)."""
    deadline_us: int
    retry_at_us: int
    """When the next attempt would start: back-off, `Retry-After` and retry budget taken together."""

    @property
    def effect(self) -> Effect:
        """The call's effect over all attempts so far; a safe operation never has one."""
        if self.op_class is OperationClass.SAFE:
            return Effect.NOT_EXECUTED
        return join((self.effect_before, self.outcome.effect))


@dataclass(frozen=True, slots=True)
class End:
    """The call is over."""

    state: CallState
    effect: Effect
    verdict: str
    """Why it is not tried again, in the words of the letter's `retry_verdict`."""
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The call goes back to its lane and is due at this time."""

    due_us: int
    effect: Effect


Disposition = End | RetryAt


def dispose(case: Case) -> Disposition:
    """Decide once, from facts alone."""
    failure = case.outcome.failure
    if failure is None:
        return End(CallState.COMPLETED, case.effect, "done", None)
    if failure in (Failure.DEADLINE_PASSED, Failure.CANCELLED):
        return _stopped(case, failure)
    if failure in REVIEWED and case.effect is Effect.NOT_EXECUTED:
        return End(CallState.REJECTED, case.effect, "non_retryable", failure)
    hopeless = _hopeless(case, failure)
    if hopeless is not None:
        return _bury(case, Failure.POISON_CRASH_LOOP if hopeless == "crash_loop" else failure, hopeless)
    if case.retry_at_us > case.deadline_us:
        return _out_of_time(case, failure)
    return RetryAt(case.retry_at_us, case.effect)


def _hopeless(case: Case, failure: Failure) -> str | None:
    """Say why it may not be tried again, if it may not; the first reason in this order counts."""
    reasons = {
        "crash_loop": case.crashes >= case.max_crashes,
        "in_doubt": not _may_repeat(case),
        "non_retryable": case.outcome.effect is Effect.EXECUTED or not FACTS[failure].retryable,
        "max_attempts": case.outcome.spends_attempt and case.attempts >= case.max_attempts,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _may_repeat(case: Case) -> bool:
    if case.effect is not Effect.UNKNOWN:
        return True
    return case.op_class in REPEATABLE and case.window_open


def _bury(case: Case, failure: Failure, verdict: str) -> End:
    """Dead-letter it; a person must decide first where a repeat could be a second effect."""
    state = CallState.FAILED if _may_repeat(case) else CallState.ESCALATED
    return End(state, case.effect, verdict, failure)


def _stopped(case: Case, failure: Failure) -> End:
    """Expired or cancelled, which both need proof that nothing ran."""
    if case.effect is not Effect.NOT_EXECUTED:
        return _bury(case, failure, "cancelled" if failure is Failure.CANCELLED else "timeout")
    state = CallState.CANCELLED if failure is Failure.CANCELLED else CallState.EXPIRED
    return End(state, case.effect, "cancelled" if failure is Failure.CANCELLED else "timeout", failure)


def _out_of_time(case: Case, failure: Failure) -> End:
    """No further attempt can start before the deadline; the last failure says more than the clock does."""
    if case.effect is Effect.NOT_EXECUTED:
        return End(CallState.EXPIRED, case.effect, "timeout", Failure.DEADLINE_PASSED)
    return _bury(case, failure, "timeout")

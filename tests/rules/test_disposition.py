"""What to do with an outcome, as laws over every case there is."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.disposition import Case, Disposition, End, RetryAt, dispose
from schemas.effect import REPEATABLE, Effect, OperationClass, join
from schemas.failure import FACTS, Failure
from schemas.lifecycle import DEAD_LETTERED, TERMINAL, CallState, move
from schemas.outcome import Outcome

law = settings(max_examples=60, deadline=None)
WAITING = 1_000
UNREPEATABLE = sorted(set(OperationClass) - REPEATABLE)

failures = st.builds(
    Outcome,
    failure=st.sampled_from(Failure),
    effect=st.sampled_from(Effect),
    spends_attempt=st.booleans(),
)
outcomes = failures | st.just(Outcome(effect=Effect.EXECUTED))


def cases(
    outcome: st.SearchStrategy[Outcome] = outcomes,
    op_class: st.SearchStrategy[OperationClass] = st.sampled_from(OperationClass),  # noqa: B008 - a strategy is a value
) -> st.SearchStrategy[Case]:
    """Return every case that a call can come to; none comes back with `executed`, for what ran is over."""
    return st.builds(
        Case,
        outcome=outcome,
        op_class=op_class,
        attempts=st.integers(0, 6),
        max_attempts=st.integers(1, 5),
        effect_before=st.sampled_from([Effect.NOT_EXECUTED, Effect.UNKNOWN]),
        crashes=st.integers(0, 6),
        max_crashes=st.integers(1, 5),
        window_open=st.booleans(),
        deadline_us=st.integers(0, 2 * WAITING),
        retry_at_us=st.integers(0, 2 * WAITING),
    )


def case(outcome: Outcome, **changes: Any) -> Case:
    """Return a first attempt with room for more."""
    usual: dict[str, Any] = {
        "op_class": OperationClass.IDEMPOTENT,
        "attempts": 1,
        "max_attempts": 5,
        "effect_before": Effect.NOT_EXECUTED,
        "crashes": 0,
        "max_crashes": 5,
        "window_open": True,
        "deadline_us": 10,
        "retry_at_us": 5,
    }
    return Case(outcome=outcome, **{**usual, **changes})


def failing(failure: Failure, **changes: Any) -> Outcome:
    return msgspec.structs.replace(Outcome(effect=FACTS[failure].effect, failure=failure), **changes)


def ended(found: Disposition) -> tuple[CallState, Effect, str, Failure | None]:
    assert isinstance(found, End)
    return found.state, found.effect, found.verdict, found.failure


@law
@given(cases(op_class=st.sampled_from(UNREPEATABLE)))
def test_an_unknown_effect_that_the_vendor_cannot_deduplicate_is_never_tried_again(found: Case) -> None:
    decision = dispose(found)
    if found.effect is Effect.UNKNOWN:
        assert isinstance(decision, End)
        assert decision.state in {CallState.ESCALATED, CallState.COMPLETED}


@law
@given(cases(op_class=st.just(OperationClass.KEYED)))
def test_an_unknown_effect_of_a_key_that_the_vendor_forgot_is_never_tried_again(found: Case) -> None:
    decision = dispose(found)
    if found.effect is Effect.UNKNOWN and not found.window_open:
        assert isinstance(decision, End)
        assert decision.state in {CallState.ESCALATED, CallState.COMPLETED}


@law
@given(cases())
def test_no_retry_is_scheduled_past_the_deadline(found: Case) -> None:
    decision = dispose(found)
    if isinstance(decision, RetryAt):
        assert decision.due_us == found.retry_at_us <= found.deadline_us


@law
@given(cases())
def test_expired_and_cancelled_are_promises_that_nothing_ran(found: Case) -> None:
    decision = dispose(found)
    if isinstance(decision, End) and decision.state in {CallState.EXPIRED, CallState.CANCELLED}:
        assert decision.effect is Effect.NOT_EXECUTED


@law
@given(cases(st.builds(Outcome, failure=st.sampled_from(Failure), effect=st.just(Effect.EXECUTED))))
def test_what_ran_is_over(found: Case) -> None:
    assert isinstance(dispose(found), End)


@law
@given(cases())
def test_no_evidence_of_an_earlier_attempt_is_forgotten(found: Case) -> None:
    safe = found.op_class is OperationClass.SAFE
    known = Effect.NOT_EXECUTED if safe else join((found.effect_before, found.outcome.effect))
    assert dispose(found).effect is known


@law
@given(cases())
def test_an_end_is_a_lawful_state_with_a_reason_and_a_failure_unless_it_is_success(found: Case) -> None:
    decision = dispose(found)
    if isinstance(decision, End):
        assert move(CallState.PROCESSING, decision.state) in TERMINAL
        assert (decision.failure is None) == (decision.state is CallState.COMPLETED)
        assert (found.outcome.failure is None) == (decision.state is CallState.COMPLETED)
        assert decision.verdict


@law
@given(cases())
def test_a_person_must_decide_exactly_where_a_repeat_could_be_a_second_effect(found: Case) -> None:
    decision = dispose(found)
    repeatable = found.op_class in REPEATABLE and found.window_open
    if isinstance(decision, End) and decision.state in DEAD_LETTERED:
        in_doubt = decision.effect is Effect.UNKNOWN and not repeatable
        assert (decision.state is CallState.ESCALATED) == in_doubt


@law
@given(cases(failures))
def test_a_hopeless_failure_is_not_tried_again(found: Case) -> None:
    failure = found.outcome.failure
    assert failure is not None
    if not FACTS[failure].retryable or found.crashes >= found.max_crashes:
        assert isinstance(dispose(found), End)


@law
@given(cases(st.just(failing(Failure.HTTP_TOO_MANY, spends_attempt=False))))
def test_being_told_to_wait_never_ends_a_call_that_has_time(found: Case) -> None:
    if found.crashes < found.max_crashes and found.effect is Effect.NOT_EXECUTED:
        assert isinstance(dispose(found), RetryAt) == (found.retry_at_us <= found.deadline_us)


_NOT, _RAN, _DOUBT = Effect.NOT_EXECUTED, Effect.EXECUTED, Effect.UNKNOWN
_REFUSED, _RESET = failing(Failure.CONNECT_REFUSED), failing(Failure.RECEIVE_RESET)
_LATE = failing(Failure.DEADLINE_PASSED, spends_attempt=False)
_GONE = failing(Failure.CANCELLED, spends_attempt=False)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (case(Outcome(effect=_RAN)), (CallState.COMPLETED, _RAN, "done", None)),
        (
            case(failing(Failure.CONNECT_REFUSED, effect=_RAN)),
            (CallState.FAILED, _RAN, "non_retryable", Failure.CONNECT_REFUSED),
        ),
        (case(_REFUSED, attempts=5), (CallState.FAILED, _NOT, "max_attempts", Failure.CONNECT_REFUSED)),
        (case(_RESET, attempts=5), (CallState.FAILED, _DOUBT, "max_attempts", Failure.RECEIVE_RESET)),
        (
            case(_RESET, op_class=OperationClass.UNSAFE),
            (CallState.ESCALATED, _DOUBT, "in_doubt", Failure.RECEIVE_RESET),
        ),
        (
            case(_RESET, op_class=OperationClass.KEYED, window_open=False),
            (CallState.ESCALATED, _DOUBT, "in_doubt", Failure.RECEIVE_RESET),
        ),
        (
            case(failing(Failure.SCHEMA_UNDECODABLE), op_class=OperationClass.UNSAFE),
            (CallState.FAILED, _RAN, "non_retryable", Failure.SCHEMA_UNDECODABLE),
        ),
        (
            case(_REFUSED, op_class=OperationClass.UNSAFE, crashes=5),
            (CallState.FAILED, _NOT, "crash_loop", Failure.POISON_CRASH_LOOP),
        ),
        (
            case(_RESET, op_class=OperationClass.UNSAFE, crashes=5),
            (CallState.ESCALATED, _DOUBT, "crash_loop", Failure.POISON_CRASH_LOOP),
        ),
        (case(_LATE), (CallState.EXPIRED, _NOT, "timeout", Failure.DEADLINE_PASSED)),
        (case(_LATE, effect_before=_DOUBT), (CallState.FAILED, _DOUBT, "timeout", Failure.DEADLINE_PASSED)),
        (case(_GONE), (CallState.CANCELLED, _NOT, "cancelled", Failure.CANCELLED)),
        (
            case(_GONE, effect_before=_DOUBT, window_open=False),
            (CallState.ESCALATED, _DOUBT, "cancelled", Failure.CANCELLED),
        ),
        (case(_REFUSED, retry_at_us=11), (CallState.EXPIRED, _NOT, "timeout", Failure.DEADLINE_PASSED)),
        (case(_RESET, retry_at_us=11), (CallState.FAILED, _DOUBT, "timeout", Failure.RECEIVE_RESET)),
        (
            case(_RESET, op_class=OperationClass.SAFE, attempts=5),
            (CallState.FAILED, _NOT, "max_attempts", Failure.RECEIVE_RESET),
        ),
    ],
)
def test_an_end_says_how_and_why(found: Case, expected: tuple[CallState, Effect, str, Failure | None]) -> None:
    assert ended(dispose(found)) == expected


def test_a_call_that_may_be_repeated_is_due_when_its_wait_is_over() -> None:
    assert dispose(case(_REFUSED, op_class=OperationClass.UNSAFE)) == RetryAt(5, _NOT)
    assert dispose(case(_RESET)) == RetryAt(5, _DOUBT)
    assert dispose(case(_RESET, op_class=OperationClass.SAFE)) == RetryAt(5, _NOT)
    assert dispose(case(_REFUSED, retry_at_us=10)) == RetryAt(10, _NOT)

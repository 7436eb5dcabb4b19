"""What a letter concludes, and what it tells a person to do next."""

import pytest

from dlq.evidence import BY_STAGE, Evidence, action, evidence, stage
from schemas.effect import Effect, OperationClass
from schemas.failure import FACTS, Failure
from schemas.lifecycle import CallState
from schemas.outcome import Outcome
from tests.letter_examples import ID


def test_every_stage_has_its_evidence() -> None:
    assert set(BY_STAGE) == {stage(failure) for failure in Failure}


@pytest.mark.parametrize(
    ("op_class", "effect", "outcome", "expected"),
    [
        ("safe", "not_executed", Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.RECEIVE_RESET), "read_only"),
        ("unsafe", "unknown", Outcome(effect=Effect.UNKNOWN, failure=Failure.SEND_RESET), "cut_while_sending"),
        ("unsafe", "unknown", Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_TOO_MANY), "earlier_attempt"),
        (
            "keyed",
            "unknown",
            Outcome(effect=Effect.UNKNOWN, failure=Failure.SEND_WORKER_LOST),
            "worker_lost_after_intent",
        ),
        (
            "unsafe",
            "not_executed",
            Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.SEND_WORKER_LOST),
            "nothing_sent",
        ),
        (
            "unsafe",
            "not_executed",
            Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.EGRESS_DNS),
            "failed_before_sending",
        ),
        (
            "unsafe",
            "not_executed",
            Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_NOT_FOUND),
            "refused_by_vendor",
        ),
        ("unsafe", "unknown", Outcome(effect=Effect.UNKNOWN, failure=Failure.HTTP_BAD_GATEWAY), "ambiguous_status"),
        (
            "unsafe",
            "executed",
            Outcome(effect=Effect.EXECUTED, failure=Failure.RECEIVE_TRUNCATED, status=200),
            "answered_2xx",
        ),
        (
            "unsafe",
            "not_executed",
            Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_UNAVAILABLE, status=503),
            "declared_by_connector",
        ),
        ("unsafe", "unknown", Outcome(effect=Effect.UNKNOWN, failure=Failure.INTERNAL_BUG), "none"),
    ],
)
def test_the_evidence_names_what_was_seen(op_class: str, effect: str, outcome: Outcome, expected: str) -> None:
    seen = evidence(OperationClass(op_class), Effect(effect), outcome, Failure.INTERNAL_BUG)
    assert seen is Evidence(expected)


@pytest.mark.parametrize(
    ("failure", "state", "effect", "expected"),
    [
        (Failure.RECEIVE_RESET, CallState.ESCALATED, Effect.UNKNOWN, "sluice dlq resolve"),
        (Failure.HTTP_TOO_MANY, CallState.ESCALATED, Effect.UNKNOWN, "sluice dlq resolve"),
        (Failure.RECEIVE_RESET, CallState.FAILED, Effect.UNKNOWN, "repeated safely"),
        (Failure.RECEIVE_TIMEOUT, CallState.FAILED, Effect.NOT_EXECUTED, "repeated safely"),
        (Failure.RECEIVE_TRUNCATED, CallState.FAILED, Effect.EXECUTED, "It ran at the vendor"),
        (Failure.SCHEMA_BREAKING, CallState.FAILED, Effect.EXECUTED, "sluice dlq show"),
        (Failure.CONNECT_REFUSED, CallState.FAILED, Effect.NOT_EXECUTED, "When the vendor is well again"),
        (Failure.POISON_CRASH_LOOP, CallState.FAILED, Effect.NOT_EXECUTED, "find out why"),
    ],
)
def test_the_next_step_fits_the_call_as_a_whole(
    failure: Failure, state: CallState, effect: Effect, expected: str
) -> None:
    assert expected in action(failure, state, effect, ID, "crm.x")


def test_no_next_step_asks_for_what_the_letter_cannot_fill() -> None:
    for failure, facts in FACTS.items():
        assert "{" not in action(failure, CallState.FAILED, facts.effect, ID, "crm.x")

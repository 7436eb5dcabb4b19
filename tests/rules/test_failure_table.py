"""The failure table: closed, complete, and in agreement with the evidence table of the design."""

import re

import msgspec
import pytest

from dlq.evidence import BY_STAGE, stage
from schemas.effect import Effect
from schemas.failure import FACTS, Blame, Failure

BEFORE_SENDING = {"decode", "ingest", "approval", "admission", "deadline", "cancelled", "token", "render", "egress"} | {
    "connect",
    "breaker",
}
"""Stages that end before the first byte leaves."""

REFUSED_BY_VENDOR = {"400", "401", "403", "404", "422", "425", "429", "refused"}
"""Answers that prove the vendor did nothing."""

NEVER_LETTERS = {"ingest", "admission", "approval", "deadline", "cancelled"}
"""Stages whose failures end a call without a letter, as a rule."""


def test_every_failure_has_facts_and_nothing_else_has() -> None:
    assert set(FACTS) == set(Failure)


def test_a_failure_is_named_by_its_stage_and_its_class() -> None:
    assert all(re.fullmatch(r"[a-z]+\.[a-z0-9_]+", failure) for failure in Failure)
    assert {stage(failure) for failure in Failure} == set(BY_STAGE)


def test_a_failure_that_nobody_knows_does_not_decode() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("http.418", Failure)


def test_what_ends_before_the_first_byte_is_proof_that_nothing_ran() -> None:
    assert {f for f in Failure if stage(f) in BEFORE_SENDING and FACTS[f].effect is not Effect.NOT_EXECUTED} == set()


def test_what_happens_after_the_first_byte_is_in_doubt() -> None:
    assert {f for f in Failure if stage(f) in {"send", "receive"} and FACTS[f].effect is not Effect.UNKNOWN} == set()


def test_an_answer_decides_as_the_evidence_table_says() -> None:
    proven = {f.removeprefix("http.") for f in Failure if stage(f) == "http" and FACTS[f].effect is Effect.NOT_EXECUTED}
    assert proven == REFUSED_BY_VENDOR
    assert all(FACTS[f].effect is not Effect.EXECUTED for f in Failure if stage(f) == "http")


def test_a_complete_answer_that_cannot_be_read_still_ran() -> None:
    assert {f for f in Failure if FACTS[f].effect is Effect.EXECUTED} == {f for f in Failure if stage(f) == "schema"}


def test_what_nobody_foresaw_is_unknown_and_not_tried_again() -> None:
    for failure in (Failure.HTTP_UNRECOGNISED, Failure.INTERNAL_BUG, Failure.POISON_CRASH_LOOP):
        assert (FACTS[failure].effect, FACTS[failure].retryable) == (Effect.UNKNOWN, False)


def test_what_ran_is_never_tried_again() -> None:
    assert not any(facts.retryable for facts in FACTS.values() if facts.effect is Effect.EXECUTED)


def test_the_agents_own_mistakes_are_neither_tried_again_nor_held_against_the_vendor() -> None:
    own = [facts for facts in FACTS.values() if facts.blame is Blame.AGENT]
    assert own
    assert not any(facts.retryable or facts.trips_breaker for facts in own)


def test_only_the_vendors_faults_trip_the_breaker_and_asking_us_to_wait_is_none() -> None:
    assert {facts.blame for facts in FACTS.values() if facts.trips_breaker} == {Blame.VENDOR}
    assert not FACTS[Failure.HTTP_TOO_MANY].trips_breaker
    assert not FACTS[Failure.BREAKER_OPEN].trips_breaker


def test_every_failure_says_what_to_do_next() -> None:
    for failure, facts in FACTS.items():
        assert set(re.findall(r"\{.*?\}", facts.action)) <= {"{letter}", "{tool}"}, failure
        assert facts.action[0].isupper(), failure
        assert len(facts.action) > 20, failure


def test_what_leaves_no_letter_names_none() -> None:
    assert not [f for f in Failure if stage(f) in NEVER_LETTERS and "{letter}" in FACTS[f].action]

"""The one sentence of a result: plain, complete, and right about numbers."""

import pytest

from gateway.policy.summary import Story, summarise
from schemas.effect import Effect
from schemas.lifecycle import DEAD_LETTERED, TERMINAL, CallState
from schemas.outcome import Attempt


def attempt(message: str = "", outcome: str = "http.429") -> Attempt:
    return Attempt(
        n=1,
        started="2026-11-20T09:00:00Z",
        duration_ms=1,
        worker="w1",
        fence=1,
        status=429,
        outcome=outcome,
        effect=Effect.NOT_EXECUTED,
        message=message,
    )


def completed(tries: int, earlier: list[Attempt] | None = None) -> str:
    return summarise(Story(CallState.COMPLETED, tries, Effect.EXECUTED), earlier or [], None)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_every_end_has_a_sentence(state: CallState) -> None:
    text = summarise(Story(state, 1, Effect.UNKNOWN), [], "the vendor closed the connection")
    assert text[0].isupper()
    assert text.endswith("The vendor closed the connection.")
    assert ".." not in text
    assert "{" not in text


@pytest.mark.parametrize("state", sorted(DEAD_LETTERED))
def test_whoever_reads_of_a_letter_reads_whether_it_ran(state: CallState) -> None:
    told = {effect: summarise(Story(state, 2, effect), [], None) for effect in Effect}
    assert len(set(told.values())) == len(Effect)
    assert all("2 attempts" in text for text in told.values())


def test_a_call_that_was_never_tried_says_so() -> None:
    assert "no attempts" in summarise(Story(CallState.FAILED, 0, Effect.NOT_EXECUTED), [], None)
    assert "1 attempt;" in summarise(Story(CallState.FAILED, 1, Effect.NOT_EXECUTED), [], None)


def test_success_at_last_tells_what_came_before() -> None:
    text = completed(2, [attempt("The vendor asked to wait 2 s.")])
    assert text == "Done on the second attempt; before that: The vendor asked to wait 2 s."
    assert completed(2, [attempt()]) == "Done on the second attempt; before that: http.429."


@pytest.mark.parametrize(
    ("tries", "ordinal"),
    [(1, "first"), (5, "fifth"), (6, "6th"), (11, "11th"), (12, "12th"), (13, "13th"), (20, "20th"), (111, "111th")],
)
def test_attempts_are_counted_in_words_that_exist(tries: int, ordinal: str) -> None:
    assert completed(tries) == f"Done on the {ordinal} attempt."


@pytest.mark.parametrize(("tries", "ordinal"), [(21, "21st"), (22, "22nd"), (23, "23rd"), (101, "101st")])
def test_high_numbers_are_counted_in_words_that_exist_too(tries: int, ordinal: str) -> None:
    assert completed(tries) == f"Done on the {ordinal} attempt."

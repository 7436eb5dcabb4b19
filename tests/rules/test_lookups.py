"""What an answer about a call proves, and when enough was asked: every way an absence could be mistaken is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.declared import Readback
from connectors.readback import Absent, Found, Question, Seen, Unclear, judge, question
from gateway.policy.lookups import ABSENCES, MOST_FAILED, Again, DidNotRun, Ran, Undecided, conclude, first_us
from gateway.ports import Doubt
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.outcome import Outcome
from tests.examples import operation, tool_call

BACK = Readback(
    tool="crm.orders.list",
    arguments={"ref": "{ref}", "all": True},
    path="/items",
    where={"/ref": "{ref}"},
    settle_s=16.0,
    absent_on=(404,),
)
ASKED = Question(arguments={"ref": "5"}, where={"/ref": "5"})
DOUBT = Doubt(since_us=1_000_000, lane="crm|-|orders.create", timeout_us=1, deadline_us=1)
SETTLE_US = 16_000_000


def answer(result: Any, **changes: Any) -> Outcome:
    return Outcome(effect=Effect.NOT_EXECUTED, status=200, result=result, **changes)


def refused(failure: Failure, status: int) -> Outcome:
    return Outcome(effect=Effect.NOT_EXECUTED, failure=failure, status=status, message="no")


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (answer({"items": [{"ref": "5", "id": 1}]}), Found({"ref": "5", "id": 1})),
        (answer({"items": [{"ref": 5}]}), Found({"ref": 5})),
        (answer({"items": [{"ref": "6"}, {"ref": "5"}], "next": "x"}), Found({"ref": "5"})),
        (answer({"items": []}), Absent()),
        (answer({"items": [], "has_more": False, "meta": {"next": None}}), Absent()),
        (refused(Failure.HTTP_NOT_FOUND, 404), Absent()),
    ],
)
def test_what_is_there_is_found_and_what_is_not_is_absent(outcome: Outcome, seen: Seen) -> None:
    assert judge(outcome, ASKED, BACK) == seen


@pytest.mark.parametrize(
    ("outcome", "passing"),
    [
        (answer({"items": [{"ref": "5"}, {"ref": "5"}]}), False),
        (answer({"items": [{"ref": "6"}]}), False),
        (answer({"items": [{"reference": "5"}]}), False),
        (answer({"items": ["5"]}), False),
        (answer({"items": None}), False),
        (answer({"items": {"ref": "6"}}), False),
        (answer({"orders": []}), False),
        (answer([]), False),
        (answer(None), False),
        (answer("items"), False),
        (answer({"items": [], "NextToken": "x", "nextPageToken": "x"}), False),
        (answer({"items": [], "LastEvaluatedKey": {"id": 1}}), False),
        (answer({"items": [], "paging": {"next": "/v1/orders?page=2"}}), False),
        (refused(Failure.HTTP_FORBIDDEN, 403), False),
        (refused(Failure.SCHEMA_BREAKING, 200), False),
        (refused(Failure.HTTP_UNAVAILABLE, 503), True),
        (refused(Failure.RECEIVE_TIMEOUT, 0), True),
    ],
)
def test_nothing_else_is_taken_for_an_absence(outcome: Outcome, passing: bool) -> None:  # noqa: FBT001
    seen = judge(outcome, ASKED, BACK)
    assert isinstance(seen, Unclear)
    assert seen.passing is passing


def test_a_call_is_asked_for_by_its_own_arguments() -> None:
    asked = question(tool_call(arguments={"ref": 5}), operation(), BACK)
    assert asked == Question(arguments={"ref": 5, "all": True}, where={"/ref": "5"})


@pytest.mark.parametrize("arguments", [{}, {"ref": None}, {"ref": ""}])
def test_what_has_no_name_of_its_own_is_not_asked_for(arguments: dict[str, Any]) -> None:
    assert isinstance(question(tool_call(arguments=arguments), operation(), BACK), Unclear)


def test_the_key_is_asked_for_only_where_the_vendor_was_told_it() -> None:
    back = Readback(tool="t", arguments={}, path="", where={"/key": "{idempotency_key}"}, settle_s=1)
    told = operation(idempotency_header="Idempotency-Key")
    asked = question(tool_call(vendor_key="v" * 32), told, back)
    assert isinstance(asked, Question)
    assert asked.where == {"/key": "v" * 32}
    given_too = question(tool_call(key="k-1", arguments={"reference": "k-1"}), operation(), back)
    assert isinstance(given_too, Question)
    assert given_too.where == {"/key": "k-1"}
    assert isinstance(question(tool_call(key="k-1", arguments={"reference": "other"}), operation(), back), Unclear)


def test_the_first_look_comes_early_and_what_is_found_ends_it_at_once() -> None:
    assert first_us(16.0) == 250_000
    assert conclude(Found({"id": 1}), DOUBT, 16.0, DOUBT.since_us) == Ran({"id": 1})


@given(
    seen=st.lists(st.sampled_from([Absent(), Unclear("busy", passing=True)]), min_size=1, max_size=2 * MOST_FAILED),
    late=st.lists(st.integers(0, 40_000_000), min_size=2 * MOST_FAILED, max_size=2 * MOST_FAILED),
)
def test_an_absence_is_believed_only_twice_in_a_row_and_after_the_effect_would_show(
    seen: list[Seen], late: list[int]
) -> None:
    doubt, now_us = DOUBT, DOUBT.since_us
    for number, one in enumerate(seen):
        now_us += late[number]
        verdict = conclude(one, doubt, 16.0, now_us)
        if isinstance(verdict, DidNotRun):
            assert now_us - DOUBT.since_us >= SETTLE_US
            assert seen[number - ABSENCES + 1 : number + 1] == [Absent()] * ABSENCES
            return
        if isinstance(verdict, Undecided):
            assert isinstance(one, Unclear)
            assert sum(isinstance(other, Unclear) for other in seen[: number + 1]) == MOST_FAILED
            return
        assert isinstance(verdict, Again)
        assert verdict.wait_us > 0
        doubt, now_us = verdict.doubt, now_us + verdict.wait_us


def test_a_vendor_that_never_shows_it_is_asked_four_times_within_the_time_it_needs() -> None:
    doubt, now_us, looks = DOUBT, DOUBT.since_us + first_us(16.0), []
    while True:
        looks.append((now_us - DOUBT.since_us) / 1_000_000)
        verdict = conclude(Absent(), doubt, 16.0, now_us)
        if isinstance(verdict, DidNotRun):
            break
        assert isinstance(verdict, Again)
        doubt, now_us = verdict.doubt, now_us + verdict.wait_us
    assert looks == [0.25, 1.0, 4.0, 16.0]


def test_a_question_that_will_not_be_answered_is_not_asked_again() -> None:
    assert conclude(Unclear("two", passing=False), DOUBT, 16.0, 0) == Undecided("two")

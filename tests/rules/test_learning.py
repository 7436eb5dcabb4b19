"""What an answer teaches about shared limits: it closes the right ones for long enough, and never loosens one."""

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.declared import Limit, Use
from gateway.policy.learning import LONGEST_S, lessons, match
from gateway.ports import Lesson
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.outcome import Outcome, RateReading
from tests.examples import tool_call

Per = Literal["connector", "connection", "operation"]
CALL = tool_call(connection="crm-main")
US = 1_000_000


def low(least: float, _: float) -> float:
    return least


def high(_: float, most: float) -> float:
    return most


def rate(name: str, most: int = 10, window_s: float = 1, per: Per = "connection") -> Use:
    limit = Limit(name=name, per=per, kind="strict", most=most, window_us=int(window_s * US), text=f"{most}/{window_s}")
    return Use(limit=limit)


SECOND, MINUTE, APP = rate("second"), rate("minute", 100, 60), rate("app", 1000, 3600, per="connector")
SEARCH = rate("search", 5, 1, per="operation")
AT_ONCE = Use(limit=Limit(name="at_once", per="connection", kind="concurrency", most=4, window_us=0, text="4 at once"))
KEYS = {
    use.limit.name: use.limit.instance("crm", "crm-main", "contacts.create")
    for use in (SECOND, MINUTE, APP, SEARCH, AT_ONCE)
}


def slow_down(wait: float | None = None, *rates: RateReading) -> Outcome:
    return Outcome(
        effect=Effect.NOT_EXECUTED,
        failure=Failure.HTTP_TOO_MANY,
        status=429,
        retry_after_s=wait,
        limited=True,
        rates=rates,
    )


def fine(*rates: RateReading) -> Outcome:
    return Outcome(effect=Effect.EXECUTED, status=200, rates=rates)


def closed(outcome: Outcome, *uses: Use) -> dict[str, int]:
    found = lessons(CALL, uses, outcome, low)
    assert len({one.limit for one in found}) == len(found)
    return {one.limit: one.close_us for one in found if one.close_us is not None}


@pytest.mark.parametrize(
    ("uses", "names"),
    [
        ((SECOND,), ["second"]),
        ((SECOND, MINUTE, AT_ONCE), ["second", "minute"]),
        ((SECOND, APP), ["second"]),
        ((SECOND, SEARCH), ["second"]),
        ((SEARCH, APP), ["search", "app"]),
        ((APP,), ["app"]),
        ((APP, AT_ONCE), ["app"]),
    ],
)
def test_a_slow_down_closes_what_the_call_shares_with_few(uses: tuple[Use, ...], names: list[str]) -> None:
    assert closed(slow_down(30), *uses) == {KEYS[name]: 30 * US for name in names}


def test_a_slow_down_closes_what_all_share_when_the_vendor_says_it_is_used_up() -> None:
    spent = RateReading(limit_name="app", left=0)
    assert set(closed(slow_down(30, spent), SECOND, APP)) == {KEYS["second"], KEYS["app"]}
    assert set(closed(slow_down(30, msgspec.structs.replace(spent, left=3)), SECOND, APP)) == {KEYS["second"]}


@pytest.mark.parametrize("uses", [(), (AT_ONCE,)])
def test_without_a_rate_the_connection_waits(uses: tuple[Use, ...]) -> None:
    assert closed(slow_down(30), *uses) == {"@crm|crm-main": 30 * US}
    alone = msgspec.structs.replace(CALL, connection=None)
    assert [one.limit for one in lessons(alone, uses, slow_down(30), low)] == ["@crm|-"]


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [(None, 1.0, 1.35), (0.0, 1e-6, 0.25), (30.0, 30.0, 33.25), (7200.0, 7200.0, 7920.25), (1e9, 86400.0, 95040.0)],
)
def test_it_stays_closed_for_as_long_as_told_and_a_little_longer(wait: float | None, least: float, most: float) -> None:
    (shortest,), (longest,) = (lessons(CALL, [SECOND], slow_down(wait), dice) for dice in (low, high))
    assert (shortest.close_us, longest.close_us) == (round(least * US), round(most * US))


@pytest.mark.parametrize(
    ("reading", "name"),
    [
        (RateReading(limit_name="minute", left=1), "minute"),
        (RateReading(limit_name="gone", left=1, most=10), None),
        (RateReading(window_s=60, left=1), "minute"),
        (RateReading(window_s=60, most=10, left=1), "minute"),
        (RateReading(window_s=3600, most=10, left=1), None),
        (RateReading(most=100, left=1), "minute"),
        (RateReading(most=77, left=1), None),
        (RateReading(left=1), None),
    ],
)
def test_a_reading_speaks_of_one_limit_or_of_none(reading: RateReading, name: str | None) -> None:
    found = match(reading, [SECOND, MINUTE])
    assert (found and found.limit.name) == name


def test_the_only_limit_is_the_one_that_is_meant_unless_the_window_says_otherwise() -> None:
    assert match(RateReading(most=77, left=1), [SECOND]) is SECOND
    assert match(RateReading(reset_s=5, left=1), [SECOND]) is SECOND
    assert match(RateReading(window_s=86400, left=1), [SECOND]) is None
    assert match(RateReading(left=0), [SECOND]) is None
    # Two limits of one window: the size tells them apart.
    tokens = rate("tokens", 5000, 60)
    assert match(RateReading(window_s=60, most=5000), [MINUTE, tokens]) is tokens
    assert match(RateReading(window_s=60, most=6000), [MINUTE, tokens]) is None


@pytest.mark.parametrize(
    ("reading", "lesson"),
    [
        (
            RateReading(window_s=60, most=100, left=40, reset_s=12),
            Lesson(limit=KEYS["minute"], left=40, reset_us=12 * US),
        ),
        (
            RateReading(window_s=60, most=80, left=40, reset_s=1),
            Lesson(limit=KEYS["minute"], left=40, most=80, reset_us=US),
        ),
        (RateReading(window_s=60, left=0), Lesson(limit=KEYS["minute"], left=0, reset_us=60 * US)),
        (RateReading(limit_name="minute", most=20, window_s=1), None),
        (RateReading(window_s=60, most=500, left=400, reset_s=12), None),
        (RateReading(window_s=60, reset_s=12), None),
    ],
)
def test_a_reading_only_tightens(reading: RateReading, lesson: Lesson | None) -> None:
    assert lessons(CALL, [SECOND, MINUTE], fine(reading), low) == ([] if lesson is None else [lesson])


def test_what_is_left_without_a_time_is_not_believed_for_a_day() -> None:
    (lesson,) = lessons(CALL, [rate("day", 1000, 86400)], fine(RateReading(most=1000, left=0)), low)
    assert (lesson.left, lesson.reset_us, lesson.close_us) == (0, 60 * US, None)


@pytest.mark.parametrize(
    ("reading", "most"),
    [
        (RateReading(most=10, left=9), None),
        (RateReading(most=10, reset_s=1), None),
        (RateReading(most=10, window_s=3600), 10),
        (RateReading(most=10, window_s=1), None),
        (RateReading(most=10, limit_name="hour"), 10),
        (RateReading(most=10, limit_name="hour", window_s=1), None),
    ],
)
def test_a_size_without_its_window_tightens_no_limit_that_it_does_not_name(
    reading: RateReading, most: int | None
) -> None:
    found = lessons(CALL, [rate("hour", 1000, 3600)], fine(reading), low)
    assert [one.most for one in found if one.most is not None] == ([] if most is None else [most])


@pytest.mark.parametrize(
    ("left", "reset_s", "close_us"), [(0, 61.0, 61 * US), (0, 60.0, None), (1, 3600.0, None), (0, None, None)]
)
def test_a_budget_that_is_used_up_until_after_its_window_closes_until_then(
    left: int, reset_s: float | None, close_us: int | None
) -> None:
    (lesson,) = lessons(CALL, [MINUTE], fine(RateReading(window_s=60, left=left, reset_s=reset_s)), low)
    assert (lesson.left, lesson.close_us) == (left, close_us)


def test_a_strange_budget_that_is_used_up_closes_and_one_that_is_not_does_nothing() -> None:
    spent = RateReading(bucket="daily", window_s=86400, left=0, reset_s=5)
    assert closed(fine(spent), SECOND, APP) == {KEYS["second"]: 5 * US}
    assert closed(fine(msgspec.structs.replace(spent, reset_s=None)), SECOND) == {KEYS["second"]: US}
    assert lessons(CALL, [SECOND], fine(msgspec.structs.replace(spent, left=1)), low) == []
    assert lessons(CALL, [SECOND], fine(), low) == []


def test_two_readings_of_one_limit_make_one_lesson_of_the_stricter() -> None:
    one, two = RateReading(most=100, left=9, reset_s=1), RateReading(window_s=60, most=90, left=5, reset_s=7)
    expected = Lesson(limit=KEYS["minute"], left=5, most=90, reset_us=7 * US)
    assert lessons(CALL, [SECOND, MINUTE], fine(one, two), low) == [expected]
    assert lessons(CALL, [SECOND, MINUTE], fine(two, one), low) == [expected]


def test_a_slow_down_and_its_reading_are_one_lesson() -> None:
    found = lessons(CALL, [MINUTE], slow_down(9, RateReading(window_s=60, most=100, left=0, reset_s=9)), low)
    assert found == [Lesson(limit=KEYS["minute"], left=0, reset_us=9 * US, close_us=9 * US)]


_reading = st.builds(
    RateReading,
    limit_name=st.sampled_from([None, "second", "minute", "app", "gone"]),
    most=st.none() | st.integers(1, 10**15),
    left=st.none() | st.integers(0, 10**15),
    reset_s=st.none() | st.floats(0, LONGEST_S),
    window_s=st.none() | st.sampled_from([1.0, 60.0, 3600.0, 5.0]),
)


@given(
    st.lists(_reading, max_size=5),
    st.lists(st.sampled_from([SECOND, MINUTE, APP, AT_ONCE]), unique_by=lambda use: use.limit.name),
    st.none() | st.floats(0, LONGEST_S),
    st.booleans(),
    st.sampled_from([low, high]),
)
def test_no_answer_loosens_anything(
    rates: list[RateReading],
    uses: list[Use],
    wait: float | None,
    limited: bool,  # noqa: FBT001 - drawn
    dice: Any,
) -> None:
    declared = {KEYS[use.limit.name]: use.limit.most for use in uses}
    found = lessons(CALL, uses, slow_down(wait, *rates) if limited else fine(*rates), dice)
    assert len({one.limit for one in found}) == len(found)
    assert any(one.close_us for one in found) or not limited
    for one in found:
        assert one.limit in declared or one.limit == "@crm|crm-main"
        assert one.close_us is None or 0 < one.close_us <= LONGEST_S * 1.1 * US
        assert one.most is None or 1 <= one.most < declared[one.limit]
        assert one.left is None or 0 <= one.left < declared[one.limit]
        assert (one.left is None) == (one.reset_us is None)

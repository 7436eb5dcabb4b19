"""One moment, three ways to write it: none of them loses a microsecond."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.moment import EPOCH, microseconds, moment, stamp

EAST = timezone(timedelta(hours=5, minutes=30))
zones = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))
whens = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 30), timezones=zones)  # noqa: DTZ001 - zone is drawn


@pytest.mark.parametrize(
    ("at", "us", "text"),
    [
        (EPOCH, 0, "1970-01-01T00:00:00.000000Z"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1, "1969-12-31T23:59:59.999999Z"),
        (datetime(2026, 11, 20, 9, tzinfo=UTC), 1_795_165_200_000_000, "2026-11-20T09:00:00.000000Z"),
        (datetime(2026, 11, 20, 14, 30, 0, 7, tzinfo=EAST), 1_795_165_200_000_007, "2026-11-20T09:00:00.000007Z"),
    ],
)
def test_a_moment_its_microseconds_and_its_text(at: datetime, us: int, text: str) -> None:
    assert (microseconds(at), moment(us), stamp(at)) == (us, at, text)


@given(whens)
def test_there_and_back_again_is_the_same_moment(when: datetime) -> None:
    assert moment(microseconds(when)) == when
    assert msgspec.convert(stamp(when), datetime) == when


@given(whens, whens)
def test_texts_sort_as_their_moments_do(one: datetime, other: datetime) -> None:
    assert (stamp(one) < stamp(other)) == (one < other)


@pytest.mark.parametrize("us", [10**18, -(10**18), 10**40])
def test_what_no_calendar_holds_is_an_overflow(us: int) -> None:
    with pytest.raises(OverflowError):
        moment(us)

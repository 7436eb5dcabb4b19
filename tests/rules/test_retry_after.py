"""How long a vendor asks us to wait, in every form seen in the wild."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.rates.units import LONGEST_S
from connectors.retry_after import retry_after_s

NOW = 1_795_000_000.0


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 08:49:07 GMT"}, 30.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:49:37 GMT", "date": "Sun Nov  6 08:49:27 1994"}, 10.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 09:00:00 GMT"}, 0.0),
        ({"retry-after": "999999999"}, LONGEST_S),
        ({"retry-after": "9" * 5000}, LONGEST_S),
        ({"retry-after": "Sun, 06 Nov 2094 08:49:37 GMT"}, LONGEST_S),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "soon: very"}, None),
        ({"retry-after": "30, 60"}, None),
    ],
)
def test_every_form_is_read_or_ignored(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after_s(headers, NOW) == wait


def test_a_date_without_a_date_header_is_held_against_our_clock() -> None:
    assert retry_after_s({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 784111777.0 - 12) == 12.0


_value = st.text(max_size=80) | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ \S+", fullmatch=True)


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), _value), st.floats(0, 1e11))
def test_no_header_makes_it_raise_or_leave_its_bounds(headers: dict[str, str], now: float) -> None:
    wait = retry_after_s(headers, now)
    assert wait is None or 0 <= wait <= LONGEST_S

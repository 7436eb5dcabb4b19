"""Waits between attempts: full jitter under a cap, never negative, never less than the vendor asked for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.backoff import Backoff, Uniform

law = settings(max_examples=50, deadline=None)
seconds = st.floats(0, 86_400)
attempts = st.integers(-1, 10**9)
curves = st.builds(Backoff, base_s=st.floats(0.001, 1000), cap_s=st.floats(0.001, 1000))
shares = st.floats(0, 1)


def drawing(share: float) -> Uniform:
    """Return dice that always fall at this share of the way from the lower to the upper bound."""
    return lambda low, high: low + share * (high - low)


@law
@given(curves, attempts, shares)
def test_a_wait_lies_between_nothing_and_the_cap(curve: Backoff, attempt: int, share: float) -> None:
    assert 0 <= curve.wait_s(attempt, None, drawing(share)) <= curve.cap_s


@law
@given(curves, attempts, seconds, shares)
def test_a_vendor_that_asks_to_wait_is_heard_and_little_more_is_waited(
    curve: Backoff, attempt: int, asked_s: float, share: float
) -> None:
    wait_s = curve.wait_s(attempt, asked_s, drawing(share))
    assert asked_s <= wait_s <= max(curve.cap_s, asked_s * 1.1)


@law
@given(curves, attempts, shares)
def test_being_asked_to_come_at_once_is_no_way_around_the_back_off(curve: Backoff, attempt: int, share: float) -> None:
    assert curve.wait_s(attempt, 0.0, drawing(share)) == curve.wait_s(attempt, None, drawing(share))


@law
@given(curves, attempts, shares)
def test_a_later_attempt_never_waits_less_on_the_same_dice(curve: Backoff, attempt: int, share: float) -> None:
    dice = drawing(share)
    assert curve.wait_s(attempt, None, dice) <= curve.wait_s(attempt + 1, None, dice)


def test_the_ceiling_doubles_until_the_cap() -> None:
    curve = Backoff(base_s=0.5, cap_s=900)
    ceilings = [curve.wait_s(attempt, None, drawing(1)) for attempt in (1, 2, 3, 4, 11, 12, 13)]
    assert ceilings == [0.5, 1, 2, 4, 512, 900, 900]


def test_the_jitter_is_full() -> None:
    assert Backoff(base_s=0.5, cap_s=900).wait_s(5, None, drawing(0)) == 0

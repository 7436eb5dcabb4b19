"""The retry budget: it delays, it never refuses; it fills at its floor and holds no more than its most."""

from math import isfinite

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.budget import BudgetTerms, RetryBudget

law = settings(max_examples=40, deadline=None)
terms = st.builds(
    BudgetTerms, share=st.floats(0, 2), floor_per_s=st.floats(0.1, 50), most=st.floats(1, 200), longest_s=st.just(1e9)
)
TERMS = BudgetTerms(share=0.2, floor_per_s=3, most=100, longest_s=30)
CLOSE = 1e-6


@law
@given(terms, st.lists(st.floats(-10, 10) | st.none(), max_size=40))
def test_a_retry_is_delayed_but_never_refused_and_little_is_saved_up(
    bound: BudgetTerms, steps: list[float | None]
) -> None:
    budget, now_s = RetryBudget(bound.floor_per_s, 0.0), 0.0
    for step in steps:
        if step is None:
            budget = budget.earn(bound)
            continue
        now_s += step  # may go back: a clock does
        budget, wait_s = budget.spend(now_s, bound)
        assert isfinite(wait_s)
        assert wait_s >= 0
        assert budget.tokens <= bound.most


@law
@given(terms, st.integers(1, 60))
def test_what_was_drawn_in_advance_is_paid_back_at_the_floor(bound: BudgetTerms, retries: int) -> None:
    budget, wait_s = RetryBudget(0.0, 0.0), 0.0
    for count in range(1, retries + 1):
        budget, wait_s = budget.spend(0.0, bound)
        assert abs(wait_s - count / bound.floor_per_s) < CLOSE
    paid = RetryBudget(budget.tokens, budget.at_s).spend(wait_s + 1 / bound.floor_per_s, bound)
    assert paid[1] < CLOSE


@law
@given(terms, st.integers(1, 40))
def test_the_floor_is_always_allowed(bound: BudgetTerms, retries: int) -> None:
    budget = RetryBudget(0.0, 0.0)
    for count in range(1, retries + 1):
        budget, wait_s = budget.spend(count / bound.floor_per_s, bound)
        assert wait_s < CLOSE


@law
@given(terms, st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_in_any_span_no_more_retries_start_than_the_bucket_held_and_the_floor_gave(
    bound: BudgetTerms, pauses: list[float]
) -> None:
    held = min(bound.most, 5.0)
    budget, now_s, starts = RetryBudget(held, 0.0), 0.0, []
    for pause in pauses:
        now_s += pause
        budget, wait_s = budget.spend(now_s, bound)
        starts.append(now_s + wait_s)
    for end in starts:
        assert sum(start <= end for start in starts) <= held + end * bound.floor_per_s + CLOSE


def test_a_clock_that_goes_back_and_forth_gives_nothing_twice() -> None:
    budget, waits = RetryBudget(0.0, 0.0), []
    for now_s in (1.0, 0.0, 1.0, 0.0, 1.0):
        budget, wait_s = budget.spend(now_s, TERMS)
        waits.append(round(wait_s, 6))
    assert waits == [0, 0, 0, round(1 / 3, 6), round(2 / 3, 6)]


def test_first_attempts_pay_their_share_in() -> None:
    budget = RetryBudget(0.0, 0.0)
    for _ in range(10):
        budget = budget.earn(TERMS)
    waits = []
    for _ in range(3):
        budget, wait_s = budget.spend(0.0, TERMS)
        waits.append(round(wait_s, 6))
    assert waits == [0, 0, round(1 / 3, 6)]


def test_a_long_outage_is_not_paid_off_for_longer_than_the_longest_delay() -> None:
    budget, wait_s = RetryBudget(0.0, 0.0), 0.0
    for _ in range(10_000):
        budget, wait_s = budget.spend(0.0, TERMS)
    assert wait_s == TERMS.longest_s

"""The law of soft limits, whatever is given back: never more calls in a window than the limit allows."""

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.lanes import pacing
from gateway.lanes.pacing import State, Terms

Step = tuple[int, int, int, int, int]
"""Wait so long, claim up to so many calls of this cost; then settle this one of those under way, at this share in percent of its cost."""

steps = st.lists(
    st.tuples(
        st.integers(0, 4_000),
        st.integers(1, 3),
        st.integers(1, 3),
        st.integers(0, 9),
        st.sampled_from([0, 0, 50, 100, 150]),
    ),
    max_size=60,
)


@given(most=st.integers(1, 12), window_us=st.integers(100, 5_000), steps=steps)
@example(
    most=4, window_us=3_000, steps=[(0, 1, 1, 9, 0), (2_999, 3, 1, 0, 0), *[(0, 1, 1, 9, 0), (1_000, 1, 1, 9, 0)] * 3]
)
def test_what_is_given_back_never_lets_more_start_in_a_window_than_the_limit_allows(
    most: int, window_us: int, steps: list[Step]
) -> None:
    terms, state, now_us = Terms("soft", most, window_us), State(), 0
    cost_of: dict[str, int] = {}
    started: dict[str, int] = {}
    under_way: list[str] = []
    for number, (wait_us, room, wanted, which, share) in enumerate(steps):
        now_us += wait_us
        cost = min(wanted, terms.burst)
        for copy in range(min(room, pacing.fits(terms, state, cost, now_us))):
            permit = f"{number}.{copy}"
            state = pacing.take(terms, state, permit, cost, now_us, lease_us=now_us + 1)
            started[permit], cost_of[permit] = now_us, cost
            under_way.append(permit)
        if which < len(under_way):
            permit = under_way.pop(which)
            actual = min(cost_of[permit], cost_of[permit] * share // 100)
            state = pacing.settle(
                terms,
                state,
                permit,
                "unused" if share == 0 else "answered",
                now_us,
                cost=cost_of[permit],
                actual=actual,
            )
            cost_of[permit] = actual if share else 0
    for at in started.values():
        seen = sum(cost_of[permit] for permit, other in started.items() if at <= other < at + window_us)
        assert seen <= most, f"{seen} of {most} within {window_us} from {at}"


def test_what_was_given_back_before_makes_what_is_left_of_the_others_end_earlier() -> None:
    terms, state = Terms("soft", 4, 3_000), State()
    for permit in ("a", "b"):
        state = pacing.take(terms, state, permit, 1, 0, lease_us=1)
    state = pacing.settle(terms, state, "a", "unused", 500, cost=1, actual=1)
    assert state.tat_us == 1_500
    state = pacing.take(terms, state, "c", 1, 1_600, lease_us=1)
    assert pacing.settle(terms, state, "b", "unused", 1_600, cost=1, actual=1).tat_us == state.tat_us

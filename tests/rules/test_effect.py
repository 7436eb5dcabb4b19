"""Effects join like a semilattice: no order of news and no way of grouping it changes what is known."""

from itertools import pairwise, product

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.effect import REPEATABLE, Effect, OperationClass, join, needs_mark

law = settings(max_examples=50, deadline=None)
effects = st.lists(st.sampled_from(Effect), max_size=8)


def test_joining_is_associative_commutative_and_idempotent() -> None:
    for a, b, c in product(Effect, repeat=3):
        assert join((join((a, b)), c)) is join((a, join((b, c))))
        assert join((a, b)) is join((b, a))
        assert join((a, a)) is a


def test_nothing_known_is_the_neutral_beginning_and_proof_of_execution_the_last_word() -> None:
    assert join(()) is Effect.NOT_EXECUTED
    for effect in Effect:
        assert join((Effect.NOT_EXECUTED, effect)) is effect
        assert join((Effect.EXECUTED, effect)) is Effect.EXECUTED


@law
@given(effects, st.data())
def test_neither_order_nor_grouping_nor_repetition_of_attempts_matters(news: list[Effect], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(news))
    cut = data.draw(st.integers(0, len(news)))
    assert join(shuffled + news) is join((join(news[:cut]), join(news[cut:])))


@law
@given(effects)
def test_more_attempts_never_make_less_certain_that_something_ran(news: list[Effect]) -> None:
    order = [Effect.NOT_EXECUTED, Effect.UNKNOWN, Effect.EXECUTED]
    known = [order.index(join(news[:count])) for count in range(len(news) + 1)]
    assert all(before <= after for before, after in pairwise(known))


def test_what_may_not_be_repeated_blindly_needs_a_mark() -> None:
    assert {one for one in OperationClass if needs_mark(one)} == set(OperationClass) - REPEATABLE
    assert {OperationClass.UNSAFE, OperationClass.VERIFIABLE} == set(OperationClass) - REPEATABLE

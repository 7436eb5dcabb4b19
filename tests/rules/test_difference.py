"""What a patch changes is told place by place, and without a value unless it is opened."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlq.difference import MOST, Difference, differences, shapes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, [("/a", "replaced")]),
        ({"a": 1}, {"b": 1}, [("/a", "removed"), ("/b", "added")]),
        ({"a": {"b/c": [1, 2]}}, {"a": {"b/c": [1, 3, 4]}}, [("/a/b~1c/1", "replaced"), ("/a/b~1c/2", "added")]),
        ({"a": [1]}, {"a": {"0": 1}}, [("/a", "replaced")]),
        ({}, {str(number): 0 for number in range(MOST + 5)}, [(f"/{number}", "added") for number in range(MOST)]),
    ],
)
def test_each_place_that_differs_is_told(before: Any, after: Any, told: list[tuple[str, str]]) -> None:
    assert [(one.pointer, one.change) for one in differences(before, after)] == told


@given(before=JSON, after=JSON)
def test_nothing_is_told_of_what_is_the_same_and_something_of_what_is_not(before: Any, after: Any) -> None:
    assert differences(before, before) == []
    assert (differences({"a": before}, {"a": after}) == []) == (repr(before) == repr(after) or _same(before, after))


def _same(before: Any, after: Any) -> bool:
    """Compare as JSON does: the order of names says nothing, and true is not 1."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_same(before[name], after[name]) for name in before)
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_same, before, after))
    return type(before) is type(after) and bool(before == after)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("hunter2 and more", "text of 16 characters"),
        (7, "a number"),
        (True, "a boolean"),
        (None, "null"),
        ([1], "a list of 1"),
        ({}, "an object of 0"),
    ],
)
def test_without_being_opened_it_tells_no_value(value: Any, shape: str) -> None:
    assert shapes(Difference("/a", "replaced", value, value)) == Difference("/a", "replaced", shape, shape)
    assert shapes(Difference("/a", "added", None, value)).before is None

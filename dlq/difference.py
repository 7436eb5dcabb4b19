"""What a patch changes, place by place. Pure: two JSON values in, their differences out.

Arguments are sealed in a letter; so a difference is shown by the kind and size of its values, unless somebody may open them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from dlq import redaction

MOST = 100
"""Places that are told of; more is another payload."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place."""

    pointer: str
    change: Literal["added", "removed", "replaced"]
    before: Any
    after: Any


def differences(before: Any, after: Any) -> list[Difference]:
    """Return where two values differ, in the order of the first; lists are compared place by place."""
    return list(islice(_differences(before, after, ""), MOST))


def shapes(one: Difference) -> Difference:
    """Return a difference without its values: what kind they are of, and how large."""
    before = None if one.change == "added" else shape(one.before)
    after = None if one.change == "removed" else shape(one.after)
    return Difference(redaction.message(one.pointer), one.change, before, after)


def shape(value: Any) -> str:
    """Say of what kind a value is, and how large."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return f"text of {len(value)} characters"
        case list():
            return f"a list of {len(value)}"
        case _:
            return f"an object of {len(value)}"


def _differences(before: Any, after: Any, pointer: str) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(before, after, pointer)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_objects(_indexed(before), _indexed(after), pointer)
    elif before != after or type(before) is not type(after):  # in JSON, true is not 1
        yield Difference(pointer, "replaced", before, after)


def _indexed(values: list[Any]) -> dict[str, Any]:
    return {str(at): one for at, one in enumerate(values)}


def _of_objects(before: dict[str, Any], after: dict[str, Any], pointer: str) -> Iterator[Difference]:
    for name in [*before, *(name for name in after if name not in before)]:
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in after:
            yield Difference(place, "removed", before[name], None)
        elif name not in before:
            yield Difference(place, "added", None, after[name])
        else:
            yield from _differences(before[name], after[name], place)

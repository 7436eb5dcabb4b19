"""What came against what is promised: a walk over schema and answer side by side that names every difference.

It explains; whether an answer breaks its contract is the validator's verdict, and what this walk has no word for is told by the rule
that was broken. Bounded: it ends after `MOST` differences or `LOOKS` places.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.contracts.finding import RULES, Change, Kind, Level
from schemas.contracts.formats import written
from schemas.contracts.shape import Schema, Shape, Shapes, fits, kind_of, step, undeclared

MOST = 20
"""Differences of one answer that are told."""

LOOKS = 50_000
"""Places of one answer that are looked at."""

NESTED = 3
"""Choices within choices that are explained: each multiplies the work."""

SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps (RFC 8259, section 6)."""

NEW_KEYS = 8
"""New keys of one object above which they are data of a map, not fields."""

_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?", re.ASCII)
_ERROR_NAMES = ("error", "errors")
_SUCCESS_NAMES = ("ok", "success")


def observe(shapes: Shapes, answer: Any, *, most: int = MOST) -> list[Change]:
    """List how an answer differs from the schema, each kind once a place, in the order they are met."""
    walk = _Walk(shapes, LOOKS)
    found: dict[Change, None] = {}
    for change in walk.root(answer):
        found[change] = None
        if len(found) >= most:
            break
    return list(found)


@dataclass(slots=True)
class _Walk:
    shapes: Shapes
    left: int
    nested: int = 0

    def root(self, answer: Any) -> Iterator[Change]:
        shape = self.shapes.of(self.shapes.root)
        if _wrapped(shape, answer):
            yield Change(Kind.WRAPPED, "", shape.told, kind_of(answer))
            return
        yield from _error_body(shape, answer)
        yield from self.at(self.shapes.root, answer, "")

    def at(self, schema: Any, value: Any, pointer: str) -> Iterator[Change]:
        self.left -= 1
        if self.left < 0:
            return
        shape = self.shapes.of(schema)
        mismatch = _type(shape, value, pointer)
        if mismatch:
            yield mismatch
            return
        if shape.branches and value is not None:
            yield from self.choice(shape, value, pointer)
        if isinstance(value, dict):
            yield from self.fields(shape, value, pointer)
        elif isinstance(value, list):
            yield from self.items(shape, value, pointer)
        yield from _value(shape, value, pointer)

    def items(self, shape: Shape, value: list[Any], pointer: str) -> Iterator[Change]:
        for index, item in enumerate(value):
            below = shape.prefix[index] if index < len(shape.prefix) else shape.items
            if below is not None:
                yield from self.at(below, item, f"{pointer}/*")

    def choice(self, shape: Shape, value: Any, pointer: str) -> Iterator[Change]:
        """Of several forms the one is meant that differs least; only its differences are told."""
        if self.nested == NESTED:
            return
        self.nested += 1
        told = [list(self.at(one, value, pointer)) for one in shape.branches]
        self.nested -= 1
        best = min(told, key=_weight)
        meant = [one for one in told if not any(_other_form(change, pointer) for change in one)]
        if _weight(best) < _HEAVY[Level.BREAKING]:
            yield from best
        elif len(meant) == 1:
            yield from meant[0]
        else:
            yield Change(Kind.NO_BRANCH_FITS, pointer, f"one of {len(told)} forms", kind_of(value))

    def fields(self, shape: Shape, value: dict[str, Any], pointer: str) -> Iterator[Change]:
        for name in sorted(shape.required - value.keys()):
            declared = shape.properties.get(name)
            yield Change(Kind.REQUIRED_MISSING, step(pointer, name), self.shapes.of(declared).told if declared else "")
        new = []
        for name, one in value.items():
            if name in shape.properties:
                yield from self.at(shape.properties[name], one, step(pointer, name))
            elif shape.patterns:
                yield from self.at(_for_any(shape), one, f"{pointer}/*")
            elif isinstance(shape.additional, Mapping):
                yield from self.at(shape.additional, one, f"{pointer}/*")
            elif not shape.branches:  # what the place itself does not know, one of its forms may
                new.append(name)
        yield from _added(shape, value, new, pointer)


_HEAVY = {Level.BREAKING: 100, Level.RISKY: 10, Level.SEMANTIC: 3, Level.COMPATIBLE: 1}
_TELLING = frozenset({Kind.CONST_CHANGED, Kind.ENUM_VALUE_ADDED})
_TYPES = frozenset({Kind.TYPE_CHANGED, Kind.TYPE_WIDENED, Kind.NUMBER_AS_TEXT, Kind.TEXT_AS_NUMBER})


def _weight(changes: list[Change]) -> int:
    return sum(_HEAVY[RULES[one.kind].level] for one in changes)


def _other_form(change: Change, pointer: str) -> bool:
    """Tell whether a difference says that another form was meant: its type, or the field that tells the forms apart."""
    if change.kind in _TYPES:
        return change.pointer == pointer
    return change.kind in _TELLING and change.pointer.rpartition("/")[0] == pointer


def _type(shape: Shape, value: Any, pointer: str) -> Change | None:
    kind = kind_of(value)
    if value is None:
        return None if shape.nullable else Change(Kind.BECAME_NULL, pointer, shape.told, "null")
    if fits(kind, value, shape.types):
        return None
    if kind == "number" and shape.types >= {"integer"}:
        return Change(Kind.TYPE_WIDENED, pointer, shape.told, "number")
    if kind == "string" and shape.types & {"integer", "number"} and _NUMBER.fullmatch(value):
        return Change(Kind.NUMBER_AS_TEXT, pointer, shape.told, "string")
    if kind in {"integer", "number"} and "string" in shape.types:
        return Change(Kind.TEXT_AS_NUMBER, pointer, shape.told, kind)
    return Change(Kind.TYPE_CHANGED, pointer, shape.told, kind)


def _value(shape: Shape, value: Any, pointer: str) -> Iterator[Change]:
    if value is None:
        return
    yield from _listed(shape, value, pointer)
    yield from _bounds(shape, value, pointer)
    if isinstance(value, str):
        yield from _text(shape, value, pointer)
    elif isinstance(value, int) and abs(value) > SAFE_INTEGER:
        yield Change(Kind.INTEGER_TOO_LARGE, pointer, shape.told, "beyond 2^53")
    elif isinstance(value, float) and "number" not in shape.types:
        yield Change(Kind.INTEGER_AS_DECIMAL, pointer, shape.told, "number")


def _listed(shape: Shape, value: Any, pointer: str) -> Iterator[Change]:
    if shape.const and not _same(value, shape.const[0]):
        yield Change(Kind.CONST_CHANGED, pointer, "a constant", "another value")
        return
    known = shape.extensible if shape.enum is None else shape.enum
    if known is not None and not any(_same(value, one) for one in known):
        kind = Kind.ENUM_VALUE_ADDED if shape.extensible is None else Kind.EXTENSIBLE_VALUE_ADDED
        yield Change(kind, pointer, f"one of {len(known)}", "another value")


def _same(one: Any, two: Any) -> bool:
    return bool(one == two) and isinstance(one, bool) == isinstance(two, bool)


def _text(shape: Shape, value: str, pointer: str) -> Iterator[Change]:
    if not value and shape.types == {"string"} and (shape.nullable or shape.format) and shape.enum is None:
        yield Change(Kind.EMPTY_FOR_NULL, pointer, f"a {shape.format}" if shape.format else "a text", "empty")
    elif shape.format and not written(value, shape.format):
        yield Change(Kind.FORMAT_CHANGED, pointer, shape.format, "another format")


def _bounds(shape: Shape, value: Any, pointer: str) -> Iterator[Change]:
    for word, bound in shape.bounds.items():
        size = _size(word, value)
        if size is not None and not _within(word, size, bound):
            yield Change(Kind.BOUND_LOOSENED, pointer, f"{word} {bound:g}", "")


def _size(word: str, value: Any) -> float | None:
    """Return what a bound is about; None when it is not about this value."""
    if word.endswith(("Length", "Items", "Properties")):
        kind = {"h": str, "s": list if word.endswith("Items") else dict}[word[-1]]
        return len(value) if isinstance(value, kind) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _within(word: str, size: float, bound: float) -> bool:
    match word:
        case "exclusiveMinimum":
            return size > bound
        case "exclusiveMaximum":
            return size < bound
        case _:
            return size >= bound if word.startswith("min") else size <= bound


def _for_any(shape: Shape) -> Schema:
    """Return what a key has to be that only a pattern names; which of several is the validator's to say."""
    return next(iter(shape.patterns.values())) if len(shape.patterns) == 1 else {}


def _added(shape: Shape, value: dict[str, Any], new: list[str], pointer: str) -> Iterator[Change]:
    if shape.additional is True or not (shape.properties or shape.additional is False):
        return
    if len(new) > NEW_KEYS:
        yield Change(Kind.FIELD_ADDED, f"{pointer}/*", "", "keys of a map")
        return
    for name in new:
        yield Change(Kind.FIELD_ADDED, undeclared(pointer, name), "", kind_of(value[name]))


def _wrapped(shape: Shape, answer: Any) -> bool:
    """Tell whether the whole answer lies one level deeper under a new name: `{"data": {…}}`."""
    if not isinstance(answer, dict) or not answer or answer.keys() & shape.properties.keys():
        return False
    if "array" in shape.types and len(shape.types) == 1:
        return sum(isinstance(one, list) for one in answer.values()) == 1
    if not shape.required:
        return False
    return any(isinstance(one, dict) and one.keys() >= shape.required for one in answer.values())


def _error_body(shape: Shape, answer: Any) -> Iterator[Change]:
    if not isinstance(answer, dict) or shape.branches or not shape.properties:
        return
    for name in _ERROR_NAMES:
        if answer.get(name) and name not in shape.properties:
            yield Change(Kind.ERROR_WITH_SUCCESS, f"/{name}", "", kind_of(answer[name]))
    for name in _SUCCESS_NAMES:
        if answer.get(name) is False and name not in shape.properties:
            yield Change(Kind.ERROR_WITH_SUCCESS, f"/{name}", "", "false")

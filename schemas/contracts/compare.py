"""Two schemas of one answer, the old and the new: what somebody who reads the old one will meet."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.contracts.finding import Change, Kind
from schemas.contracts.shape import Schema, Shape, Shapes, step

MOST = 500
"""Differences of two schemas that are told."""

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_ALL = frozenset({"boolean", "integer", "number", "string", "array", "object"})


def compare(old: Schema, new: Schema) -> list[Change]:
    """List the differences from `old` to `new`, in the order they are met."""
    found: dict[Change, None] = {}
    for change in _Pair(Shapes(old), Shapes(new)).at(old, new, ""):
        found[change] = None
        if len(found) == MOST:
            break
    return list(found)


@dataclass(slots=True)
class _Pair:
    old: Shapes
    new: Shapes
    met: set[tuple[int, int]] = field(default_factory=set)

    def at(self, one: Schema, two: Schema, pointer: str) -> Iterator[Change]:
        before, after = self.old.of(one), self.new.of(two)
        # The same pair below itself is a recursive schema; it has been told above.
        if (id(before), id(after)) in self.met:
            return
        self.met.add((id(before), id(after)))
        # What becomes a choice, or is none any more, is told as that: its forms have the types.
        changed = list(_types(before, after, pointer)) if bool(before.branches) == bool(after.branches) else []
        yield from changed
        yield from _null(before, after, pointer)
        if not any(change.kind is Kind.TYPE_CHANGED for change in changed):
            yield from _values(before, after, pointer)
            yield from _bounds(before, after, pointer)
            yield from self._forms(before, after, pointer)
            yield from self._fields(before, after, pointer)
            yield from self._below(before, after, pointer)
        self.met.discard((id(before), id(after)))

    def _fields(self, before: Shape, after: Shape, pointer: str) -> Iterator[Change]:
        for name, schema in before.properties.items():
            below = step(pointer, name)
            promised = name in before.required
            if name not in after.properties and name not in after.required:
                kind = Kind.REQUIRED_MISSING if promised else Kind.OPTIONAL_REMOVED
                yield Change(kind, below, self.old.of(schema).told)
                continue
            if promised != (name in after.required):
                yield Change(Kind.BECAME_OPTIONAL if promised else Kind.BECAME_REQUIRED, below)
            if name in after.properties:
                yield from self.at(schema, after.properties[name], below)
        for name in sorted(before.required - before.properties.keys() - after.required):
            yield Change(
                Kind.REQUIRED_MISSING if name not in after.properties else Kind.BECAME_OPTIONAL, step(pointer, name)
            )
        for name, schema in after.properties.items():
            if name not in before.properties:
                yield Change(Kind.FIELD_ADDED, step(pointer, name), "", self.new.of(schema).told)

    def _below(self, before: Shape, after: Shape, pointer: str) -> Iterator[Change]:
        if before.items is not None:
            yield from self.at(before.items, after.items or {}, f"{pointer}/*")
        if isinstance(before.additional, dict):
            yield from self.at(
                before.additional, after.additional if isinstance(after.additional, dict) else {}, f"{pointer}/*"
            )
        for one, two in zip(before.prefix, after.prefix, strict=False):
            yield from self.at(one, two, f"{pointer}/*")

    def _forms(self, before: Shape, after: Shape, pointer: str) -> Iterator[Change]:
        """Forms are held together by their place in the list; what is more or less is a form added or gone."""
        if not before.branches and after.branches:
            yield Change(Kind.BRANCH_ADDED, pointer, before.told, f"one of {len(after.branches)} forms")
            return
        for one, two in zip(before.branches, after.branches, strict=False):
            yield from self.at(one, two, pointer)
        if len(after.branches) > len(before.branches):
            yield Change(Kind.BRANCH_ADDED, pointer, f"{len(before.branches)} forms", f"{len(after.branches)} forms")
        elif len(after.branches) < len(before.branches):
            yield Change(
                Kind.TYPE_NARROWED, pointer, f"{len(before.branches)} forms", f"{len(after.branches) or 1} forms"
            )


def _types(before: Shape, after: Shape, pointer: str) -> Iterator[Change]:
    one, two = before.types & _ALL, after.types & _ALL
    if one == two:
        return
    words = (pointer, before.told, after.told)
    if two < one:
        yield Change(Kind.TYPE_NARROWED, *words)
    elif one < two:
        yield Change(Kind.TYPE_WIDENED, *words)
    else:
        yield Change(Kind.TYPE_CHANGED, *words)


def _null(before: Shape, after: Shape, pointer: str) -> Iterator[Change]:
    if before.nullable == after.nullable:
        return
    if after.nullable:
        yield Change(Kind.BECAME_NULL, pointer, before.told, "null")
    else:
        yield Change(Kind.BECAME_NOT_NULL, pointer, "null", after.told)


def _values(before: Shape, after: Shape, pointer: str) -> Iterator[Change]:
    if before.const and after.const != before.const:
        yield Change(Kind.CONST_CHANGED, pointer, "a constant", "another" if after.const else "any value")
    one, two = _listed(before), _listed(after)
    if one is not None and (two is None or two - one):
        kind = Kind.ENUM_VALUE_ADDED if before.extensible is None else Kind.EXTENSIBLE_VALUE_ADDED
        yield Change(kind, pointer, f"one of {len(one)}", "any value" if two is None else f"{len(two - one)} more")
    if two is not None and (one is None or one - two):
        yield Change(
            Kind.ENUM_VALUE_REMOVED, pointer, "any value" if one is None else f"one of {len(one)}", f"one of {len(two)}"
        )
    if before.format != after.format and before.format:
        yield Change(Kind.FORMAT_CHANGED, pointer, before.format, after.format or "no format")
    if before.pattern != after.pattern and before.pattern:
        yield Change(Kind.PATTERN_CHANGED, pointer, "a pattern", "another" if after.pattern else "none")


def _listed(shape: Shape) -> frozenset[str] | None:
    listed = shape.enum if shape.enum is not None else shape.extensible
    return None if listed is None else frozenset(repr(value) for value in listed if value is not None)


def _bounds(before: Shape, after: Shape, pointer: str) -> Iterator[Change]:
    for word in {**before.bounds, **after.bounds}:
        one, two = before.bounds.get(word), after.bounds.get(word)
        if one == two:
            continue
        looser = two is None or (one is not None and (two < one if word in _LOWER else two > one))
        yield Change(
            Kind.BOUND_LOOSENED if looser else Kind.BOUND_TIGHTENED, pointer, _bound(word, one), _bound(word, two)
        )


def _bound(word: str, value: float | None) -> str:
    return f"no {word}" if value is None else f"{word} {value:g}"

"""A JSON Schema as a shape: references resolved, `allOf` merged, and the three spellings of null read as one.

Value-free descriptions of what came use the same words as the schema. Only local references (`#/…`) are followed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Schema = Mapping[str, Any]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
BOUNDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
)
DEPTH = 5
"""Choices within choices of one place that are followed; a circle ends here."""

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.:-]{0,63}", re.ASCII)
_DATA = re.compile(r"\d{4}|[0-9a-fA-F]{8}-")
SCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
SCHEMAS = frozenset(
    {"items", "additionalProperties", "contains", "propertyNames", "if", "then", "else", "not", "unevaluatedProperties"}
)
"""Keywords that hold schemas: by name, in a list, alone."""

_NO: Schema = {"not": {}}
_CHOICES = frozenset({"anyOf", "oneOf"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a schema promises at one place."""

    types: frozenset[str] = frozenset(TYPES)
    """Without `null`, unless nothing else is possible."""
    nullable: bool = True
    properties: Mapping[str, Schema] = field(default_factory=dict)
    patterns: Mapping[str, Schema] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    additional: Schema | bool | None = None
    items: Schema | None = None
    prefix: tuple[Schema, ...] = ()
    enum: tuple[Any, ...] | None = None
    extensible: tuple[Any, ...] | None = None
    """`x-extensible-enum`: a list of values that may grow."""
    const: tuple[Any, ...] = ()
    """One value, or none."""
    format: str | None = None
    pattern: str | None = None
    bounds: Mapping[str, float] = field(default_factory=dict)
    branches: tuple[Schema, ...] = ()
    exclusive: bool = False
    """The branches stood under `oneOf`."""

    @property
    def told(self) -> str:
        """Return the types in words."""
        known = self.types if len(self.types) < len(TYPES) - 1 else frozenset[str]()
        if "number" in known:
            known -= {"integer"}
        return " or ".join(name for name in TYPES if name in known) or "anything"


_KINDS = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def kind_of(value: object) -> str:
    """Name the JSON type of a value; a float that is whole is still a `number`."""
    return _KINDS.get(type(value), "object")


def fits(kind: str, value: object, types: frozenset[str]) -> bool:
    """Tell whether a value of this JSON type is one of `types`, as JSON Schema counts: 1.0 is an integer, an integer a number."""
    if kind in types or (kind == "integer" and "number" in types):
        return True
    return isinstance(value, float) and value.is_integer() and "integer" in types


def step(pointer: str, key: str) -> str:
    """Go down into a declared property."""
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def undeclared(pointer: str, key: str) -> str:
    """Go down into a key that no contract names: `*` when it looks like data and not like a name."""
    return step(pointer, key) if _NAME.fullmatch(key) and not _DATA.search(key) else f"{pointer}/*"


def plain_null(schema: Any) -> Any:
    """Return a schema with OpenAPI 3.0's `nullable: true` written as JSON Schema does."""
    if not isinstance(schema, Mapping):
        return schema
    plain = {key: _plain_below(key, value) for key, value in schema.items()}
    if plain.get("nullable") is not True:
        return plain
    del plain["nullable"]
    if "$ref" in plain or not isinstance(plain.get("type"), str | list):
        return {"anyOf": [plain, {"type": "null"}]}
    types = [plain["type"]] if isinstance(plain["type"], str) else plain["type"]
    plain["type"] = [*types, *(["null"] if "null" not in types else [])]
    if isinstance(plain.get("enum"), list) and None not in plain["enum"]:
        plain["enum"] = [*plain["enum"], None]
    return plain


def _plain_below(key: str, value: Any) -> Any:
    if key in SCHEMA_MAPS and isinstance(value, Mapping):
        return {name: plain_null(part) for name, part in value.items()}
    if key in SCHEMA_LISTS and isinstance(value, list):
        return [plain_null(part) for part in value]
    return plain_null(value) if key in SCHEMAS else value


def target(root: Any, reference: str) -> Any:
    """Return what a local reference means; None when it leads nowhere."""
    if not reference.startswith("#"):
        return None
    here = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(here, Mapping) and key in here:
            here = here[key]
        elif isinstance(here, list) and key.isdecimal() and int(key) < len(here):
            here = here[int(key)]
        else:
            return None
    return here


class Shapes:
    """Every place of one schema, each read once."""

    def __init__(self, root: Schema) -> None:
        """`root` is the whole schema: references lead into it."""
        self.root = root
        self._known: dict[int, tuple[Any, Shape]] = {}

    def of(self, schema: Any, left: int = DEPTH) -> Shape:
        """Read one place."""
        known = self._known.get(id(schema))
        if known is None:
            # The schema is kept beside its shape, so that its id stays its own.
            known = self._known[id(schema)] = (schema, self._read(schema, left))
        return known[1]

    def _read(self, schema: Any, left: int) -> Shape:
        parts = list(_parts(self.root, schema, set()))
        branches, exclusive, null = _branches(parts)
        if len(branches) == 1 and left > 0:
            # One form or null: no choice at all, only another spelling of a nullable place.
            bare = [{name: value for name, value in part.items() if name not in _CHOICES} for part in parts]
            inner = self._read({"allOf": [*bare, branches[0]]}, left - 1)
            return replace(inner, nullable=inner.nullable or null)
        types, nullable = _types(parts)
        if branches and nullable and not null:
            nullable = left > 0 and any(self.of(one, left - 1).nullable for one in branches)
        properties = _merged(parts, "properties")
        if branches and properties:
            # A field that the place itself declares is no addition to one of its forms.
            branches = tuple({"allOf": [one, {"properties": properties}]} for one in branches)
        return Shape(
            types=types,
            nullable=nullable,
            properties=properties,
            patterns=_merged(parts, "patternProperties"),
            required=frozenset(name for part in parts for name in part.get("required", ()) if isinstance(name, str)),
            additional=_last(parts, "additionalProperties"),
            items=_items(parts),
            prefix=tuple(_last(parts, "prefixItems") or ()),
            enum=_values(parts, "enum"),
            extensible=_values(parts, "x-extensible-enum"),
            const=tuple(part["const"] for part in parts if "const" in part)[:1],
            format=_last(parts, "format"),
            pattern=_last(parts, "pattern"),
            bounds={name: part[name] for part in parts for name in BOUNDS if _number(part.get(name))},
            branches=branches,
            exclusive=exclusive,
        )


def _merged(parts: list[Schema], word: str) -> dict[str, Schema]:
    merged: dict[str, Schema] = {}
    for part in parts:
        for name, schema in _mapping(part, word).items():
            merged[name] = {"allOf": [merged[name], schema]} if name in merged else schema
    return merged


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parts(root: Schema, schema: Any, met: set[int]) -> Iterator[Schema]:
    """List the schemas that hold at once: itself, what it refers to, its `allOf`; each once, so that circles end."""
    if schema is False:
        yield _NO
    if not isinstance(schema, Mapping) or id(schema) in met:
        return
    met.add(id(schema))
    yield {name: value for name, value in schema.items() if name not in {"$ref", "allOf"}}
    if isinstance(schema.get("$ref"), str):
        yield from _parts(root, target(root, schema["$ref"]), met)
    for part in schema.get("allOf", ()):
        yield from _parts(root, part, met)


def _types(parts: list[Schema]) -> tuple[frozenset[str], bool]:
    types = frozenset(TYPES)
    for part in parts:
        if "type" in part:
            own = frozenset([part["type"]] if isinstance(part["type"], str) else part["type"])
            types &= own | (frozenset({"integer"}) if "number" in own else frozenset())
    listed = _values(parts, "enum")
    constant = any("const" in part and part["const"] is not None for part in parts)
    nullable = "null" in types and not constant and (listed is None or None in listed)
    return (types - {"null"}) or types, nullable or any(part.get("nullable") is True for part in parts)


def _branches(parts: list[Schema]) -> tuple[tuple[Schema, ...], bool, bool]:
    """Return the forms that are promised besides null, whether they exclude each other, and whether null was one."""
    for word in ("oneOf", "anyOf"):
        for part in parts:
            if isinstance(part.get(word), list):
                some = tuple(one for one in part[word] if isinstance(one, Mapping))
                kept = tuple(one for one in some if not _only_null(one))
                return kept, word == "oneOf", len(kept) < len(some)
    return (), False, False


def _only_null(schema: Schema) -> bool:
    if schema.get("type") in ("null", ["null"]):
        return True
    return schema.get("enum") == [None] or ("const" in schema and schema["const"] is None)


def _mapping(part: Schema, name: str) -> Mapping[str, Any]:
    found = part.get(name)
    return found if isinstance(found, Mapping) else {}


def _last(parts: list[Schema], name: str) -> Any:
    return next((part[name] for part in reversed(parts) if name in part), None)


def _items(parts: list[Schema]) -> Schema | None:
    found = _last(parts, "items")
    return found if isinstance(found, Mapping) else None


def _values(parts: list[Schema], name: str) -> tuple[Any, ...] | None:
    found = _last(parts, name)
    return tuple(found) if isinstance(found, list) else None

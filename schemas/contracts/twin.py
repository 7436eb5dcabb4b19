"""The strict twin of a schema: the same promise, closed against what is new, and sharp about what a schema lets pass.

What the twin takes, the schema takes and nothing is worth telling; so in the usual case one validation answers both questions.
New fields, integers beyond 2^53, another date format, an empty text for null and values beyond an open list are all refused by it.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from schemas.contracts.drift import SAFE_INTEGER
from schemas.contracts.formats import FORMATS
from schemas.contracts.shape import DEPTH, SCHEMA_MAPS, Schema, Shapes, target

_IN_PLACE = ("allOf", "anyOf", "oneOf")
_AS_IT_IS = frozenset({"not", "if", "then", "else", "contains", "propertyNames"})
_TURNING = frozenset({"oneOf", "not", "if", "contains", "dependentSchemas", "unevaluatedItems"})
"""Keywords under which a stricter part can make the whole less strict."""
_DECIDED = frozenset({"additionalProperties", "unevaluatedProperties"})
_DEFINED = frozenset({"$defs", "definitions"})
_DEFINITION = re.compile(r"(#/(?:\$defs|definitions)/)([A-Za-z0-9_.-]+)", re.ASCII)
_FIELDED = frozenset({"properties", "allOf", "$ref", "patternProperties", "if"})
_SAID = frozenset({"$ref", "title", "description", "$comment", "example", "examples"})


def twin(schema: Schema) -> dict[str, Any]:
    """Return the strict twin."""
    strict = _closed(schema, schema)
    for word in _DEFINED & strict.keys():
        # A definition is closed where it stands alone, and open where it is a part of something.
        own = {_alone(name): _closed(schema, one) for name, one in schema[word].items() if isinstance(one, Mapping)}
        strict[word] = {**strict[word], **own}
    return strict


def only_stricter(schema: Any) -> bool:
    """Tell whether the twin takes nothing that the schema refuses; else both must be asked."""
    if isinstance(schema, Mapping):
        turning = _TURNING & schema.keys() - ({"oneOf"} if _or_null(schema.get("oneOf")) else set())
        return not turning and all(map(only_stricter, schema.values()))
    return not isinstance(schema, list) or all(map(only_stricter, schema))


def _or_null(forms: Any) -> bool:
    """Tell whether of two forms one is null: never both fit, however strict they are."""
    return isinstance(forms, list) and len(forms) == 2 and {"type": "null"} in forms


def integers(schema: Schema) -> list[tuple[str, ...]]:
    """List where whole numbers are promised, for a look whether they are written as such; `*` is every item."""
    shapes = Shapes(schema)

    looks = iter(range(_LOOKS))

    def below(place: Any, path: tuple[str, ...], left: int = DEPTH) -> Iterator[tuple[str, ...]]:
        if next(looks, None) is None:
            return
        shape = shapes.of(place)
        if shape.types == {"integer"}:
            yield path
        for one in shape.branches if left else ():
            yield from below(one, path, left - 1)
        if len(path) < _SHALLOW:
            for name, one in shape.properties.items():
                yield from below(one, (*path, name))
            if shape.items is not None:
                yield from below(shape.items, (*path, "*"))

    return list(islice(below(schema, ()), _PATHS))


def decimal(value: Any, path: tuple[str, ...], at: int = 0) -> bool:
    """Tell whether a whole number at the path is written with a decimal point."""
    if at == len(path):
        return type(value) is float
    if isinstance(value, dict):
        return path[at] in value and decimal(value[path[at]], path, at + 1)
    return isinstance(value, list) and path[at] == "*" and any(decimal(one, path, at + 1) for one in value[:_ITEMS])


_SHALLOW, _PATHS, _LOOKS = 6, 64, 2000
_ITEMS = 64
"""Who writes one whole number of a list with a decimal point writes all of them so."""


def _closed(root: Schema, schema: Schema) -> dict[str, Any]:
    """Rewrite a place where a value stands: its fields are known now."""
    reference = _DEFINITION.fullmatch(schema["$ref"]) if isinstance(schema.get("$ref"), str) else None
    if reference and not schema.keys() - _SAID and isinstance(target(root, schema["$ref"]), Mapping):
        return {"$ref": f"{reference[1]}{_alone(reference[2])}"}
    strict = _open(root, schema)
    if _DECIDED & schema.keys() or not _has_fields(root, schema, set()):
        return strict
    choices = [word for word in ("anyOf", "oneOf") if word in schema]
    if len(choices) == 1 and not schema.keys() & _FIELDED:
        # Nothing but a choice: closing each form is much quicker than looking at what none of them has taken.
        forms = zip(schema[choices[0]], strict[choices[0]], strict=True)
        strict[choices[0]] = [
            _closed(root, one) | _also(two) if isinstance(one, Mapping) else one for one, two in forms
        ]
        return strict
    composed = "$ref" in schema or any(word in schema for word in _IN_PLACE)
    strict["unevaluatedProperties" if composed else "additionalProperties"] = False
    return strict


def _also(form: Mapping[str, Any]) -> dict[str, Any]:
    return {"minLength": form["minLength"]} if "minLength" in form else {}


def _alone(name: str) -> str:
    return f"{name}!alone"


def _open(root: Schema, schema: Schema) -> dict[str, Any]:
    """Rewrite a part of a place: its fields may stand beside those of other parts."""
    strict: dict[str, Any] = {}
    for word, value in schema.items():
        strict[word] = _below(root, word, value)
    return strict | _sharp(schema)


def _below(root: Schema, word: str, value: Any) -> Any:
    if word in {"$defs", "definitions"} and isinstance(value, Mapping):
        return {name: _open(root, one) if isinstance(one, Mapping) else one for name, one in value.items()}
    if word in SCHEMA_MAPS and isinstance(value, Mapping):
        return {name: _closed(root, one) if isinstance(one, Mapping) else one for name, one in value.items()}
    if word in _IN_PLACE and isinstance(value, list):
        null = any(isinstance(one, Mapping) and one.get("type") == "null" for one in value)
        return [_open(root, one) | (_filled(one) if null else {}) if isinstance(one, Mapping) else one for one in value]
    if word == "prefixItems" and isinstance(value, list):
        return [_closed(root, one) if isinstance(one, Mapping) else one for one in value]
    if word in {"items", "additionalProperties"} and isinstance(value, Mapping):
        return _closed(root, value)
    return value


def _has_fields(root: Schema, schema: Any, met: set[int]) -> bool:
    if not isinstance(schema, Mapping) or id(schema) in met:
        return False
    met.add(id(schema))
    if schema.get("properties"):
        return True
    if isinstance(schema.get("$ref"), str) and _has_fields(root, target(root, schema["$ref"]), met):
        return True
    return any(_has_fields(root, one, met) for word in _IN_PLACE for one in schema.get(word, ()))


def _sharp(schema: Schema) -> dict[str, Any]:
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", ())
    sharper: dict[str, Any] = {}
    if "integer" in types or "number" in types:
        sharper["maximum"] = min(schema.get("maximum", SAFE_INTEGER), SAFE_INTEGER)
        sharper["minimum"] = max(schema.get("minimum", -SAFE_INTEGER), -SAFE_INTEGER)
    if "null" in types and "string" in types:
        sharper |= _filled({**schema, "type": "string"})
    if "format" in schema and schema["format"] not in FORMATS:
        sharper["format"] = "unknown"
    open_list = schema.get("x-extensible-enum")
    if isinstance(open_list, list) and "enum" not in schema:
        sharper["enum"] = [*open_list, *([None] if "null" in types else [])]
    return sharper


def _filled(schema: Schema) -> dict[str, Any]:
    """Where null is possible an empty text is suspect."""
    return (
        {"minLength": max(1, schema.get("minLength", 1))}
        if schema.get("type") == "string" and "enum" not in schema
        else {}
    )

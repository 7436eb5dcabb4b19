"""Arguments against an operation's schema: compiled once, linear in the input, silent about values.

Offline by construction: a schema can refer to nothing outside itself, and no pattern can make matching slow.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jsonschema_rs

MAX_ERRORS = 20
"""Errors of one call that are reported; the rest would be noise, and the answer must stay small."""
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}", re.ASCII)
"""An argument in a path, query or header."""

_MASK = "the value"
_DOTS = frozenset({".", ".."})
_NOT_LINEAR = "is not a regular expression that can be matched in linear time (no look-around, no back-references)"


@dataclass(frozen=True, slots=True)
class ArgumentError:
    pointer: str
    message: str


class SchemaError(Exception):
    """A schema that cannot be used; `path` leads to the part that is wrong."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


def compile_schema(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """Compile a JSON Schema (2020-12 unless `$schema` says otherwise)."""
    try:
        return jsonschema_rs.validator_for(
            dict(schema), offline=True, pattern_options=jsonschema_rs.RegexOptions(), mask=_MASK, validate_formats=False
        )
    except jsonschema_rs.ValidationError as invalid:
        path = tuple(invalid.instance_path)
        pattern = bool({"pattern", "patternProperties"} & set(path)) and '"regex"' in invalid.message
        raise SchemaError(path, _NOT_LINEAR if pattern else invalid.message) from None
    except (ValueError, jsonschema_rs.ReferencingError) as invalid:
        raise SchemaError((), str(invalid)) from None


class ArgumentCheck:
    """What the arguments of one operation must be: its schema, and single values where the path needs them."""

    __slots__ = ("_path_names", "_validator")

    def __init__(self, schema: Mapping[str, Any] | None, path: str) -> None:
        self._validator = None if schema is None else compile_schema(schema)
        self._path_names = tuple(dict.fromkeys(PLACEHOLDER.findall(path)))

    def __repr__(self) -> str:
        return f"<ArgumentCheck {'with' if self._validator else 'without'} schema, path needs {list(self._path_names)}>"

    def errors(self, arguments: Mapping[str, Any]) -> list[ArgumentError]:
        """Return what is wrong with the arguments; nothing when they fit."""
        # `is_valid` stops at the first error and allocates nothing: the usual way.
        fits = self._validator is None or self._validator.is_valid(arguments)
        if fits and not self._path_names:
            return []
        return list(islice(self._errors(arguments), MAX_ERRORS))

    def _errors(self, arguments: Mapping[str, Any]) -> Iterator[ArgumentError]:
        if self._validator is not None:
            for error in self._validator.iter_errors(arguments):
                yield ArgumentError(pointer(error.instance_path), error.message)
        for name in self._path_names:
            if message := _unfit_for_path(arguments, name):
                yield ArgumentError(pointer([name]), message)


def _unfit_for_path(arguments: Mapping[str, Any], name: str) -> str | None:
    if name not in arguments:
        return "the path needs this argument"
    value = arguments[name]
    if not isinstance(value, str | int):
        return "the path needs text, a whole number or a boolean here"
    if value == "" or value in _DOTS:
        return 'the path cannot hold an empty segment, "." or ".."'
    return None


def pointer(path: list[str | int] | tuple[str | int, ...]) -> str:
    """Return a path as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)

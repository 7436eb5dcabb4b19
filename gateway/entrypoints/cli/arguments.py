"""`-a name=value` to JSON: by the tool's input schema where it says something, else by what the value looks like. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_WORDS = {"true": True, "false": False}


def whole(text: str) -> dict[str, Any]:
    """Parse `--json`; raises `ValueError` with what is wrong."""
    value = _json(text, "--json")
    if not isinstance(value, dict):
        raise ValueError("--json: the arguments are one JSON object")  # noqa: TRY004 - what a person typed
    return value


def needs_schema(given: str) -> bool:
    """Tell whether the schema matters to this `-a`; `name:=json` speaks for itself."""
    return not given.partition("=")[0].endswith(":")


def parse(given: Sequence[str], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Parse every `-a`; raises `ValueError` with what is wrong."""
    properties = (schema or {}).get("properties") or {}
    parsed: dict[str, Any] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or not name.rstrip(":"):
            raise ValueError(f"-a {one!r}: write name=value, or name:=json")
        if name.endswith(":"):
            name = name.removesuffix(":")
            parsed[name] = _json(text, f"-a {name}")
        else:
            parsed[name] = typed(name, text, properties.get(name))
    return parsed


def typed(name: str, text: str, schema: object) -> Any:
    """Return the value in the first of the schema's types that it can be; intake judges it all the same."""
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    if kinds is None:
        return _looks_like(text)
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        try:
            return _AS[kind](text)
        except (KeyError, ValueError):
            continue
    raise ValueError(f"-a {name}: {text[:40]!r} is not {kinds if isinstance(kinds, str) else ' or '.join(kinds)}")


def _looks_like(text: str) -> Any:
    try:
        return _json(text, "")
    except ValueError:
        return text


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _boolean(text: str) -> bool:
    return _WORDS[text.lower()]


def _null(text: str) -> None:
    if text not in {"null", ""}:
        raise ValueError


def _only(*kinds: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = _json(text, "")
        if type(value) not in kinds:  # not isinstance: True is an int
            raise ValueError
        return value

    return read


_AS: Mapping[str, Callable[[str], Any]] = {
    "string": str,
    "integer": _only(int),
    "number": _only(int, float),
    "boolean": _boolean,
    "null": _null,
    "array": _only(list),
    "object": _only(dict),
}

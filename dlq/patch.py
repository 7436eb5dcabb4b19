"""JSON Patch (RFC 6902) with JSON Pointer (RFC 6901). Pure: a document and a patch in, a new document out."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

MOST_STEPS = 200
"""Operations of one patch."""


class Unpatchable(ValueError):  # noqa: N818 - a situation
    """The patch is none, or does not fit the document; the text says which operation and why, without values."""


def apply(document: Any, patch: Sequence[Mapping[str, Any]]) -> Any:
    """Return the document after every operation in turn; all of them, or `Unpatchable`."""
    if len(patch) > MOST_STEPS:
        raise Unpatchable(f"a patch has {MOST_STEPS} operations at most")
    made = copy.deepcopy(document)
    for number, step in enumerate(patch):
        try:
            made = _apply(made, step)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise Unpatchable(f"operation {number}: {_words(error)}") from None
    return made


def _words(error: Exception) -> str:
    return str(error) if type(error) is ValueError else "there is nothing at that place"


def _apply(document: Any, step: Mapping[str, Any]) -> Any:
    verb, path = step.get("op"), _path(step, "path")
    match verb:
        case "add":
            return _put(document, path, copy.deepcopy(_value(step)), insert=True)
        case "replace":
            _at(document, path)
            return _put(document, path, copy.deepcopy(_value(step)), insert=False)
        case "remove":
            return _without(document, path)
        case "move":
            return _moved(document, _path(step, "from"), path)
        case "copy":
            return _put(document, path, copy.deepcopy(_at(document, _path(step, "from"))), insert=True)
        case "test":
            if not _same(_at(document, path), _value(step)):
                raise ValueError("what was tested is not as the patch expects")
            return document
        case _:
            raise ValueError("op is add, remove, replace, move, copy or test")


def _moved(document: Any, source: list[str], path: list[str]) -> Any:
    if path[: len(source)] == source and path != source:
        raise ValueError("a value cannot be moved into itself")
    value = _at(document, source)
    return _put(_without(document, source), path, value, insert=True)


def _path(step: Mapping[str, Any], name: str) -> list[str]:
    pointer = step.get(name)
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise ValueError(f'"{name}" is no JSON pointer')
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _value(step: Mapping[str, Any]) -> Any:
    if "value" not in step:
        raise ValueError('"value" is missing')
    return step["value"]


def _at(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[_index(document, part) if isinstance(document, list) else _member(document, part)]
    return document


def _member(document: Any, part: str) -> str:
    if not isinstance(document, dict):
        raise ValueError("there is nothing at that place")  # noqa: TRY004 - what a patch asks for
    return part


def _index(items: list[Any], part: str) -> int:
    if not part.isascii() or not part.isdigit() or (part != "0" and part.startswith("0")):
        raise ValueError("that is no index of a list")
    index = int(part)
    if index >= len(items):
        raise ValueError("there is nothing at that place")
    return index


def _put(document: Any, path: list[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    parent, last = _at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        if insert:
            parent.insert(len(parent) if last in {"-", str(len(parent))} else _index(parent, last), value)
        else:
            parent[_index(parent, last)] = value
    else:
        parent[_member(parent, last)] = value
    return document


def _without(document: Any, path: list[str]) -> Any:
    if not path:
        raise ValueError("the whole cannot be removed")
    _at(document, path)
    parent, last = _at(document, path[:-1]), path[-1]
    del parent[_index(parent, last) if isinstance(parent, list) else last]
    return document


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)

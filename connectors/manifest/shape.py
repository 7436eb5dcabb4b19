"""A tree against its model: pydantic's errors told in our words, each at the key or value that is wrong.

Never repeats a value from a place where a secret may stand: only enum words and keys are quoted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError

from connectors.manifest.document import Document
from connectors.manifest.model import API_VERSION, KINDS, Manifest
from connectors.manifest.problem import Finding, Path, quoted, suggestion

_WORDS = re.compile(r"'([^']*)'")
_SENTENCES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
}
_KIND_LIST = ", ".join(KINDS)


def check_shape(document: Document) -> tuple[Manifest | None, list[Finding]]:
    """Return the typed manifest, or everything that is wrong with its shape."""
    tree = document.tree
    if not isinstance(tree, dict):
        return None, [Finding(path=(), message="a document must be a mapping with apiVersion, kind and metadata")]
    kind = tree.get("kind")
    if "kind" not in tree:
        return None, [Finding(path=(), message=f"missing key 'kind': one of {_KIND_LIST}")]
    if not isinstance(kind, str) or kind not in KINDS:
        message = f"unknown kind {quoted(kind)}: one of {_KIND_LIST}"
        return None, [Finding(path=("kind",), message=message, hint=suggestion(str(kind), KINDS))]
    try:
        return KINDS[kind].model_validate(tree), []
    except ValidationError as invalid:
        return None, [
            _finding(document, kind, error) for error in invalid.errors(include_url=False, include_input=False)
        ]


def _finding(document: Document, kind: str, error: Mapping[str, Any]) -> Finding:
    path = _written_path(document.tree, error["loc"])
    match error["type"]:
        case "extra_forbidden":
            key, known = str(error["loc"][-1]), _known_keys(kind, error["loc"][:-1])
            return Finding(
                path=path,
                at_key=True,
                message=f"unknown key {quoted(key)}",
                hint=suggestion(key, known) or _listed(known),
            )
        case "missing":
            key = str(error["loc"][-1])
            return Finding(path=path, at_key=True, message=f"missing key {quoted(key)}{_owner(path)}")
        case "union_tag_not_found":
            return Finding(path=path, at_key=True, message=f"missing key {error['ctx']['discriminator']}{_owner(path)}")
        case "value_error":
            at_key = "[key]" in error["loc"]
            return Finding(path=path, at_key=at_key, message=f"{_subject(path)}{error['ctx']['error']}")
        case _:
            return _of_value(path, document.mark(path).text, error)


def _of_value(path: Path, text: str | None, error: Mapping[str, Any]) -> Finding:
    match error["type"]:
        case "union_tag_invalid":
            path = (*path, error["ctx"]["discriminator"].strip("'"))
            return _not_one_of(path, error["ctx"]["tag"], error["ctx"]["expected_tags"])
        case "literal_error" if path == ("apiVersion",):
            return Finding(path=path, message=f"this version reads apiVersion {API_VERSION}, not {quoted(text)}")
        case "literal_error" | "enum":
            return _not_one_of(path, text, error["ctx"]["expected"])
        case _:
            return _of_type(path, text, error)


def _of_type(path: Path, text: str | None, error: Mapping[str, Any]) -> Finding:
    sentence = _SENTENCES.get(error["type"]) or error["msg"][:1].lower() + error["msg"][1:]
    hint = None
    if error["type"] == "string_type" and text not in {None, "", "~", "null"}:
        hint = "put it in quotes"
    return Finding(path=path, message=f"{_subject(path)}{sentence}", hint=hint)


def _not_one_of(path: Path, word: object, expected: str) -> Finding:
    words = _WORDS.findall(expected)
    message = f"{_subject(path)}{'must be' if word is None else quoted(word) + ' is not'} one of {', '.join(words)}"
    return Finding(path=path, message=message, hint=suggestion(str(word), words))


def _listed(known: set[str]) -> str | None:
    return f"known here: {', '.join(sorted(known))}" if known else None


def _owner(path: Path) -> str:
    return f" in {path[-1]}" if path else ""


def _subject(path: Path) -> str:
    names = [part for part in path if isinstance(part, str)]
    return f"{names[-1]}: " if names else ""


def _written_path(tree: Any, loc: Sequence[str | int]) -> Path:
    """Return the part of pydantic's location that exists in the tree; names of union branches do not."""
    path: list[str | int] = []
    for part in loc:
        known = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
        if part in known:
            tree = tree[part]
            path.append(part)
    return tuple(path)


@cache
def _schema(kind: str) -> dict[str, Any]:
    return KINDS[kind].model_json_schema(by_alias=True)


def _known_keys(kind: str, loc: Sequence[str | int]) -> set[str]:
    root = _schema(kind)
    here = [root]
    for part in loc:
        # A part that no branch knows is the name of a union branch: stay where we are.
        here = [found for schema in here for found in _below(root, schema, part)] or here
    return {key for schema in here for branch in _branches(root, schema) for key in branch.get("properties", ())}


def _below(root: dict[str, Any], schema: dict[str, Any], part: str | int) -> Iterator[dict[str, Any]]:
    for branch in _branches(root, schema):
        tagged = branch.get("discriminator", {}).get("mapping", {})
        if part in branch.get("properties", ()):
            yield branch["properties"][part]
        elif part in tagged:
            yield {"$ref": tagged[part]}
        elif isinstance(branch.get("items"), dict) and isinstance(part, int):
            yield branch["items"]
        elif (
            isinstance(part, str)
            and isinstance(branch.get("additionalProperties"), dict)
            and part not in {"plain", "weighted"}
        ):
            yield branch["additionalProperties"]


def _branches(root: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        yield from _branches(root, root["$defs"][schema["$ref"].rpartition("/")[2]])
        return
    yield schema
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _branches(root, branch)

"""What people decided about findings of one operation, and the schema that follows from it. Pure; every decision is a new version.

An accepted difference is lawful: the declared schema is loosened at that place (the overlay). A rejected one stays what it was, and it
is remembered that somebody looked. Contracts learned from traffic would be a second `declared` here: a schema like any other.
"""

import copy
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from schemas.contracts.finding import Finding, Kind
from schemas.contracts.shape import BOUNDS, Schema, target

HISTORY = 200
"""Decisions that are kept; older ones are forgotten unless they hold."""

Verdict = Literal["accepted", "rejected"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One finding and what was decided about it."""

    finding: Finding
    verdict: Verdict
    by: str
    at: str
    reason: str
    version: int


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one operation; version 0 is the declared schema alone."""

    schema: str = "baseline/1"
    tool: str
    version: int = 0
    decisions: tuple[Decision, ...] = ()
    """The newest of each finding."""
    history: tuple[Decision, ...] = ()
    """All of them, oldest first."""

    def verdicts(self) -> dict[str, Verdict]:
        """Return what was decided, by fingerprint."""
        return {one.finding.fingerprint: one.verdict for one in self.decisions}


def decide(baseline: Baseline, finding: Finding, verdict: Verdict, *, by: str, at: str, reason: str) -> Baseline:  # noqa: PLR0913
    """Return the next version; the same decision again changes nothing."""
    mark = finding.fingerprint
    if baseline.verdicts().get(mark) == verdict:
        return baseline
    version = baseline.version + 1
    decision = Decision(finding=finding, verdict=verdict, by=by, at=at, reason=reason, version=version)
    others = tuple(one for one in baseline.decisions if one.finding.fingerprint != mark)
    return msgspec.structs.replace(
        baseline,
        version=version,
        decisions=(*others, decision),
        history=(*baseline.history, decision)[-HISTORY:],
    )


def overlaid(declared: Schema, baseline: Baseline) -> dict[str, Any]:
    """Return the declared schema with every accepted difference made lawful where a schema can say it."""
    root: dict[str, Any] = copy.deepcopy(dict(declared))
    for one in baseline.decisions:
        if one.verdict == "accepted":
            for place, name in _places(root, one.finding):
                _loosen(place, name, one.finding)
    return root


_AT_PARENT = frozenset({Kind.FIELD_ADDED, Kind.REQUIRED_MISSING, Kind.BECAME_OPTIONAL})
_TYPED = frozenset({Kind.TYPE_CHANGED, Kind.TYPE_WIDENED, Kind.NUMBER_AS_TEXT, Kind.TEXT_AS_NUMBER})
_WORDS = {Kind.FORMAT_CHANGED: "format", Kind.PATTERN_CHANGED: "pattern"}
_LISTED = frozenset({Kind.ENUM_VALUE_ADDED, Kind.EXTENSIBLE_VALUE_ADDED, Kind.CONST_CHANGED})


def _places(root: dict[str, Any], finding: Finding) -> list[tuple[dict[str, Any], str]]:
    steps = [part.replace("~1", "/").replace("~0", "~") for part in finding.pointer.split("/")[1:]]
    name = steps.pop() if finding.kind in _AT_PARENT and steps else ""
    here = [root, *_parts(root, root, frozenset())]
    for part in steps:
        here = [found for schema in here for found in _down(root, schema, part)][:_PLACES]
    return [(schema, name) for schema in here]


def _down(root: dict[str, Any], schema: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    holders: list[tuple[Any, Any]] = [(schema.get("properties"), part)]
    if part == "*":
        holders += [(schema, "items"), (schema, "additionalProperties")]
        holders += [(schema.get("patternProperties"), name) for name in schema.get("patternProperties", {})]
        holders += [(schema.get("prefixItems"), index) for index in range(len(schema.get("prefixItems", ())))]
    for holder, key in holders:
        found = holder[key] if isinstance(holder, list) else holder.get(key) if isinstance(holder, dict) else None
        if isinstance(found, dict):
            yield from _own(root, found, (holder, key), frozenset())


def _own(
    root: dict[str, Any], schema: dict[str, Any], at: tuple[Any, Any], met: frozenset[str]
) -> Iterator[dict[str, Any]]:
    """List the schemas that hold at one place, after a reference was replaced by a copy: others may refer to the same."""
    reference = schema.get("$ref")
    meant = target(root, reference) if isinstance(reference, str) and reference not in met else None
    if isinstance(meant, dict):
        met |= {str(reference)}
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {"allOf": [copy.deepcopy(meant), rest]} if rest else copy.deepcopy(meant)
        holder, key = at
        holder[key] = schema
        yield from _own(root, schema, at, met)
        return
    yield schema
    yield from _parts(root, schema, met)


def _parts(root: dict[str, Any], schema: dict[str, Any], met: frozenset[str]) -> Iterator[dict[str, Any]]:
    for word in ("allOf", "anyOf", "oneOf"):
        for index, one in enumerate(schema.get(word, ())):
            if isinstance(one, dict):
                yield from _own(root, one, (schema[word], index), met)


_PLACES = 64
"""Schemas of one place that an accepted difference loosens; what a choice of more forms hides is known by its fingerprint."""


def _loosen(schema: dict[str, Any], name: str, finding: Finding) -> None:
    kind = finding.kind
    if kind in _AT_PARENT:
        _loosen_parent(schema, name, kind)
    elif kind is Kind.BECAME_NULL:
        _also(schema, "null")
    elif kind in _TYPED:
        _also(schema, finding.after)
        _drop(schema, "enum", "const", "format")
    elif kind in _LISTED:
        _drop(schema, "enum", "const", "x-extensible-enum")
    elif kind is Kind.BOUND_LOOSENED:
        _drop(schema, *(word for word in BOUNDS if finding.before.startswith(f"{word} ")))
    elif kind in _WORDS:
        _drop(schema, _WORDS[kind])


def _loosen_parent(schema: dict[str, Any], name: str, kind: Kind) -> None:
    if kind is not Kind.FIELD_ADDED:
        schema["required"] = [one for one in schema.get("required", ()) if one != name]
    elif name == "*":
        schema["additionalProperties"] = True
    else:
        # One sample promises nothing about the field, only that it is known.
        schema.setdefault("properties", {}).setdefault(name, {})


def _drop(schema: dict[str, Any], *words: str) -> None:
    for word in words:
        schema.pop(word, None)


def _also(schema: dict[str, Any], kind: str) -> None:
    if "type" in schema:
        types = [schema["type"]] if isinstance(schema["type"], str) else list(schema["type"])
        schema["type"] = types if kind in types else [*types, kind]
    if kind == "null" and isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]

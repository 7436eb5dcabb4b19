"""The response-side table: every kind of difference between a contract and what came, its level, and its words.

We consume answers: what an old reader can still read is lawful (reference for the levels: oasdiff's rules, read from the reader's side).
A finding never holds a value of an answer: `before` and `after` are names of types, formats and keywords.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import msgspec

from schemas.codec import sha256

FINGERPRINT = "v1"
"""Version of what a fingerprint is made of."""


class Level(StrEnum):
    """How much a difference matters, worst first."""

    BREAKING = "breaking"
    RISKY = "risky"
    SEMANTIC = "semantic"
    COMPATIBLE = "compatible"


class Kind(StrEnum):
    """Every difference there is."""

    REQUIRED_MISSING = "required_missing"
    BECAME_OPTIONAL = "became_optional"
    TYPE_CHANGED = "type_changed"
    TYPE_WIDENED = "type_widened"
    NUMBER_AS_TEXT = "number_as_text"
    TEXT_AS_NUMBER = "text_as_number"
    BECAME_NULL = "became_null"
    CONST_CHANGED = "const_changed"
    BOUND_LOOSENED = "bound_loosened"
    PATTERN_CHANGED = "pattern_changed"
    BRANCH_ADDED = "branch_added"
    NO_BRANCH_FITS = "no_branch_fits"
    WRAPPED = "wrapped"
    MEDIA_TYPE_CHANGED = "media_type_changed"
    RULE_BROKEN = "rule_broken"
    OPTIONAL_REMOVED = "optional_removed"
    ENUM_VALUE_ADDED = "enum_value_added"
    DEPRECATED = "deprecated"
    SUNSET = "sunset"
    INTEGER_TOO_LARGE = "integer_too_large"
    INTEGER_AS_DECIMAL = "integer_as_decimal"
    FORMAT_CHANGED = "format_changed"
    EMPTY_FOR_NULL = "empty_for_null"
    ERROR_WITH_SUCCESS = "error_with_success"
    FIELD_ADDED = "field_added"
    EXTENSIBLE_VALUE_ADDED = "extensible_value_added"
    BECAME_REQUIRED = "became_required"
    BECAME_NOT_NULL = "became_not_null"
    ENUM_VALUE_REMOVED = "enum_value_removed"
    TYPE_NARROWED = "type_narrowed"
    BOUND_TIGHTENED = "bound_tightened"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: the level of a kind, and what people are told; `{at}`, `{before}` and `{after}` are filled in."""

    level: Level
    sentence: str
    action: str


_JUDGE = "If the new answer is right: sluice contracts accept {tool} {fingerprint} --reason …; else ask the vendor."
_READ = "Check that whoever reads {at} can deal with it; then: sluice contracts accept {tool} {fingerprint} --reason …"
_NOTHING = "Nothing to do; to have it known: sluice contracts accept {tool} {fingerprint} --reason …"


def _breaking(sentence: str) -> Rule:
    return Rule(Level.BREAKING, sentence, _JUDGE)


def _risky(sentence: str, action: str = _READ) -> Rule:
    return Rule(Level.RISKY, sentence, action)


def _semantic(sentence: str) -> Rule:
    return Rule(Level.SEMANTIC, sentence, _READ)


def _compatible(sentence: str) -> Rule:
    return Rule(Level.COMPATIBLE, sentence, _NOTHING)


RULES: Mapping[Kind, Rule] = MappingProxyType(
    {
        Kind.REQUIRED_MISSING: _breaking("{at} is missing, but it is promised in every answer."),
        Kind.BECAME_OPTIONAL: _breaking("{at} was promised in every answer and is now optional."),
        Kind.TYPE_CHANGED: _breaking("{at} was {before} and is now {after}."),
        Kind.TYPE_WIDENED: _breaking("{at} was {before} and can now also be {after}."),
        Kind.NUMBER_AS_TEXT: _breaking("{at} was {before} and now comes as text that holds a number."),
        Kind.TEXT_AS_NUMBER: _breaking("{at} was {before} and now comes as a bare number."),
        Kind.BECAME_NULL: _breaking("{at} can now be null; it was always {before}."),
        Kind.CONST_CHANGED: _breaking("{at} always had one value and now has another."),
        Kind.BOUND_LOOSENED: _breaking("{at} goes beyond its bound ({before})."),
        Kind.PATTERN_CHANGED: _breaking("{at} no longer looks as promised ({before})."),
        Kind.BRANCH_ADDED: _breaking("{at} can now take a form that it could not take before."),
        Kind.NO_BRANCH_FITS: _breaking("{at} takes none of the forms that are promised."),
        Kind.WRAPPED: _breaking("{at} is now wrapped: what was there lies one level deeper."),
        Kind.MEDIA_TYPE_CHANGED: _breaking("The answer is no longer {before} but {after}."),
        Kind.RULE_BROKEN: _breaking("{at} breaks a rule of its schema ({before})."),
        Kind.OPTIONAL_REMOVED: _risky("{at} was optional and is gone."),
        Kind.ENUM_VALUE_ADDED: _risky("{at} has a value that was not among the known ones."),
        Kind.DEPRECATED: _risky(
            "The vendor says that this operation is deprecated ({after}).",
            "Plan the move to the successor that the vendor names; then: sluice contracts accept {tool} {fingerprint} --reason …",
        ),
        Kind.SUNSET: _risky(
            "The vendor says that this operation goes away ({after}).",
            "Move to the successor before that day; then: sluice contracts accept {tool} {fingerprint} --reason …",
        ),
        Kind.INTEGER_TOO_LARGE: _semantic("{at} is an integer beyond 2^53, which many readers round."),
        Kind.INTEGER_AS_DECIMAL: _semantic("{at} is {before}, but is written with a decimal point."),
        Kind.FORMAT_CHANGED: _semantic("{at} no longer has the format {before}."),
        Kind.EMPTY_FOR_NULL: _semantic("{at} is an empty text where null or {before} was meant."),
        Kind.ERROR_WITH_SUCCESS: _semantic("The status says success, but {at} says that something went wrong."),
        Kind.FIELD_ADDED: _compatible("{at} is new ({after})."),
        Kind.EXTENSIBLE_VALUE_ADDED: _compatible("{at} has a new value; its list is declared to be open."),
        Kind.BECAME_REQUIRED: _compatible("{at} was optional and is now always there."),
        Kind.BECAME_NOT_NULL: _compatible("{at} can no longer be null."),
        Kind.ENUM_VALUE_REMOVED: _compatible("{at} no longer has some of its known values."),
        Kind.TYPE_NARROWED: _compatible("{at} was {before} and is now only {after}."),
        Kind.BOUND_TIGHTENED: _compatible("{at} keeps to a narrower bound ({after})."),
    }
)
UNDATED = frozenset({Kind.DEPRECATED, Kind.SUNSET})
"""Kinds whose `after` is a date: the same finding when the vendor moves it."""
_ORDER = {level: place for place, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference at a place, before it has words; hashable, so that equal ones are one."""

    kind: Kind
    pointer: str
    """JSON pointer (RFC 6901) with `*` for array indices and for keys that are data; empty: the whole answer."""
    before: str = ""
    after: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A difference in words, with a name that is the same in every call."""

    level: Level
    kind: Kind
    pointer: str
    before: str
    after: str
    sentence: str
    action: str
    fingerprint: str


def finding(change: Change, tool: str) -> Finding:
    """Return a difference in an operation's answers in words."""
    rule, mark = RULES[change.kind], fingerprint(change, tool)
    at = change.pointer or "the answer"
    sentence = rule.sentence.format(at=at, before=change.before, after=change.after)
    return Finding(
        level=rule.level,
        kind=change.kind,
        pointer=change.pointer,
        before=change.before,
        after=change.after,
        sentence=sentence[:1].upper() + sentence[1:],
        action=rule.action.format(at=at, tool=tool, fingerprint=mark),
        fingerprint=mark,
    )


def fingerprint(change: Change, tool: str) -> str:
    """Name a difference; approvals are kept under it."""
    after = "" if change.kind in UNDATED else change.after
    digest = sha256(FINGERPRINT, tool, change.kind, change.pointer, change.before, after)
    return f"{FINGERPRINT}:{digest[:12]}"


def worst_first(found: Finding) -> tuple[int, str, str]:
    """Sort key."""
    return _ORDER[found.level], found.pointer, found.kind

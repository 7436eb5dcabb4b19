"""Answers against what their operation promises: compiled once, judged in one validation, told in findings.

Only a validator says whether an answer breaks its contract; the walk beside it says how. Never raises for what an answer holds, never
fetches a reference, and nothing of an answer's values is in a finding.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from connectors.arguments import compile_schema
from connectors.declared import Operation
from connectors.lifecycle_headers import announced
from schemas.contracts.baseline import Baseline, overlaid
from schemas.contracts.drift import MOST, observe
from schemas.contracts.finding import RULES, Change, Finding, Kind, Level, finding, worst_first
from schemas.contracts.sample import sample, words
from schemas.contracts.shape import Shapes, plain_null, undeclared
from schemas.contracts.twin import decimal, integers, only_stricter, twin

UNCHECKED: Final = "unchecked"
OK: Final = "ok"

_BODILESS = frozenset({204, 205})
_ERRORS = 50
_JSON = re.compile(r"(application|text)/([a-z0-9.+-]*\+)?json")
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,40}/[a-z0-9!#$&^_.+-]{1,60}")
_ADDITIONS = frozenset({Kind.FIELD_ADDED, Kind.EXTENSIBLE_VALUE_ADDED})
_CLOSED = frozenset({"additionalProperties", "unevaluatedProperties", "enum", "anyOf", "oneOf"})
_WALKED = frozenset(
    {
        *("type", "required", "enum", "const", "additionalProperties", "unevaluatedProperties", "anyOf", "oneOf"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
        *("minItems", "maxItems", "minProperties", "maxProperties"),
    }
)
"""Rules for which the walk has words of its own."""
_COUNTED = ("minItems", "maxItems", "minProperties", "maxProperties")
_COUNTS = frozenset({*_COUNTED, "uniqueItems", "contains", "minContains", "maxContains"})
"""Rules about how many there are of something."""


Baselines = Callable[[Operation], Baseline | None]
"""What was decided about an operation's findings; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a look at one answer found, worst first, without what is accepted."""

    judged: bool
    """Whether there was a contract to hold it against."""
    findings: tuple[Finding, ...] = ()

    @property
    def breaking(self) -> bool:
        """Whether the contract is broken."""
        return bool(self.findings) and self.findings[0].level is Level.BREAKING

    @property
    def contract(self) -> str:
        """Return `unchecked`, `ok`, or the worst finding as `level:kind pointer`; additions are `ok`."""
        worst = self.findings[0] if self.findings else None
        if worst is not None and worst.level is not Level.COMPATIBLE:
            return f"{worst.level}:{worst.kind} {worst.pointer}".rstrip()
        return OK if self.judged else UNCHECKED


class _Compiled:
    """One schema, its twin, and where its whole numbers are."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        plain = plain_null(schema)
        self.lenient = compile_schema(plain)  # first: what it takes is a schema
        self.shapes = Shapes(plain)
        self.words = words(plain)
        strict = twin(plain)
        # As the lenient one, but with formats: that is half of what the twin is for.
        self.strict = jsonschema_rs.validator_for(
            strict, offline=True, pattern_options=jsonschema_rs.RegexOptions(), mask="the value", validate_formats=True
        )
        self.one_look = only_stricter(plain)
        self.integers = integers(plain)

    def fits(self, result: Any) -> bool:
        """Tell whether there is nothing to tell."""
        if not self.strict.is_valid(result) or any(decimal(result, path) for path in self.integers):
            return False
        return self.one_look or self.lenient.is_valid(result)

    def changes(self, result: Any) -> list[Change]:
        """Say how an answer differs; what it costs does not grow with the answer."""
        first = _first_error(self.lenient, result)
        lying = [one.instance_path for one in (first, _first_error(self.strict, result)) if one is not None]
        part, cut = sample(result, self.words, lying)
        seen = observe(self.shapes, part)
        if first is None:
            # The walk may be wrong about rules that it does not know; the validator is not.
            return [one for one in seen if RULES[one.kind].level in {Level.COMPATIBLE, Level.SEMANTIC}]
        errors = list(islice(self.lenient.iter_errors(part), _ERRORS))
        if cut:
            # How many there are of something is true of the whole only.
            seen = [one for one in seen if not one.before.startswith(_COUNTED)]
            errors = [*(one for one in errors if _rule(one) not in _COUNTS), first]
        return [*seen, *dict.fromkeys(_by_rule(error) for error in errors if not _explained(error, seen))]


def _first_error(validator: "jsonschema_rs.Validator", result: Any) -> "jsonschema_rs.ValidationError | None":
    """Return one error without looking for the others, which takes long where there are many."""
    try:
        validator.validate(result)
    except jsonschema_rs.ValidationError as error:
        return error
    return None


def _explained(error: "jsonschema_rs.ValidationError", seen: list[Change]) -> bool:
    """Tell whether the walk has told of a broken rule in its own words."""
    rule = _rule(error)
    if rule not in _WALKED or isinstance(error.kind, jsonschema_rs.ValidationErrorKind.OneOfMultipleValid):
        return False
    if any(RULES[one.kind].level in {Level.BREAKING, Level.RISKY} for one in seen):
        return True
    # Nothing told so far is worse than an addition: that explains a place that is closed, and a form that is.
    at = "".join(_steps(error.instance_path))
    return any(one.kind in _ADDITIONS and one.pointer.startswith(at) for one in seen) and rule in _CLOSED


class Contract:
    """What the answers of one operation are held against."""

    def __init__(self, tool: str, schema: Mapping[str, Any] | None, baseline: Baseline | None = None) -> None:
        """`schema` None: there is nothing to judge but headers. Raises `SchemaError` for one that cannot be used."""
        self.tool = tool
        self.version = baseline.version if baseline else 0
        effective = overlaid(schema, baseline) if schema is not None and baseline else schema
        self._compiled = None if effective is None else _Compiled(effective)
        verdicts = baseline.verdicts() if baseline else {}
        self._accepted = frozenset(mark for mark, verdict in verdicts.items() if verdict == "accepted")

    def check(self, status: int, headers: Mapping[str, str], result: Any) -> Checked:
        """Judge one answer; `headers` by lower-case name, `result` as decoded. Only a success with a body is judged."""
        judged = self._compiled is not None and 200 <= status <= 299 and status not in _BODILESS
        changes = list(announced(headers))
        if judged:
            changes += self._changes(headers, result)
        if not changes:
            return Checked(judged=judged)
        found = [finding(change, self.tool) for change in dict.fromkeys(changes)]
        kept = sorted((one for one in found if one.fingerprint not in self._accepted), key=worst_first)
        return Checked(judged=judged, findings=tuple(kept[:MOST]))

    def _changes(self, headers: Mapping[str, str], result: Any) -> list[Change]:
        if self._compiled is None or self._compiled.fits(result):
            return []
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not _JSON.fullmatch(kind):
            after = kind if _MEDIA_TYPE.fullmatch(kind) else "another type"
            return [Change(Kind.MEDIA_TYPE_CHANGED, "", "application/json", after)]
        return self._compiled.changes(result)


class ContractGuard:
    """The contracts of every operation that was called, each compiled when it is first needed and again when its baseline changes."""

    def __init__(self, baselines: Baselines) -> None:
        """`baselines` is asked before each check and must be quick."""
        self._baselines = baselines
        self._contracts: dict[str, tuple[Operation, Contract]] = {}

    def check(self, operation: Operation, status: int, headers: Mapping[str, str], result: Any) -> Checked:
        """Judge one answer of an operation."""
        return self._contract(operation).check(status, headers, result)

    def _contract(self, operation: Operation) -> Contract:
        baseline = self._baselines(operation)
        known = self._contracts.get(operation.tool)
        if known is not None and known[0] is operation and known[1].version == (baseline.version if baseline else 0):
            return known[1]
        contract = Contract(operation.tool, operation.output_schema, baseline)
        self._contracts[operation.tool] = (operation, contract)
        return contract


def _rule(error: "jsonschema_rs.ValidationError") -> str:
    return next((str(part) for part in reversed(error.schema_path) if isinstance(part, str)), "")


def _by_rule(error: "jsonschema_rs.ValidationError") -> Change:
    rule, pointer = _rule(error), "".join(_steps(error.instance_path))
    if rule == "pattern":
        return Change(Kind.PATTERN_CHANGED, pointer, "a pattern")
    return Change(Kind.RULE_BROKEN, pointer, rule[:40])


def _steps(path: list[str | int]) -> Iterator[str]:
    for part in path:
        yield "/*" if isinstance(part, int) else undeclared("", part)

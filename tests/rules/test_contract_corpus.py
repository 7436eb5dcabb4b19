"""The labelled corpus: mutations of answers and schemas with the findings they must give, and changes that must give none.

The labels are people's reading of the response-side table; precision and recall are printed and are a gate.
"""

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectors.contract_guard import Contract
from schemas.contracts.compare import compare
from schemas.contracts.finding import RULES, Level
from schemas.contracts.shape import plain_null

CORPUS = Path(__file__).parents[1] / "corpus" / "contracts"
ANSWERS = ("contact", "invoice", "feed")
JSON = {"content-type": "application/json"}

Found = tuple[str, str, str]
"""Level, kind, pointer."""


@dataclass(frozen=True)
class Labelled:
    name: str
    expected: frozenset[Found]
    found: frozenset[Found]


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CORPUS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def changed(base: Any, case: dict[str, Any]) -> Any:
    answer = copy.deepcopy(case.get("answer", base))
    for pointer, value in case.get("set", {}).items():
        holder, key = reach(answer, pointer)
        holder[key] = value
    for pointer in case.get("remove", ()):
        holder, key = reach(answer, pointer)
        del holder[key]
    if case.get("reorder"):
        answer = reordered(answer)
    return json.loads(json.dumps(answer, indent=4 if case.get("spaced") else None))


def reach(answer: Any, pointer: str) -> tuple[Any, Any]:
    *above, last = pointer.split("/")[1:]
    for part in above:
        answer = answer[int(part) if isinstance(answer, list) else part]
    return answer, int(last) if isinstance(answer, list) else last


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in sorted(value, reverse=True)}
    return [reordered(one) for one in value] if isinstance(value, list) else value


def labels(case: dict[str, Any]) -> frozenset[Found]:
    return frozenset((one["level"], one["kind"], one["pointer"]) for one in case.get("expect", ()))


def answers(group: str) -> Iterator[Labelled]:
    for name in ANSWERS:
        corpus = load(name)
        contract = Contract(f"crm.{name}", corpus["schema"])
        for case in corpus[group]:
            checked = contract.check(200, JSON | case.get("headers", {}), changed(corpus["base"], case))
            found = frozenset((one.level.value, one.kind.value, one.pointer) for one in checked.findings)
            yield Labelled(f"{name}: {case['name']}", labels(case), found)


def schemas(group: str) -> Iterator[Labelled]:
    for case in load("schemas")[group]:
        changes = compare(plain_null(case["old"]), plain_null(case["new"]))
        found = frozenset((RULES[one.kind].level.value, one.kind.value, one.pointer) for one in changes)
        yield Labelled(f"schemas: {case['name']}", labels(case), found)


MUTATIONS = [*answers("cases"), *schemas("cases")]
UNCHANGED = [*answers("same"), *schemas("same")]


@pytest.mark.parametrize("case", MUTATIONS, ids=lambda case: case.name)
def test_a_mutation_gives_the_findings_it_is_labelled_with(case: Labelled) -> None:
    assert case.found == case.expected


@pytest.mark.parametrize("case", UNCHANGED, ids=lambda case: case.name)
def test_what_is_no_change_is_never_told(case: Labelled) -> None:
    assert case.found == frozenset()


def test_the_corpus_is_large_enough_and_knows_every_level() -> None:
    assert len(MUTATIONS) >= 60
    assert len(UNCHANGED) >= 20
    assert {level for case in MUTATIONS for level, _, _ in case.expected} == {level.value for level in Level}


def test_precision_and_recall_are_printed_and_hold(record_property: Callable[[str, object], None]) -> None:
    hit, false, missed = Counter[str](), Counter[str](), Counter[str]()
    for case in [*MUTATIONS, *UNCHANGED]:
        hit.update(level for level, _, _ in case.found & case.expected)
        false.update(level for level, _, _ in case.found - case.expected)
        missed.update(level for level, _, _ in case.expected - case.found)
    rates = {level: (share(hit[level], false[level]), share(hit[level], missed[level])) for level in Level}
    told = "; ".join(f"{level} {precision:.3f} / {recall:.3f}" for level, (precision, recall) in rates.items())
    # Shown at the end of every run, see `tests/conftest.py`.
    record_property(
        "summary",
        f"contracts: {len(MUTATIONS)} mutations, {len(UNCHANGED)} without a change; precision / recall: {told}",
    )
    assert min(rates[Level.BREAKING]) >= 0.98
    assert min(rate for pair in rates.values() for rate in pair) >= 0.95


def share(right: int, wrong: int) -> float:
    return right / (right + wrong) if right + wrong else 1.0

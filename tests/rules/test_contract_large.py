"""Large answers: what they are told to differ in costs little, is the same as for small ones, and is never the sample's own."""

import time
from typing import Any

import pytest

from connectors.contract_guard import Contract
from schemas.contracts.finding import Kind, Level
from tests.rules.test_contract_corpus import JSON
from tests.rules.test_contract_guard import SCHEMA

FORMS = [
    {"type": "object", "required": ["t", f"a{n}"], "properties": {"t": {"const": f"{n}"}, f"a{n}": {"type": "string"}}}
    for n in range(6)
]
LARGE = [
    ("all items break", SCHEMA, {"id": "a", "rows": [{"k": n} for n in range(60_000)]}, ["/rows/*/k"]),
    (
        "all items have more",
        SCHEMA,
        {"id": "a", "rows": [{"k": "v", "new": n} for n in range(60_000)]},
        ["/rows/*/new"],
    ),
    ("no item fits a form", {"type": "array", "items": {"oneOf": FORMS}}, [{"t": "9"} for _ in range(40_000)], ["/*"]),
    ("lists in lists", {"items": {"items": {"items": {"type": "string"}}}}, [[[1] * 100] * 100] * 100, ["/*/*/*"]),
]


@pytest.mark.parametrize(("schema", "answer", "pointers"), [one[1:] for one in LARGE], ids=[one[0] for one in LARGE])
def test_telling_of_a_large_answer_takes_milliseconds(schema: Any, answer: Any, pointers: list[str]) -> None:
    contract, spent = Contract("crm.x", schema), list[float]()
    for _ in range(3):
        started_s = time.thread_time()
        checked = contract.check(200, JSON, answer)
        spent.append(time.thread_time() - started_s)
        assert [one.pointer for one in checked.findings] == pointers
    # Measured: 5 to 10 ms for a megabyte; a look at everything takes 100 ms to 4 s.
    assert min(spent) < 0.06, spent


@pytest.mark.parametrize(
    ("late", "kinds"),
    [
        ({"k": 1}, [Kind.TEXT_AS_NUMBER]),
        ({}, [Kind.REQUIRED_MISSING]),
        ({"k": "v", "new": 1}, [Kind.FIELD_ADDED]),
        ({"k": None}, [Kind.BECAME_NULL]),
    ],
)
def test_one_item_among_thousands_is_found_and_has_the_same_name(late: Any, kinds: list[Kind]) -> None:
    contract = Contract("crm.x", SCHEMA)
    rows: list[Any] = [{"k": "v"} for _ in range(5000)]
    far = contract.check(200, JSON, {"id": "a", "rows": [*rows, late, *rows]})
    near = contract.check(200, JSON, {"id": "a", "rows": [late]})
    assert [one.kind for one in far.findings] == kinds
    assert far == near


@pytest.mark.parametrize("word", ["minItems", "maxItems"])
def test_a_count_is_judged_by_the_whole_and_never_by_the_sample(word: str) -> None:
    contract = Contract("crm.x", {"type": "array", word: 300, "items": {"type": "integer"}})
    assert contract.check(200, JSON, [1] * 300).contract == "ok"
    assert contract.check(200, JSON, [2**60] * 300).contract == "semantic:integer_too_large /*"
    broken = contract.check(200, JSON, [1] * (299 if word == "minItems" else 301))
    assert [(one.level, one.pointer, one.before) for one in broken.findings] == [(Level.BREAKING, "", word)]


def test_a_field_that_is_promised_is_seen_among_thousands_of_keys() -> None:
    schema = {
        "type": "object",
        "required": ["last"],
        "properties": {"last": {}},
        "additionalProperties": {"type": "string"},
    }
    contract, many = Contract("crm.x", schema), {f"k{n}": "v" for n in range(5000)}
    assert contract.check(200, JSON, {**many, "last": 1}).contract == "ok"
    assert [one.pointer for one in contract.check(200, JSON, {**many, "x": 7, "last": 1}).findings] == ["/*"]
    assert [one.pointer for one in contract.check(200, JSON, many).findings] == ["/last"]

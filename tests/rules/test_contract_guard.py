"""The guard and its policy: what is judged, what a broken contract does to a call, what a decision makes lawful, and what is never told."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.arguments import SchemaError, compile_schema
from connectors.contract_files import BaselineFiles, DamagedBaselineError
from connectors.contract_guard import Contract, ContractGuard
from connectors.contract_policy import apply, gate_of, held_because, quarantined
from connectors.declared import Auth, Egress, Operation
from schemas.contracts.baseline import Baseline, decide, overlaid
from schemas.contracts.finding import RULES, Change, Finding, Kind, Level, finding
from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.outcome import Outcome, Reply
from tests.rules.test_contract_corpus import ANSWERS, JSON, MUTATIONS, changed, load

SCHEMA = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string"},
        "kind": {"enum": ["a", "b"]},
        "n": {"type": "integer", "maximum": 9},
        "owner": {"$ref": "#/$defs/owner"},
        "other": {"$ref": "#/$defs/owner"},
        "rows": {
            "type": "array",
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}},
        },
    },
    "$defs": {"owner": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
}
CANARY = "canary-3f9a"


def operation(schema: Any = SCHEMA, op_class: OperationClass = OperationClass.KEYED, **more: Any) -> Operation:
    return Operation(
        tool="crm.contacts.get",
        connector="crm",
        name="contacts.get",
        op_class=op_class,
        method="GET",
        path="/x",
        query={},
        headers={},
        base_url="http://x",
        timeout_s=1,
        max_attempts=1,
        idempotency_header=None,
        idempotency_window_s=None,
        auth=Auth(type="none"),
        egress=Egress(allow_hosts=()),
        input_schema=None,
        output_schema=schema,
        approval_required=False,
        **more,
    )


REPLY = Reply(status=200, headers={}, body=b"{}", truncated=False)
COMPLETED = Outcome(effect=Effect.EXECUTED, status=200, result={"id": 1})


@pytest.mark.parametrize("status", [204, 205, 302, 400, 404, 500])
def test_only_a_success_with_a_body_is_judged(status: int) -> None:
    checked = Contract("crm.x", SCHEMA).check(status, JSON, None)
    assert (checked.judged, checked.contract, checked.findings) == (False, "unchecked", ())


def test_without_a_schema_only_headers_are_read() -> None:
    checked = Contract("crm.x", None).check(200, JSON | {"sunset": "Sun, 11 Nov 2029 23:59:59 GMT"}, {"any": 1})
    assert (checked.judged, [one.kind for one in checked.findings]) == (False, [Kind.SUNSET])
    assert checked.findings[0].after == "on 2029-11-11"
    assert Contract("crm.x", None).check(200, JSON, {"any": 1}).contract == "unchecked"


def test_an_announced_day_that_moves_is_the_same_finding() -> None:
    first, second = (
        Contract("crm.x", None).check(200, {"deprecation": f"@{at}"}, None).findings[0]
        for at in (1_688_169_599, 1_788_169_599)
    )
    assert first.fingerprint == second.fingerprint
    assert (first.after, second.after) == ("since 2023-06-30", "since 2026-08-31")


@pytest.mark.parametrize(
    "header", ["", "soon", "@", "@99999999999999", "@9e9", "Sun, 99 Nov 2029 23:59:59 GMT", "x" * 9000]
)
def test_an_announcement_that_cannot_be_read_is_none(header: str) -> None:
    assert Contract("crm.x", None).check(200, {"deprecation": header, "sunset": header}, None).findings == ()


def test_additions_are_told_but_the_contract_is_kept() -> None:
    checked = Contract("crm.x", SCHEMA).check(200, JSON, {"id": "a", "new": 1})
    assert (checked.contract, checked.breaking, [one.level for one in checked.findings]) == (
        "ok",
        False,
        [Level.COMPATIBLE],
    )


def test_a_fingerprint_is_of_the_tool_the_place_and_the_kind_and_is_the_same_in_every_call() -> None:
    def mark(tool: str, answer: Any) -> str:
        return Contract(tool, SCHEMA).check(200, JSON, answer).findings[0].fingerprint

    assert mark("crm.x", {"id": 1}) == mark("crm.x", {"id": 99, "n": 3})
    assert mark("crm.x", {"id": "a", "rows": [{}]}) == mark("crm.x", {"id": "a", "rows": [{"k": "v"}, {}, {}]})
    assert (
        len({mark("crm.x", {"id": 1}), mark("crm.y", {"id": 1}), mark("crm.x", {}), mark("crm.x", {"id": None})}) == 4
    )
    assert mark("crm.x", {"id": 1}).startswith("v1:")
    assert len(mark("crm.x", {"id": 1})) == len("v1:") + 12


def test_findings_are_few_even_when_everything_differs() -> None:
    schema = {"type": "object", "properties": {f"f{n}": {"type": "string"} for n in range(100)}}
    checked = Contract("crm.x", schema).check(200, JSON, {f"f{n}": n for n in range(100)})
    assert len(checked.findings) == 20


def test_data_that_is_a_key_is_not_in_a_pointer() -> None:
    contract = Contract("crm.x", {"type": "object", "properties": {"m": {"type": "object", "properties": {"a": {}}}}})
    told = contract.check(200, JSON, {"m": {f"{CANARY}@x.de": 1, "20260101": 2, "two words": 3}}).findings
    assert {one.pointer for one in told} == {"/m/*"}
    many = contract.check(200, JSON, {"m": {f"key{'x' * n}": 1 for n in range(50)}}).findings
    assert [one.pointer for one in many] == ["/m/*"]


@pytest.mark.parametrize("name", ANSWERS)
def test_no_value_of_an_answer_is_in_a_finding(name: str) -> None:
    corpus = load(name)
    contract = Contract("crm.x", corpus["schema"])
    for case in corpus["cases"]:
        answer = _with_canaries(changed(corpus["base"], case))
        told = msgspec.json.encode(contract.check(200, JSON | case.get("headers", {}), answer).findings)
        assert CANARY.encode() not in told, case["name"]


def _with_canaries(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_canaries(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_canaries(one) for one in value]
    return value + CANARY if isinstance(value, str) else value


def test_rules_that_the_walk_has_no_words_for_still_break() -> None:
    schema = {"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}}
    (told,) = Contract("crm.x", schema).check(200, JSON, {"a": 1}).findings
    assert (told.level, told.kind, told.before) == (Level.BREAKING, Kind.RULE_BROKEN, "dependentRequired")
    unsure = {"not": {"required": ["x"], "properties": {"x": {"type": "integer"}}}, "type": "object"}
    assert Contract("crm.x", unsure).check(200, JSON, {"x": 1}).breaking
    assert Contract("crm.x", unsure).check(200, JSON, {"x": "1"}).contract == "ok"


def test_a_rule_that_only_a_closed_twin_would_satisfy_is_still_broken() -> None:
    forms = {"oneOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "integer"}}}]}
    assert Contract("crm.x", forms).check(200, JSON, {"a": 2**60}).breaking  # both forms fit, which oneOf forbids


def test_a_new_field_of_a_closed_form_is_an_addition() -> None:
    fields = {"object": {"const": "x"}, "a": {"type": "integer"}}
    closed = {"type": "object", "required": ["a"], "properties": fields, "additionalProperties": False}
    contract = Contract("crm.x", {"oneOf": [closed, {"type": "string"}]})
    told = contract.check(200, JSON, {"a": 1, "b": 2}).findings
    assert [(one.kind, one.pointer) for one in told] == [(Kind.FIELD_ADDED, "/b")]


def test_a_recursive_schema_and_a_deep_answer_end() -> None:
    fields = {"next": {"$ref": "#/$defs/n"}, "v": {"type": "integer"}}
    node = {"$defs": {"n": {"type": "object", "properties": fields}}, "$ref": "#/$defs/n"}
    answer: Any = {"v": "x"}
    for _ in range(60):
        answer = {"next": answer}
    assert Contract("crm.x", node).check(200, JSON, answer).findings[0].pointer == "/next" * 60 + "/v"


@pytest.mark.parametrize(
    ("policy", "op_class", "failure", "effect", "held"),
    [
        ("warn", OperationClass.KEYED, None, Effect.EXECUTED, False),
        ("warn", OperationClass.SAFE, None, Effect.NOT_EXECUTED, False),
        ("quarantine_writes", OperationClass.KEYED, None, Effect.EXECUTED, True),
        ("quarantine_writes", OperationClass.UNSAFE, None, Effect.EXECUTED, True),
        ("quarantine_writes", OperationClass.SAFE, None, Effect.NOT_EXECUTED, False),
        ("block", OperationClass.KEYED, Failure.SCHEMA_BREAKING, Effect.EXECUTED, False),
        ("block", OperationClass.UNSAFE, Failure.SCHEMA_BREAKING, Effect.EXECUTED, False),
        ("block", OperationClass.SAFE, Failure.SCHEMA_BREAKING, Effect.NOT_EXECUTED, False),
    ],
)
def test_what_a_broken_contract_does(
    policy: Any, op_class: OperationClass, failure: Failure | None, effect: Effect, *, held: bool
) -> None:
    declared = operation(op_class=op_class, on_breaking=policy)
    before = msgspec.structs.replace(COMPLETED, effect=effect)
    after = apply(before, Contract("crm.x", SCHEMA).check(200, JSON, {"id": 1}), declared, REPLY)
    assert (after.failure, after.effect, after.contract) == (failure, effect, "breaking:text_as_number /id")
    assert [one.pointer for one in after.findings] == ["/id"]
    assert (after.result is None) == (after.reply is REPLY) == (failure is not None)
    assert quarantined(after, declared) == held
    assert "sluice contracts show crm.x" in held_because(after, "crm.x")


def test_the_gate_is_that_of_the_operation_on_its_connection() -> None:
    assert gate_of(operation(), "main") == "@crm|main|contacts.get"
    assert gate_of(operation(), None) == "@crm||contacts.get"


@pytest.mark.parametrize("answer", [{"id": "a"}, {"id": "a", "new": 1}, {"id": "a", "kind": "c"}])
def test_what_is_not_breaking_fails_nothing(answer: Any) -> None:
    after = apply(COMPLETED, Contract("crm.x", SCHEMA).check(200, JSON, answer), operation(), REPLY)
    assert (after.failure, after.result, after.reply) == (None, COMPLETED.result, None)
    assert not quarantined(after, operation(on_breaking="quarantine_writes"))


ACCEPTABLE = [
    {"id": 1},
    {"id": None},
    {},
    {"id": "a", "kind": "c"},
    {"id": "a", "n": 10},
    {"id": "a", "n": 1.5},
    {"id": "a", "n": 1.0},
    {"id": "a", "n": "7"},
    {"id": "a", "new": 1},
    {"id": "a", "owner": {}},
    {"id": "a", "owner": None},
    {"id": "a", "rows": [{"k": None}]},
    {"id": "a", "rows": [{}]},
    {"data": {"id": "a"}},
    [],
]


@pytest.mark.parametrize("answer", ACCEPTABLE, ids=json.dumps)
def test_what_is_accepted_is_lawful_and_nothing_else_is(answer: Any) -> None:
    baseline = Baseline(tool="crm.x")
    for one in Contract("crm.x", SCHEMA).check(200, JSON, answer).findings:
        baseline = decide(baseline, one, "accepted", by="me", at="now", reason="x")
    contract = Contract("crm.x", SCHEMA, baseline)
    assert contract.check(200, JSON, answer).contract == "ok"
    assert contract.check(200, JSON, {"id": "a"}).contract == "ok"
    assert contract.check(200, JSON, {"id": "a", "other": {}}).breaking  # the same definition, another place
    assert contract.check(200, JSON, {"id": ["x"]}).breaking


def test_what_is_rejected_is_told_again_and_a_decision_can_be_taken_back() -> None:
    (one,) = Contract("crm.x", SCHEMA).check(200, JSON, {"id": 1}).findings
    rejected = decide(Baseline(tool="crm.x"), one, "rejected", by="me", at="1", reason="x")
    assert Contract("crm.x", SCHEMA, rejected).check(200, JSON, {"id": 1}).breaking
    assert decide(rejected, one, "rejected", by="you", at="2", reason="y") is rejected
    accepted = decide(rejected, one, "accepted", by="you", at="2", reason="y")
    assert (accepted.version, len(accepted.history), accepted.verdicts()) == (2, 2, {one.fingerprint: "accepted"})
    again = decide(accepted, one, "rejected", by="me", at="3", reason="z")
    assert overlaid(SCHEMA, again) == SCHEMA


def test_an_overlay_leaves_the_declared_schema_as_it_is() -> None:
    before = json.dumps(SCHEMA)
    (one,) = Contract("crm.x", SCHEMA).check(200, JSON, {"id": "a", "owner": {}}).findings
    overlaid(SCHEMA, decide(Baseline(tool="crm.x"), one, "accepted", by="me", at="1", reason="x"))
    assert json.dumps(SCHEMA) == before


def test_baselines_are_files_with_every_version_of_them(tmp_path: Path) -> None:
    files, declared = BaselineFiles(tmp_path / "contracts"), operation()
    guard = ContractGuard(files.of)
    (one,) = guard.check(declared, 200, JSON, {"id": 1}).findings
    assert files.of(declared) is None
    written = BaselineFiles(tmp_path / "contracts").change(
        declared, lambda before: decide(before, one, "accepted", by="me", at="1", reason="x")
    )
    assert written.version == 1
    assert guard.check(declared, 200, JSON, {"id": 1}).contract == "ok"  # another process wrote it; no restart
    path = tmp_path / "contracts" / "crm" / "contacts.get.json"
    told = json.loads(path.read_text())
    assert (told["version"], told["decisions"][0]["by"], told["history"][0]["reason"]) == (1, "me", "x")
    assert [other.name for other in path.parent.iterdir() if other.suffix == ".new"] == []
    path.write_text("{")
    assert guard.check(declared, 200, JSON, {"id": 1}).breaking  # nothing is lawful because of a damaged file
    with pytest.raises(DamagedBaselineError):
        files.change(declared, lambda before: before)
    assert path.read_text() == "{"


def test_a_new_manifest_is_used_at_once() -> None:
    guard = ContractGuard(lambda _: None)
    assert guard.check(operation(), 200, JSON, {"id": 1}).breaking
    changed_schema = {**SCHEMA, "properties": {}}
    assert not guard.check(
        dataclasses.replace(operation(), output_schema=changed_schema), 200, JSON, {"id": 1}
    ).breaking


def test_every_kind_has_words_and_says_what_to_do() -> None:
    assert set(RULES) == set(Kind)
    for kind in Kind:
        told: Finding = finding(Change(kind, "/a/b", "integer", "string"), "crm.x")
        assert "{" not in told.sentence + told.action
        assert told.sentence.endswith(".")
        assert told.fingerprint in told.action


def test_mutations_are_mostly_breaking() -> None:
    assert sum(any(level == "breaking" for level, _, _ in case.expected) for case in MUTATIONS) >= 60


SCALARS = st.sampled_from(["string", "integer", "number", "boolean", "null"])
LEAVES = st.one_of(
    st.builds(lambda kind: {"type": kind}, SCALARS),
    st.builds(lambda kind: {"type": [kind, "null"]}, SCALARS),
    st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from(["a", "b", 1, None]), min_size=1, unique=True)),
    st.just({"type": "string", "format": "date"}),
    st.just({"type": "string", "minLength": 2}),
    st.just({"type": "integer", "maximum": 3}),
    st.just({"$ref": "#/$defs/d"}),
)
NAMES = st.sampled_from(["a", "b", "c"])


def below(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(NAMES, inner, max_size=3)
    closed = st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": True}])
    return st.one_of(
        st.builds(
            lambda some, need, shut: {"type": "object", "properties": some, "required": need, **shut},
            fields,
            st.lists(NAMES, max_size=2, unique=True),
            closed,
        ),
        st.builds(lambda one: {"type": "array", "items": one}, inner),
        st.builds(
            lambda word, some: {word: some},
            st.sampled_from(["anyOf", "oneOf", "allOf"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda one: {"not": one}, inner),
        st.builds(lambda some: {"type": "object", "additionalProperties": some}, inner),
    )


SCHEMAS = st.recursive(LEAVES, below, max_leaves=6)
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 4, 1.0, 1.5, 2**60, "", "a", "7", "2026-11-20"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=600, deadline=None)
@given(schema=SCHEMAS, definition=SCHEMAS, answer=VALUES)
def test_the_validator_has_the_last_word_whatever_schema_and_answer_are(
    schema: Any, definition: Any, answer: Any
) -> None:
    whole = {**schema, "$defs": {"d": definition}}
    try:
        valid = compile_schema(whole).is_valid(answer)
        contract = Contract("crm.x", whole)
    except SchemaError:
        return
    checked = contract.check(200, JSON, answer)
    levels = {one.level for one in checked.findings}
    if valid:
        assert levels <= {Level.COMPATIBLE, Level.SEMANTIC}
    else:
        assert levels & {Level.BREAKING, Level.RISKY} or Kind.FIELD_ADDED in {one.kind for one in checked.findings}

"""What a call takes of a limit: the upper estimate before, the truth afterwards, and never what it cannot hold."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.catalog import load
from connectors.limits import MOST_SHOWN, Limit, Use

TOKENS = Limit(name="tokens", per="connector", kind="strict", most=8_000, window_us=60_000_000, text="8000/min")
WEIGHTED = Use(limit=TOKENS, cost=500, estimate="/max_tokens", actual="/usage/total_tokens")
MISSING = "the estimate of its cost for limit tokens is missing"
NO_NUMBER = "the estimate of its cost for limit tokens must be a number, 0 or more"
law = settings(max_examples=200, deadline=None)


def limit(**changes: Any) -> Limit:
    given = {"name": "core", "per": "connection", "kind": "strict", "most": 10, "window_us": 1_000_000, "text": "10/s"}
    return Limit(**{**given, **changes})


@pytest.mark.parametrize(
    ("per", "connection", "key"),
    [
        ("connector", "crm-main", "crm|core"),
        ("connector", None, "crm|core"),
        ("connection", "crm-main", "crm|crm-main|core"),
        ("connection", None, "crm|-|core"),
        ("operation", "crm-main", "crm||contacts.create|core"),
        ("operation", None, "crm||contacts.create|core"),
    ],
)
def test_calls_share_a_budget_by_its_scope(per: str, connection: str | None, key: str) -> None:
    assert limit(per=per).instance("crm", connection, "contacts.create") == key


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,3}", fullmatch=True)
scopes = st.sampled_from(["connector", "connection", "operation"])


@law
@given(scopes, scopes, names, names, st.none() | names, names)
def test_budgets_of_different_scopes_never_meet(
    one: str, other: str, connector: str, name: str, connection: str | None, operation: str
) -> None:
    keys = {limit(per=per, name=name).instance(connector, connection, operation) for per in {one, other}}
    assert len(keys) == len({one, other})


@pytest.mark.parametrize("arguments", [{}, {"max_tokens": 9_000}, {"max_tokens": "x"}])
def test_a_fixed_cost_does_not_ask_the_arguments(arguments: dict[str, Any]) -> None:
    assert Use(limit=TOKENS).cost_of(arguments) == 1
    assert Use(limit=TOKENS, cost=7).cost_of(arguments) == 7


@pytest.mark.parametrize(
    ("estimate", "cost"),
    [(0, 500), (-0.0, 500), (1, 501), (0.001, 501), (99.5, 600), (100.0, 600), (7_499.01, 8_000), (7_500, 8_000)],
)
def test_an_estimate_is_rounded_up_and_added_to(estimate: float, cost: int) -> None:
    found = WEIGHTED.cost_of({"max_tokens": estimate})
    assert (found, type(found)) == (cost, int)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, MISSING),
        ({"max_tokens": None}, MISSING),
        ({"max_tokens": True}, NO_NUMBER),
        ({"max_tokens": "100"}, NO_NUMBER),
        ({"max_tokens": [100]}, NO_NUMBER),
        ({"max_tokens": -1}, NO_NUMBER),
        ({"max_tokens": -0.5}, NO_NUMBER),
        ({"max_tokens": math.nan}, NO_NUMBER),
        ({"max_tokens": math.inf}, NO_NUMBER),
        ({"max_tokens": -math.inf}, NO_NUMBER),
        ({"max_tokens": 8_500}, "it costs 9000 of limit tokens, which holds 8000/min"),
        ({"max_tokens": 7_500.1}, "it costs 8001 of limit tokens, which holds 8000/min"),
        ({"max_tokens": 1e300}, f"it costs more than {MOST_SHOWN} of limit tokens, which holds 8000/min"),
        ({"max_tokens": 10**5_000}, f"it costs more than {MOST_SHOWN} of limit tokens, which holds 8000/min"),
    ],
)
def test_what_cannot_be_reserved_is_told_in_words(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="limit tokens") as raised:
        WEIGHTED.cost_of(arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("pointer", "arguments", "cost"),
    [
        ("/a/b", {"a": {"b": 3}}, 503),
        ("/a/0", {"a": [4]}, 504),
        ("/a~1b", {"a/b": 5}, 505),
        ("/a~01", {"a~1": 6}, 506),
        ("/", {"": 7}, 507),
        ("/a/b", {"a": 8}, None),
        ("/a/1", {"a": [4]}, None),
        ("", {"a": 8}, None),
    ],
)
def test_an_estimate_is_found_by_its_pointer(pointer: str, arguments: dict[str, Any], cost: int | None) -> None:
    use = Use(limit=TOKENS, cost=500, estimate=pointer)
    if cost is None:
        with pytest.raises(ValueError, match="the estimate of its cost for limit tokens"):
            use.cost_of(arguments)
    else:
        assert use.cost_of(arguments) == cost


@pytest.mark.parametrize(
    ("result", "cost"),
    [
        ({"usage": {"total_tokens": 0}}, 0),
        ({"usage": {"total_tokens": 1_234}}, 1_234),
        ({"usage": {"total_tokens": 1_233.2}}, 1_234),
        ({"usage": {"total_tokens": 8_001}}, 8_000),
        ({"usage": {"total_tokens": 1e300}}, 8_000),
        ({"usage": {"total_tokens": "12"}}, None),
        ({"usage": {"total_tokens": True}}, None),
        ({"usage": {"total_tokens": -1}}, None),
        ({"usage": {"total_tokens": math.inf}}, None),
        ({"usage": {"total_tokens": math.nan}}, None),
        ({"usage": []}, None),
        ({}, None),
        (None, None),
        ("text", None),
        ([1], None),
    ],
)
def test_the_actual_cost_is_known_or_the_reservation_stays(result: Any, cost: int | None) -> None:
    assert WEIGHTED.actual_of(result) == cost


def test_without_a_pointer_the_actual_cost_is_what_was_reserved() -> None:
    assert Use(limit=TOKENS).actual_of({"usage": {"total_tokens": 5}}) is None
    assert Use(limit=TOKENS).actual_of(5) is None


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["max_tokens", "usage", "a"]), inner),
    max_leaves=6,
)


@law
@given(st.dictionaries(st.sampled_from(["max_tokens", "a"]), jsons), jsons)
def test_whatever_stands_there_a_cost_is_within_the_limit_or_a_sentence(arguments: dict[str, Any], result: Any) -> None:
    try:
        cost = WEIGHTED.cost_of(arguments)
    except ValueError:
        cost = 500
    assert 500 <= cost <= 8_000
    actual = WEIGHTED.actual_of(result)
    assert actual is None or 0 <= actual <= 8_000


# ---- from a manifest

MANIFEST = """\
apiVersion: sluice/v1
kind: Connector
metadata: {name: crm}
base_url: https://crm.example.com
limits:
  core:     {rate: 10/s}
  tokens:   {rate: 8000/min, per: connector, mode: strict}
  inflight: {concurrency: 4, per: operation}
defaults: {limits: {inflight: 1, core: 1}}
operations:
  get:
    request: {method: GET, path: /get}
"""
CORE = Use(limit=limit())
INFLIGHT = Use(limit=limit(name="inflight", per="operation", kind="concurrency", most=4, window_us=0, text="4 at once"))


def uses(folder: Path, text: str) -> tuple[Use, ...]:
    (folder / "crm.yaml").write_text(text)
    result = load([folder], {})
    assert result.errors == ()
    return result.catalog.operations["crm.get"].uses


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("", (CORE, INFLIGHT)),
        ("limits: {}", ()),
        ("limits: {core: 0}", ()),
        ("limits: {inflight: 4, core: 3}", (replace(CORE, cost=3), replace(INFLIGHT, cost=4))),
        ("limits: {inflight: 1, tokens: 0, core: 1}", (CORE, INFLIGHT)),
        (
            "limits: {tokens: {estimate: {path: /max_tokens, plus: 500}, actual: /usage/total_tokens}, core: 1}",
            (CORE, WEIGHTED),
        ),
    ],
)
def test_own_uses_replace_the_defaults_as_a_whole_in_the_order_of_declaration(
    tmp_path: Path, own: str, expected: tuple[Use, ...]
) -> None:
    assert uses(tmp_path, f"{MANIFEST}    {own}\n") == expected


@pytest.mark.parametrize(
    ("declared", "kind", "most", "window_us"),
    [
        ("{rate: 1/s, mode: soft}", "soft", 1, 1_000_000),
        ("{rate: 80/min}", "strict", 80, 60_000_000),
        ("{rate: 5000/h, per: operation}", "strict", 5_000, 3_600_000_000),
        ("{rate: 999999999/d, mode: strict}", "strict", 999_999_999, 86_400_000_000),
        ("{concurrency: 1000000}", "concurrency", 1_000_000, 0),
    ],
)
def test_every_window_is_an_exact_number_of_microseconds(
    tmp_path: Path, declared: str, kind: str, most: int, window_us: int
) -> None:
    core, _ = uses(tmp_path, MANIFEST.replace("{rate: 10/s}", declared))
    assert (core.limit.kind, core.limit.most, core.limit.window_us) == (kind, most, window_us)
    assert type(core.limit.window_us) is int

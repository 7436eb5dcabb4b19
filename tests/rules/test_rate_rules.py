"""What a manifest says of its vendor's headers and bodies wins over the built-in table."""

from pathlib import Path
from typing import Any

import pytest

from connectors.catalog import load
from connectors.manifest.rates_model import RateHeaders, rate_rules
from connectors.rates.rules import NO_RULES, BodyRule, HeaderRule, RateRules, RetryRule
from connectors.rates.units import Unit
from schemas.outcome import RateReading
from tests.rate_answers import DRAFTS, GITHUB, SKUVAULT, THROTTLE, read, readings


def test_a_rule_takes_over_the_row_of_a_header_it_names() -> None:
    headers = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "4500"}
    assert readings(headers)[0].reset_s == 4500
    assert readings(headers, SKUVAULT) == [RateReading(limit_name="core", most=10, left=0, reset_s=4.5)]


def test_a_rule_reads_headers_that_nobody_knows() -> None:
    rule = HeaderRule(limit="points", bucket="pts", most="x-max", used="x-used", reset="x-again", window_s=60)
    headers = {"x-max": "100", "x-used": "30", "x-again": "1795000030", "date": "nonsense"}
    expected = RateReading(bucket="pts", limit_name="points", most=100, left=70, reset_s=30, window_s=60)
    assert readings(headers, RateRules(headers=(rule,))) == [expected]
    assert readings(headers, RateRules(headers=(rule, HeaderRule(limit="other", bucket="pts")))) == [expected]
    assert readings(headers) == []
    assert readings({"x-other": "1"}, RateRules(headers=(rule,))) == []


def test_a_rule_names_the_bucket_that_a_header_tells() -> None:
    rules = RateRules(headers=(HeaderRule(limit="main", bucket="core"), HeaderRule(limit="bytes", bucket="bytes")))
    assert [one.limit_name for one in readings(GITHUB, rules)] == ["main"]
    assert [one.limit_name for one in readings(GITHUB | {"x-ratelimit-resource": "search"}, rules)] == [None]
    # What does not count requests is read once the manifest says which limit it is.
    other = DRAFTS["draft 09, another unit"][0]
    assert [(one.limit_name, one.left) for one in readings(other, rules)] == [("bytes", 0)]


def test_a_declared_retry_header_comes_first() -> None:
    rules = RateRules(retry_after=RetryRule(header="x-wait", unit=Unit.MS))
    assert read({"x-wait": "1500", "retry-after": "9"}, status=429, rules=rules).retry_after_s == 1.5
    assert read({"x-wait": "soon", "retry-after": "9"}, status=429, rules=rules).retry_after_s == 9.0
    same = RateRules(retry_after=RetryRule(header="retry-after", unit=Unit.MS))
    assert read({"retry-after": "1500"}, status=429, rules=same).retry_after_s == 1.5
    assert read({"retry-after": "soon"}, status=429, rules=same).retry_after_s is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max": 1000.0, "now": 900, "rate": 50.0}, RateReading(most=1000, left=900, reset_s=2, window_s=20)),
        ({"max": 1000, "now": 900}, RateReading(most=1000, left=900)),
        ({"max": 1000, "now": 2000, "rate": 50}, RateReading(most=1000, left=2000, reset_s=0, window_s=20)),
        ({"max": 1000, "now": -5, "rate": 0}, RateReading(most=1000)),
        ({"max": "many", "now": True}, None),
        ([], None),
        (None, None),
    ],
)
def test_a_declared_budget_in_a_body(body: Any, expected: RateReading | None) -> None:
    found = read({}, {"cost": {"throttle": body}}, rules=RateRules(bodies=(THROTTLE,))).readings
    assert [(one.most, one.left, one.reset_s, one.window_s) for one in found] == (
        [] if expected is None else [(expected.most, expected.left, expected.reset_s, expected.window_s)]
    )
    assert all((one.bucket, one.limit_name) == ("throttle", "points") for one in found)


def test_the_manifest_says_all_of_it() -> None:
    declared = RateHeaders.model_validate(
        {
            "rules": [{"limit": "core", "reset": "X-RateLimit-Reset", "unit": "ms", "window": "1m", "bucket": "Core"}],
            "retry_after": {"header": "X-Wait", "unit": "epoch_ms"},
            "bodies": [{"limit": "points", "path": "/a", "most": "max", "used": "now", "window": "1s"}],
            "throttled": [{"path": "/ok", "equals": False}, {"status": 400, "path": "/code", "equals": "SLOW"}],
        }
    )
    rules = rate_rules(declared)
    header = HeaderRule(limit="core", bucket="core", reset="x-ratelimit-reset", unit=Unit.MS, window_s=60)
    assert rules.headers == (header,)
    assert rules.retry_after == RetryRule(header="x-wait", unit=Unit.EPOCH_MS)
    assert rules.bodies == (BodyRule(path="/a", limit="points", most="max", used="now", window_s=1),)
    assert [(one.status, one.path, one.equals) for one in rules.throttled] == [
        (200, "/ok", False),
        (400, "/code", "SLOW"),
    ]
    assert rate_rules(RateHeaders()) == NO_RULES
    assert read({}, {"ok": False}, rules=rules).throttled
    assert not read({}, {"ok": 0}, rules=rules).throttled
    assert read({}, {"code": "SLOW"}, status=400, rules=rules).limited


MANIFEST = """\
apiVersion: sluice/v1
kind: Connector
metadata: {name: crm}
base_url: https://crm.example.com
limits: {core: {rate: 10/s}}
%s
operations:
  contacts.get:
    request: {method: GET, path: /v1/contacts}
    class: safe
"""


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("rate_headers: {rules: [{limit: cor, left: x-left}]}", "6:32", "unknown limit 'cor' (did you mean 'core'?)"),
        (
            "rate_headers: {bodies: [{path: /a, left: b, limit: cor}]}",
            "6:52",
            "unknown limit 'cor' (did you mean 'core'?)",
        ),
        ("rate_headers: {rules: [{limit: core}]}", "6:24", "a rule names at least one of most, left, used, reset"),
        ("rate_headers: {rules: [{limit: core, remaining: x}]}", "6:38", "unknown key 'remaining'"),
        ("rate_headers: {rulez: []}", "6:16", "unknown key 'rulez' (did you mean 'rules'?)"),
        ("rate_headers: {retry_after: {header: x y}}", "6:38", "is not a header name"),
        ("rate_headers: {retry_after: {header: x, unit: secs}}", "6:47", "'secs' is not one of"),
        ("rate_headers: {throttled: [{path: error, equals: x}]}", "6:35", "must be a JSON pointer"),
        ("rate_headers: {throttled: [{path: /error}]}", "6:28", "missing key 'equals'"),
        ("rate_headers: {rules: [{limit: core, left: x, window: 1x}]}", "6:55", "must be a duration"),
    ],
)
def test_a_mistake_in_the_manifest_is_shown_where_it_is(tmp_path: Path, line: str, place: str, message: str) -> None:
    (tmp_path / "crm.yaml").write_text(MANIFEST % line)
    shown = [str(problem) for problem in load([tmp_path], {}).problems]
    assert any(f":{place}: " in problem and message in problem for problem in shown), shown


def test_the_rules_of_a_connector_reach_its_operations(tmp_path: Path) -> None:
    line = "rate_headers: {rules: [{limit: core, reset: X-RateLimit-Reset, unit: ms}]}"
    (tmp_path / "crm.yaml").write_text(MANIFEST % line)
    assert load([tmp_path], {}).catalog.operations["crm.contacts.get"].rates == SKUVAULT

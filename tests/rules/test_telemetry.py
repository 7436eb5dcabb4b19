"""Logs tell no secrets, metrics keep their names, and arguments of the command line mean what they look like."""

import json
import logging
from dataclasses import replace

import pytest
import structlog
from prometheus_client import REGISTRY

from gateway import logs, telemetry
from gateway.entrypoints.cli.arguments import parse, whole
from gateway.entrypoints.cli.events import event_of
from gateway.ports.load import Closing, Gauges, Load, Waits
from schemas import cloudevent
from schemas.lifecycle import HoldReason

HIDDEN = logs.HIDDEN
SCHEMA = {
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "price": {"type": "number"},
        "sure": {"type": "boolean"},
        "tags": {"type": "array"},
        "either": {"type": ["integer", "string"]},
        "free": {},
    }
}


@pytest.mark.parametrize(
    ("event", "clean"),
    [
        ({"authorization": "Bearer abc"}, {"authorization": HIDDEN}),
        (
            {"client_secret": "x", "Set-Cookie": "y", "api-key": "z"},
            dict.fromkeys(("client_secret", "Set-Cookie", "api-key"), HIDDEN),
        ),
        ({"deep": {"list": [{"refresh_token": "x"}]}}, {"deep": {"list": [{"refresh_token": HIDDEN}]}}),
        ({"text": "sent Authorization: Bearer abcdef123"}, {"text": f"sent Authorization: Bearer {HIDDEN}"}),
        ({"url": "redis://user:pass@host:1/0"}, {"url": f"redis://{HIDDEN}@host:1/0"}),
        ({"url": "/x?api_key=abc&page=2"}, {"url": f"/x?api_key={HIDDEN}&page=2"}),
        ({"body": b"secret bytes"}, {"body": "<12 bytes>"}),
        ({"idempotency_key": "run-42/step-3", "call": "01J"}, {"idempotency_key": "run-42/step-3", "call": "01J"}),
    ],
)
def test_what_is_or_looks_like_a_secret_is_not_written(event: dict[str, object], clean: dict[str, object]) -> None:
    assert logs.scrub(None, "info", event) == clean


def test_a_log_line_is_json_with_time_and_level_and_library_lines_come_along(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure("info", pretty=False)
        structlog.get_logger("ours").info("call.settled", call="01J", password="hunter2")
        logging.getLogger("library").warning("connected to %s", "redis://u:p@h")
        logging.getLogger("library").debug("not written")
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert ours["event"] == "call.settled"
    assert ours["password"] == HIDDEN
    assert ours["level"] == "info"
    assert ours["timestamp"].endswith("Z")
    assert theirs["event"] == f"connected to redis://{HIDDEN}@h"


COUNTED = (
    ("sluice_rate_limited_total", {"connector": "crm", "operation": "echo"}),
    ("sluice_refusals_total", {"class": "admission.queue_full"}),
    ("sluice_calls_total", {"connector": "crm", "operation": "echo", "outcome": "completed"}),
    ("sluice_replays_total", {"result": "replayed_failed"}),
)


FIXED = {
    "sluice_calls_total": {"connector", "operation", "outcome"},
    "sluice_upstream_attempts_total": {"connector", "operation", "status_class"},
    "sluice_upstream_duration_seconds": {"connector", "operation"},
    "sluice_queue_wait_seconds": {"connector", "operation"},
    "sluice_queue_depth": {"connector"},
    "sluice_queue_oldest_age_seconds": {"connector"},
    "sluice_runnable_backlog": {"connector"},
    "sluice_rate_budget_remaining_ratio": {"connector", "limit"},
    "sluice_breaker_state": {"connector", "origin", "state"},
    "sluice_token_expiry_timestamp_seconds": {"connector", "connection"},
    "sluice_token_refresh_total": {"connector", "result"},
    "sluice_contract_violations_total": {"connector", "operation", "kind", "level"},
    "sluice_dead_letters": {"status"},
    "sluice_replays_total": {"result"},
    "sluice_build_info": {"version", "python"},
}
"""What dashboards of others are built on."""


def test_the_names_and_labels_that_dashboards_rest_on_stay() -> None:
    assert {one.name: set(one.labels) for one in telemetry.NAMES if one.name in FIXED} == FIXED


def counts() -> list[float]:
    """Return how often what happened so far: other tests of this process have counted too."""
    return [REGISTRY.get_sample_value(name, labels) or 0.0 for name, labels in COUNTED]


def test_a_scrape_shows_every_metric_of_the_table() -> None:
    before = counts()
    telemetry.record_attempt("crm", "echo", status=503, duration_s=0.1)
    telemetry.record_attempt("crm", "echo", status=None, duration_s=0.1)
    telemetry.record_end("crm", "echo", outcome="completed")
    telemetry.record_wait("crm", "echo", wait_s=0.1)
    telemetry.record_end("crm", "echo", outcome="escalated", replay=True)
    telemetry.record_limited("crm", "echo")
    telemetry.record_refusal("admission.queue_full")
    load = Load(calls=2, call_bytes=70, memory_bytes=5000, memory_high_bytes=9000, flooded=True)
    closed = [Closing(key="@crm", reason=HoldReason.PAUSED, detail="x", until_us=None)]
    gauges = Gauges(load=load, calls={"crm": 2}, closed=closed, letters={"open": 3, "over": 4})
    waits, budgets = {"crm": Waits(runnable=1, oldest_s=4.5)}, {("crm", "core"): 0.25}
    gauges = replace(gauges, waits=waits, budgets=budgets, expiries={("crm", "main"): 1e9})
    text = telemetry.exposition({"received": 7, "live": 2}, gauges).decode()
    for metric in telemetry.NAMES:
        assert f"# TYPE {metric.name} " in text
    for sample in (
        'sluice_queue_depth{connector="crm"} 2.0',
        'sluice_queue_oldest_age_seconds{connector="crm"} 4.5',
        'sluice_runnable_backlog{connector="crm"} 1.0',
        'sluice_rate_budget_remaining_ratio{connector="crm",limit="core"} 0.25',
        'sluice_token_expiry_timestamp_seconds{connection="main",connector="crm"} 1e+09',
        "sluice_queue_bytes 70.0",
        "sluice_queue_flooded 1.0",
        "sluice_redis_memory_bytes 5000.0",
        'sluice_dead_letters{status="open"} 3.0',
        'sluice_dead_letters{status="over"} 4.0',
        'sluice_gates_closed{reason="paused"} 1.0',
        'sluice_gates_closed{reason="rate_limit"} 0.0',
    ):
        assert sample in text
    assert counts() == [count + 1 for count in before]
    for name, labels in COUNTED:
        told = ",".join(f'{label}="{value}"' for label, value in labels.items())
        assert f"{name}{{{told}}} {REGISTRY.get_sample_value(name, labels)}" in text
    assert "sluice_queue_bytes" not in telemetry.exposition({}).decode()
    assert 'sluice_events{fate="received"} 7.0' in text
    assert 'status_class="5xx"' in text
    assert 'status_class="none"' in text


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("name=7", "7"),
        ("count=7", 7),
        ("price=1.5", 1.5),
        ("sure=true", True),
        ('tags=["a"]', ["a"]),
        ("either=x", "x"),
        ("either=3", 3),
        ("free=3", 3),
        ("free=abc", "abc"),
        ("name:=7", 7),
        ("name=a=b", "a=b"),
    ],
)
def test_the_schema_types_an_argument_and_without_it_its_looks_do(given: str, value: object) -> None:
    (parsed,) = parse([given], SCHEMA).values()
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("given", ["name", "=x", "count=x", "count=true", "sure=1", "tags=a", "free:=x", "free:=NaN"])
def test_an_argument_that_cannot_be_meant_is_told(given: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse([given], SCHEMA)


def test_whole_arguments_are_one_object() -> None:
    assert whole('{"a": [1]}') == {"a": [1]}
    for text in ("[]", "{", "NaN"):
        with pytest.raises(ValueError, match="--json"):
            whole(text)


def test_a_bare_line_gets_an_envelope_and_a_whole_event_stays_as_it_is() -> None:
    bare = event_of(b'{"tool": "crm.echo", "arguments": {}}\n', source="agent/cli", max_bytes=1000)
    read = cloudevent.read(bare if isinstance(bare, bytes) else bare.encode(), max_bytes=1000)
    assert (read.source, read.tool) == ("agent/cli", "crm.echo")
    event = (
        b'{"specversion":"1.0","type":"tool.call.requested","source":"s","id":"1","data":{"tool":"t","arguments":{}}}'
    )
    assert event_of(event + b"\n", source="agent/cli", max_bytes=1000) == event


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b'{"tool": "x"}', b'{"tool": "x", "arguments": {}, "extra": 1}', b'{"type": "x"}', b"\xff", b"NaN"],
)
def test_a_line_that_is_no_event_is_refused_with_a_reason(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        event_of(line, source="agent/cli", max_bytes=1000)

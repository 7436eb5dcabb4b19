"""The envelope: what makes a request, what is overlooked, and what Sluice writes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cloudevent import CloudEvent, ToolCallRequested, publishable, read
from schemas.codec import Undecodable
from schemas.failure import Failure
from tests.examples import SPAN, TRACE

MOST = 100_000
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
law = settings(max_examples=40, deadline=None)


def request(**changes: Any) -> dict[str, Any]:
    whole = {
        "specversion": "1.0",
        "type": "tool.call.requested",
        "source": "agent/research-7",
        "id": "e-1",
        "data": {"tool": "crm.contacts.get", "arguments": {"id": "c1"}},
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not ...}


def taken(event: Any) -> ToolCallRequested:
    return read(json.dumps(event).encode(), max_bytes=MOST)


def test_the_smallest_request_is_read() -> None:
    found = taken(request())
    assert (found.source, found.id, found.tool, found.arguments) == (
        "agent/research-7",
        "e-1",
        "crm.contacts.get",
        {"id": "c1"},
    )
    assert found.traceparent is None


def test_attributes_that_sluice_does_not_use_are_overlooked() -> None:
    extra = {"time": "no time", "subject": 7, "dataschema": None, "myextension": [1], "datacontenttype": "text/plain"}
    assert taken(request(**extra)) == taken(request())


def test_a_lawful_trace_travels_and_a_broken_one_stays_behind() -> None:
    assert taken(request(traceparent=TRACEPARENT)).traceparent == TRACEPARENT
    assert taken(request(traceparent="00-abc")).traceparent is None
    assert taken(request(traceparent={"a": 1})).traceparent is None


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ([], "not a JSON object"),
        ("text", "not a JSON object"),
        (None, "not a JSON object"),
        (request(specversion=...), "specversion"),
        (request(specversion="0.3"), "specversion"),
        (request(specversion=1.0), "specversion"),
        (request(type=...), "type"),
        (request(type="tool.call.completed"), "type"),
        (request(source=...), "source"),
        (request(source=""), "source"),
        (request(source=7), "source"),
        (request(id=...), "id"),
        (request(id=None), "id"),
        (request(data=...), "data"),
        (request(data=[]), "data"),
        (request(data='{"tool":"a.b"}'), "data"),
        (request(data={"arguments": {}}), "data.tool"),
        (request(data={"tool": 7, "arguments": {}}), "data.tool"),
        (request(data={"tool": "a.b"}), "data.arguments"),
        (request(data={"tool": "a.b", "arguments": []}), "data.arguments"),
        (request(data={"tool": "a.b", "arguments": None}), "data.arguments"),
    ],
)
def test_what_is_no_request_is_told_what_is_missing(event: Any, told: str) -> None:
    with pytest.raises(Undecodable) as caught:
        taken(event)
    assert caught.value.failure is Failure.DECODE_ENVELOPE
    assert told in caught.value.message


jsons = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def verdict_on(event: Any) -> ToolCallRequested | Undecodable:
    try:
        return taken(event)
    except Undecodable as verdict:
        return verdict


@law
@given(st.fixed_dictionaries({}, optional={name: jsons | st.just(value) for name, value in request().items()}))
def test_any_object_is_a_request_or_a_verdict(event: dict[str, Any]) -> None:
    found = verdict_on(event)
    if isinstance(found, Undecodable):
        assert found.failure is Failure.DECODE_ENVELOPE
    else:
        assert (found.source, found.id, found.data) == (event["source"], event["id"], event["data"])


@law
@given(st.text(min_size=1), st.text(min_size=1), st.dictionaries(st.text(), jsons, max_size=4))
def test_what_is_published_as_a_request_is_read_back(source: str, identity: str, arguments: dict[str, Any]) -> None:
    data = {"tool": "crm.contacts.get", "arguments": arguments}
    written = publishable(
        CloudEvent(type="tool.call.requested", source=source, id=identity, time="2026-11-20T09:00:00Z", data=data)
    )
    found = read(written.encode(), max_bytes=1 << 20)
    assert (found.source, found.id, found.arguments) == (source, identity, arguments)


def test_a_published_event_has_these_attributes_and_no_empty_ones() -> None:
    bare = CloudEvent(type="tool.call.completed", id="c1.result", time="2026-11-20T09:00:00Z", data={"call": "c1"})
    always = {"specversion", "type", "source", "id", "time", "datacontenttype", "data"}
    assert set(json.loads(publishable(bare))) == always
    full = msgspec.structs.replace(bare, subject="crm.contacts.get", traceparent=TRACEPARENT)
    event = json.loads(publishable(full))
    assert set(event) == always | {"subject", "traceparent"}
    assert (event["specversion"], event["source"], event["traceparent"]) == ("1.0", "sluice", TRACEPARENT)

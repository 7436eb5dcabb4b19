"""A record becomes an entry whatever it holds: structured as it is, binary put together, anything else a flaw that is told."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entrypoints.bus.records import Headers, entry_of
from gateway.entrypoints.relay import message_of, shortened
from schemas import cloudevent
from schemas.topics import TopicEntry

BINARY: list[tuple[str, bytes | None]] = [
    ("ce_specversion", b"1.0"),
    ("ce_type", b"tool.call.requested"),
    ("ce_source", b"agent/a"),
    ("ce_id", b"1"),
]
DATA = b'{"tool":"t.o","arguments":{}}'


@dataclass
class Record:
    value: bytes | None
    headers: Headers
    partition: int = 3
    offset: int = 42
    timestamp: int = 0


def test_a_binary_event_reads_like_a_structured_one() -> None:
    entry = entry_of(Record(DATA, [*BINARY, ("content-type", b"application/json")]), "tool-calls")
    event = cloudevent.read(entry.raw, max_bytes=10_000)
    assert (event.source, event.id, event.tool) == ("agent/a", "1", "t.o")
    assert (entry.id, entry.engine, entry.stream, entry.flaw) == ("3:42", "kafka", "tool-calls", None)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")], "a"),
        (
            [
                ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
                ("ce_traceparent", b"00-" + b"c" * 32 + b"-" + b"b" * 16 + b"-01"),
            ],
            "c",
        ),
    ],
)
def test_the_trace_is_found_and_the_events_own_goes_first(headers: Headers, expected: str) -> None:
    event = cloudevent.read(entry_of(Record(DATA, [*BINARY, *headers]), "t").raw, max_bytes=10_000)
    assert event.traceparent is not None
    assert event.traceparent[3] == expected


def test_a_structured_event_stays_as_it_is_whatever_headers_lie_beside_it() -> None:
    headers: Headers = [
        ("content-type", b"application/cloudevents+json"),
        ("ce_id", b"other"),
        ("x", b"\xff"),
        ("y", None),
    ]
    entry = entry_of(Record(b"{}", headers), "t")
    assert (entry.raw, entry.flaw) == (b"{}", None)


@pytest.mark.parametrize("value", [b'{},"id":"x"', b"{", b"", None, b"\xff", b'{"a":1}}'])
def test_data_that_is_not_whole_by_itself_is_a_flaw(value: bytes | None) -> None:
    entry = entry_of(Record(value, BINARY), "t")
    assert entry.flaw is not None
    assert entry.raw == (value or b"")


NAMES = st.one_of(st.text(), st.sampled_from(["ce_id", "ce_type", "CE_x", "content-type"]))


@given(
    st.one_of(st.none(), st.binary()),
    st.lists(st.tuples(NAMES, st.one_of(st.none(), st.binary()))),
)
def test_nothing_makes_it_raise(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    entry = entry_of(Record(value, headers), "t")
    assert entry.id == "3:42"


@pytest.mark.parametrize(
    ("event", "key"),
    [
        ({"id": "e", "data": {"session": "s", "call": "c"}}, b"s"),
        ({"id": "e", "data": {"session": None, "call": "c"}}, b"c"),
        ({"id": "e", "data": {"identity": {"session": "s"}}}, b"s"),
        ({"id": "e", "subject": "crm", "data": {}}, b"crm"),
        ({"id": "e", "data": {}}, b"e"),
        ([1], None),
    ],
)
def test_what_goes_out_is_keyed_by_session(event: Any, key: bytes | None) -> None:
    entry = TopicEntry(topic="t", id="1-1", raw=json.dumps(event).encode())
    message = message_of(entry, 1000)
    assert (message.key, message.value) == (key, entry.raw)


@given(st.binary(max_size=200))
def test_any_bytes_go_out(raw: bytes) -> None:
    assert message_of(TopicEntry(topic="t", id="1-1", raw=raw), 1000).value == raw


def test_what_is_too_large_keeps_its_envelope_and_says_what_is_missing() -> None:
    event = {"id": "e", "type": "t", "data": {"call": "c", "result": "x" * 9000}}
    assert json.loads(shortened(json.dumps(event).encode())) == {
        "id": "e",
        "type": "t",
        "data": {"call": "c", "left_out": ["result"]},
    }

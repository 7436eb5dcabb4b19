"""Every parser that meets the outside, in one table: what it is fed, a right example to spoil, and all that it may raise.

A parser is a function of ours that reads text, bytes or headers which a vendor, an agent, a broker or a person has written.
"""

import gzip
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from connectors import egress, lifecycle_headers, readback, render, retry_after
from connectors.arguments import SchemaError, compile_schema
from connectors.auth import freshness, grants
from connectors.catalog import Catalog
from connectors.classify import classify
from connectors.contract_guard import Contract
from connectors.declared import Egress
from connectors.exchange import Answered
from connectors.inflate import inflate
from connectors.manifest import document, origin, shape
from connectors.matching import Matcher, Sent
from connectors.rates import reader, structured, units
from connectors.rates.rules import NO_RULES
from dlq import patch, redaction
from gateway.entrypoints.api import auth, elsewhere, history, lanes, reading
from gateway.entrypoints.api.problems import ProblemError
from gateway.entrypoints.bus import records
from gateway.entrypoints.cli import arguments, events
from gateway.journal import rows
from gateway.policy import bus_address, spans, webhooks
from schemas import cloudevent, codec, moment, trace
from schemas.contracts import formats
from schemas.effect import OperationClass
from schemas.tool_call import ToolCallData
from tests.examples import operation, tool_call

MOST = 1 << 20
NOW = 1_795_000_000.0
EVENT = codec.encode(
    {
        "specversion": "1.0", "type": "tool.call.requested", "source": "agent/a", "id": "e-1",
        "data": {"tool": "crm.contacts.create", "arguments": {"email": "a@b.c"}},
    }
)  # fmt: skip
TOLD = codec.encode(
    {
        "specversion": "1.0", "type": "tool.call.settled", "source": "sluice", "id": "c.1", "time": "2026-11-20T09:00:00Z",
        "data": {"call": "01J", "tool": "crm.x", "state": "completed", "seq": 1},
    }
)  # fmt: skip
MANIFEST = b"""apiVersion: sluice/v1
kind: Connector
metadata: {name: crm, version: 1.0.0}
base_url: https://crm.example.com
limits: {core: {rate: 10/s}}
operations: {x: {request: {method: GET, path: "/{id}"}, class: safe, input: {type: object}}}
"""
SCHEMA = b'{"type":"object","properties":{"a":{"type":["string","null"],"format":"date-time"}},"required":["a"]}'
TOKEN = b'{"access_token":"t","token_type":"Bearer","expires_in":3600,"scope":"a b","refresh_token":"r"}'
WEBHOOK_SECRET = "whsec_c2x1aWNlLWFsZXJ0cy1hcmUtc2lnbmVkLWhlcmUh"
URL = b"https://crm.example.com:8443/v1/contacts?q=1"
HEADERS = (
    b'retry-after: Fri, 20 Nov 2026 09:00:00 GMT\nratelimit: "core";r=3;t=10\nratelimit-policy: "core";q=10;w=60\n'
    b"x-ratelimit-limit: 100\nx-ratelimit-remaining: 3\nx-ratelimit-reset: 1795000010\ndeprecation: @1795000000\n"
    b'sunset: Fri, 20 Nov 2026 09:00:00 GMT\ncontent-type: application/json; charset=utf-8\nx-app-usage: {"call_count": 3}\n'
    b'www-authenticate: Bearer error="invalid_token", error_description="x"\nx-rate-limit-reset: 1m30s'
)  # fmt: skip


@dataclass(frozen=True)
class Parser:
    """How one is called with what somebody wrote."""

    feed: Callable[[bytes], Any]
    example: bytes
    raises: tuple[type[Exception], ...] = ()
    most: int = 32_768
    """Bytes it is tried with; fewer where only its owner could write so much."""


@dataclass(frozen=True)
class _Record:
    value: bytes | None
    headers: Any
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def named(raw: bytes) -> dict[str, str]:
    """Read lines as headers, in the way that the transport hands them on."""
    pairs = (line.partition(":") for line in raw.decode("latin-1").split("\n"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name}


def answered(raw: bytes) -> Answered:
    """Make an answer of it: headers up to the first empty line, then a body."""
    head, _, body = raw.partition(b"\n\n")
    return Answered(429 if b"2" in head else 200, named(head), body, None, "1.1", 0.1, 1)


def value(raw: bytes) -> Any:
    """Return what is sure to be a JSON value: its own, or the text itself."""
    try:
        return codec.decode(raw, max_bytes=MOST)
    except codec.Undecodable:
        return text(raw)


def every(iterator: Iterator[Any]) -> list[Any]:
    return list(iterator)


def _binary(raw: bytes) -> Any:
    lines, _, body = raw.partition(b"\n\n")
    pairs = [line.partition(b"=")[::2] for line in lines.split(b"\n")]
    return records.entry_of(_Record(body, [(text(name), one or None) for name, one in pairs]), "tool-calls")


def _manifest(raw: bytes) -> Any:
    return [shape.check_shape(one) for one in document.read("x.yaml", raw).documents]


def _patch(raw: bytes) -> Any:
    steps = value(raw)
    listed = steps if isinstance(steps, list) else [steps]
    return patch.apply({"a": {"b": [1, 2]}}, [one for one in listed if isinstance(one, dict)])


def _render(raw: bytes) -> Any:
    given = value(raw)
    call = tool_call({"id": given, "q": given, "rest": given}, traceparent=text(raw))
    asked = operation(path="/v1/{id}", query={"q": "{q}"}, headers={"X-Q": "{q}"})
    return render.render(call, asked, "https://crm.example.com", "b" * 16)


def _schema(raw: bytes) -> Any:
    declared = value(raw)
    return compile_schema(declared if isinstance(declared, dict) else {}).is_valid({"a": 1})


def _contract(raw: bytes) -> Any:
    return Contract("crm.x", value(SCHEMA)).check(200, named(HEADERS), value(raw))


PARSERS: Mapping[str, Parser] = MappingProxyType(
    {
        # the bus and the two doors
        "codec.decode": Parser(lambda raw: codec.decode(raw, max_bytes=MOST), EVENT, (codec.Undecodable,)),
        "cloudevent.read": Parser(lambda raw: cloudevent.read(raw, max_bytes=MOST), EVENT, (codec.Undecodable,)),
        "records.entry_of": Parser(_binary, b"ce_specversion=1.0\nce_type=t\nce_id=1\nce_source=a\n\n{}"),
        "trace.valid": Parser(
            lambda raw: trace.valid(text(raw)), b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ),
        "trace.trace_id": Parser(
            lambda raw: trace.trace_id(trace.valid(text(raw))),
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        "moment.read": Parser(lambda raw: moment.read(text(raw)), b"2026-11-20T09:00:00.5+01:00", (ValueError,)),
        "reading.read": Parser(
            lambda raw: reading.read(raw, MOST, ToolCallData), b'{"tool":"a","arguments":{}}', (ProblemError,)
        ),
        "reading.preferred_wait": Parser(
            lambda raw: reading.preferred_wait([text(raw)]), b'respond-async, wait="10"; foo'
        ),
        "reading.no_parameters": Parser(
            lambda raw: reading.no_parameters([name for name in text(raw).split() if name != "none"]),
            b"none",
            (ProblemError,),
        ),
        "reading.query_wait": Parser(lambda raw: reading.query_wait(text(raw)), b"60", (ProblemError,)),
        "history.wanted_of": Parser(
            lambda raw: history.wanted_of(
                dict.fromkeys(("since", "until", "text", "session"), text(raw)), int(NOW * 1e6)
            ),
            b"30m",
            (ProblemError,),
        ),
        "history._cursor": Parser(
            lambda raw: history._cursor(text(raw)), b"01JCW3H5N0000000000000000A", (ProblemError,)
        ),
        "lanes._cursor": Parser(lambda raw: lanes._cursor(text(raw)), b"184467", (ProblemError,)),
        "elsewhere.is_loopback": Parser(lambda raw: elsewhere.is_loopback("//" + text(raw)), b"[::1]:8080"),
        "elsewhere.foreign": Parser(
            lambda raw: elsewhere.foreign([text(raw)], [text(raw)], [text(raw)]), b"http://localhost:1"
        ),
        "auth.identify": Parser(lambda raw: auth.identify(Catalog(), text(raw)), b"Bearer key"),
        "spans.seconds": Parser(lambda raw: spans.seconds(text(raw)), b"30m"),
        "rows.read": Parser(lambda raw: rows.read(raw, most_bytes=1000), TOLD, (ValueError,)),
        "rows.words_of": Parser(lambda raw: rows.words_of(text(raw)), b'some "words" OR* (near)'),
        # the command line
        "events.event_of": Parser(
            lambda raw: events.event_of(raw, source="agent/a", max_bytes=MOST), EVENT, (ValueError,)
        ),
        "arguments.parse": Parser(
            lambda raw: arguments.parse(text(raw).split(), {"properties": {"a": {"type": "integer"}}}),
            b"a=1 b:={}",
            (ValueError,),
        ),
        "arguments.whole": Parser(lambda raw: arguments.whole(text(raw)), b'{"a": 1}', (ValueError,)),
        # what a vendor answers
        "retry_after.retry_after_s": Parser(lambda raw: retry_after.retry_after_s(named(raw), NOW), HEADERS),
        "reader.read_rates": Parser(lambda raw: reader.read_rates(answered(raw), NO_RULES, NOW), HEADERS + b"\n\n{}"),
        "structured.members": Parser(lambda raw: structured.members(text(raw)), b'"core";r=3;t=10, "day";r=5'),
        "structured.policies": Parser(lambda raw: structured.policies(text(raw)), b'"core";q=10;w=60, 100;w=60'),
        "structured.draft_readings": Parser(
            lambda raw: every(structured.draft_readings(text(raw), text(raw), {}, NOW)), b'"core";q=10;w=60;r=3;t=1'
        ),
        "structured.usage_readings": Parser(
            lambda raw: every(structured.usage_readings(text(raw))), b'{"call_count":28,"total_time":25}'
        ),
        "units.number": Parser(lambda raw: units.number(text(raw)), b"1.5"),
        "units.count": Parser(lambda raw: units.count(value(raw)), b'"1_000"'),
        "units.wait_s": Parser(
            lambda raw: [units.wait_s(value(raw), unit, NOW) for unit in (None, *units.Unit)], b"6m0s"
        ),
        "units.moment": Parser(lambda raw: units.moment(text(raw)), b"Fri, 20 Nov 2026 09:00:00 GMT"),
        "lifecycle_headers.announced": Parser(lambda raw: every(lifecycle_headers.announced(named(raw))), HEADERS),
        "classify.classify": Parser(
            lambda raw: [classify(answered(raw), one, NO_RULES, now=NOW) for one in OperationClass],
            HEADERS + b'\n\n{"error":{"code":"x"}}',
        ),
        "inflate.inflate": Parser(
            lambda raw: [inflate(raw, name, 4096) for name in ("gzip", "deflate", "br", text(raw))],
            gzip.compress(b"{}"),
        ),
        "Contract.check": Parser(_contract, b'{"a":"2026-11-20T09:00:00Z","b":[1,{"c":null}]}'),
        "formats.written": Parser(
            lambda raw: [
                formats.written(text(raw), one) for one in ("date-time", "uuid", "email", "uri", "ipv6", "date")
            ],
            b"2026-11-20T09:00:00Z",
        ),
        "readback._goes_on": Parser(lambda raw: readback._goes_on(value(raw)), b'{"has_more":true,"next":"x"}'),
        # token endpoints
        "grants.judge": Parser(
            lambda raw: grants.judge(answered(b"content-type: application/json\n\n" + raw), now_s=NOW), TOKEN
        ),
        "grants.lacks_scope": Parser(lambda raw: grants.lacks_scope(named(raw)), HEADERS),
        "freshness.lifetime": Parser(lambda raw: freshness.lifetime(value(raw)), b"3600"),
        # addresses, and what people write into files and settings
        "egress.allowed": Parser(
            lambda raw: egress.allowed(text(raw), Egress(allow_hosts=(text(raw), "*.a.b"), allow_private=True)), URL
        ),
        "egress.vet": Parser(lambda raw: egress.vet(text(raw), allow_private=True), b"::ffff:127.0.0.1%eth0"),
        "origin.url_fault": Parser(lambda raw: origin.url_fault(text(raw), allow_private=False), URL),
        "origin.covered": Parser(lambda raw: origin.covered(text(raw), [text(raw)]), URL),
        "matching.Matcher": Parser(
            lambda raw: Matcher(Catalog(operations={"crm.contacts.create": operation()})).match(
                Sent(method="POST", url=text(raw), headers=named(raw), body=raw), max_bytes=MOST
            ),
            URL,
        ),
        "webhooks.misfit": Parser(lambda raw: webhooks.misfit(text(raw), WEBHOOK_SECRET, private=False), URL),
        "webhooks.keys_of": Parser(
            lambda raw: webhooks.keys_of(text(raw)), b"whsec_c2x1aWNlLWFsZXJ0cy1hcmUtc2lnbmVkLWhlcmUh"
        ),
        "webhooks.message": Parser(webhooks.message, TOLD),
        "bus_address.kafka_servers": Parser(
            lambda raw: bus_address.kafka_servers(text(raw)), b"kafka://a:1,[::1]:2", (bus_address.Misnamed,)
        ),
        "bus_address.over_tls": Parser(
            lambda raw: bus_address.over_tls(text(raw)), b"kafka+ssl://a:1", (bus_address.Misnamed,)
        ),
        "document.read": Parser(_manifest, MANIFEST, most=3072),
        "compile_schema": Parser(_schema, SCHEMA, (SchemaError,)),
        "render.render": Parser(_render, b'"a b"'),
        # letters
        "patch.apply": Parser(
            _patch,
            b'[{"op":"add","path":"/a/b/-","value":1},{"op":"move","from":"/a","path":"/c"}]',
            (patch.Unpatchable,),
        ),
        "redaction.scrub": Parser(
            lambda raw: redaction.scrub(text(raw), ("s3cret",)), b"authorization: Bearer s3cret&token=x"
        ),
        "redaction.scrub_bytes": Parser(lambda raw: redaction.scrub_bytes(raw, ("s3cret+/",)), b'{"a":"s3cret+/"}'),
        "redaction.headers": Parser(lambda raw: redaction.headers(named(raw), ("s3cret",)), HEADERS),
        "redaction.clean": Parser(lambda raw: redaction.clean(text(raw)), b"\x1b[31mred"),
    }
)

WATCHED = (
    codec, cloudevent, trace, moment, records, reading, elsewhere, spans, bus_address, events, arguments, retry_after, reader,
    structured, units, lifecycle_headers, grants, freshness, egress, origin, webhooks, document, patch, redaction, formats,
)  # fmt: skip
"""Modules that do little else than to read what comes from outside: every public function that takes text is a parser."""
OTHERS = {
    "codec.canonical": "writes", "codec.sha256": "hashes", "codec.pointed": "reads an error of our decoder",
    "codec.containers": "a part of decode, which feeds it", "codec.depth": "looks at a value", "elsewhere.local": "a guard: `foreign`",
    "grants.lost": "compares two lists",
    "cloudevent.publishable": "writes", "trace.child": "writes, of what was valid", "moment.stamp": "writes",
    "reading.body": "awaits, then `_read`", "reading.body_as": "awaits, then `_read`", "reading.key": "compares two texts",
    "arguments.needs_schema": "looks at one character", "arguments.typed": "a part of parse",
    "origin.host_of": "a part of covered", "origin.allowed_host_fault": "a part of covered", "origin.is_absolute": "looks at a prefix",
    "webhooks.signature": "writes", "webhooks.request": "writes", "redaction.message": "clean and scrub together",
    "redaction.unseal": "opens what we sealed", "structured.policies": "in the table",
}  # fmt: skip

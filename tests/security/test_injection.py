"""Nothing an agent writes becomes more than the one value it is: not a header, a segment, a parameter, a request, or something run.

The vendor's own bytes are looked at: what arrived is parsed by hand and held against an ordinary request of the same kind.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from redis.asyncio import Redis

from connectors.pipeline import Pipeline
from connectors.transport import Engine
from dlq.redaction import scrub_bytes
from gateway.guards import open_guards
from schemas.failure import Failure
from tests.guarded import common
from tests.security.payloads import ALL
from tests.security.places import LOCAL, Ground, attempt
from tests.tiny_vendor import OK, Vendor, sends, vendor

pytestmark = pytest.mark.wire

PLACES: Mapping[str, Mapping[str, Any]] = {
    "segment": {"path": "/v1/{where}/end"},
    "part of a segment": {"path": "/v1/a-{where}.json"},
    "query": {"method": "GET", "path": "/v1/q", "query": {"next": "{where}"}},
    "part of a parameter": {"method": "GET", "path": "/v1/q?fixed=1", "query": {"next": "a:{where}"}},
    "rest of the query": {"method": "GET", "path": "/v1/q"},
    "header": {"headers": {"X-Where": "{where}"}},
    "part of a header": {"headers": {"X-Where": "v={where}; q=1"}},
    "body": {},
}


@dataclass(frozen=True)
class Arrived:
    """One request as bytes say it is."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def shape(self) -> tuple[Any, ...]:
        """All that a value may not change."""
        path, _, query = self.target.partition("?")
        names = [name for name, _ in self.headers]
        parameters = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
        fixed = {name: value for name, value in self.headers if name not in {"content-length", "x-where"}}
        return self.method, path.count("/"), path.split("/")[:2], names, parameters, fixed


def parsed(raw: bytes) -> Arrived:
    """Read strictly: one CR LF a line, no lone one, no folding, three words first."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert not set(head.replace(b"\r\n", b"")) & set(range(0x20)) - {9}, raw
    method, target, version = first.decode("ascii").split(" ")
    assert version == "HTTP/1.1"
    headers = []
    for line in lines:
        assert not line.startswith((b" ", b"\t")), raw
        name, colon, value = line.decode("utf-8").partition(":")
        assert colon, raw
        headers.append((name.lower(), value.strip(" ")))
    length = int(dict(headers).get("content-length", 0))
    assert len(body) == length
    return Arrived(method, target, headers, body)


def value_of(place: str, arrived: Arrived) -> str:
    """Return what the vendor reads at the place."""
    path, _, query = arrived.target.partition("?")
    match place:
        case "segment":
            return unquote(path.split("/")[2])
        case "part of a segment":
            return unquote(path.split("/")[2]).removeprefix("a-").removesuffix(".json")
        case "query" | "part of a parameter" | "rest of the query":
            return dict(parse_qsl(query, keep_blank_values=True))["where" if "rest" in place else "next"].removeprefix(
                "a:" if "part" in place else ""
            )
        case "header" | "part of a header":
            return dict(arrived.headers)["x-where"].removeprefix("v=").removesuffix("; q=1")
        case _:
            return str(json.loads(arrived.body)["where"])


@pytest.fixture
async def upstream() -> AsyncIterator[Vendor]:
    async with vendor(sends(OK)) as one:
        yield one


@pytest.fixture
async def ground(redis: "Redis", tmp_path: Path, upstream: Vendor) -> AsyncIterator[Ground]:
    engine = Engine()
    await engine.open()
    async with open_guards(common(redis, engine, tmp_path)) as guarding:
        pipeline = Pipeline(
            engine,
            guarding.guards,
            clock=lambda: 1_795_000_000.0,
            new_span=lambda: "b" * 16,
            scrub=scrub_bytes,
            cap_wire_bytes=65_536,
            cap_decoded_bytes=65_536,
        )
        yield Ground(engine=engine, pipeline=pipeline, folder=tmp_path, vendor=upstream, hint=[])
    await engine.close()


@pytest.mark.parametrize("place", PLACES)
async def test_a_value_stays_in_its_place_or_is_refused(place: str, ground: Ground, upstream: Vendor) -> None:
    async def arrive(value: str) -> Arrived | None:
        before = len(upstream.arrivals)
        outcome = await attempt(ground, {"where": value}, base_url=ground.base, egress=LOCAL, **PLACES[place])
        arrived = upstream.arrivals[before:]
        if outcome.failure is None:
            assert len(arrived) == 1, value
            return parsed(arrived[0])
        assert outcome.failure is Failure.RENDER_INVALID, (value, outcome)
        assert arrived == [], value
        return None

    ordinary = await arrive("plain")
    assert ordinary
    sent = 0
    for value in ALL:
        arrived = await arrive(value)
        if arrived is None:
            continue
        sent += 1
        assert arrived.shape == ordinary.shape, value
        kept = value_of(place, arrived)
        assert kept == (value.strip() if place == "header" else value), "it was changed or carried out"
    assert sent > len(ALL) // 3, "nearly everything is refused: then nothing is shown here"
    assert upstream.connections <= 2 * len(ALL) + 1


@pytest.mark.parametrize("name", ["where\r\nX-Evil: 1", "a&api_key", "../x", "{where}", "${env:HOME}", "__proto__"])
async def test_a_name_stays_a_name(name: str, ground: Ground, upstream: Vendor) -> None:
    await attempt(ground, {name: "v"}, base_url=ground.base, egress=LOCAL)
    await attempt(ground, {name: "v"}, method="GET", base_url=ground.base, egress=LOCAL)
    posted, asked = (parsed(raw) for raw in upstream.arrivals)
    assert json.loads(posted.body) == {name: "v"}
    assert parse_qsl(asked.target.partition("?")[2]) == [(name, "v")]

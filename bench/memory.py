"""What a waiting call takes of Redis: published events of 1,024 bytes, taken in by the real use-case."""

import json
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from bench.ground import ROOT, memory
from connectors import catalog as manifests
from gateway.app import ambient
from gateway.flow.intake import Entry, Intake, Terms
from gateway.lanes.queue import Lanes
from gateway.lanes.queue import Terms as LaneTerms
from gateway.policy.plans import plans
from schemas.codec import Undecodable
from schemas.letter import Opened
from schemas.topics import FIELD, GROUP, Shard, Topics

EVENT_BYTES = 1024
READ = 128
SESSIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """Bytes of the server's memory a call."""

    queue: float
    """Its own keys: body, run, scope, deadline, its place in the lane."""
    accepted: float
    """The `accepted` event on `tool-events`, for as long as that topic is kept."""


async def weigh(redis: "Redis", calls: int) -> Weight:
    """Take `calls` events in and see by how much the server grew; it must be empty."""
    topics = Topics("memory-")
    connection: Any = redis
    before = await memory(redis)
    await take_in(connection, topics, calls)
    full = await memory(redis)
    await connection.delete(topics.events)
    without = await memory(redis)
    return Weight(queue=(without - before) / calls, accepted=(full - without) / calls)


async def take_in(connection: Any, topics: Topics, calls: int) -> None:
    """Publish `calls` events and take them in as the bus does, until all wait."""
    await connection.xgroup_create(topics.calls, GROUP, id="0", mkstream=True)
    intake = _intake(connection, topics)
    for start in range(0, calls, READ):
        await _publish(connection, topics, range(start, min(start + READ, calls)))
        told = await connection.xreadgroup(GROUP, "bench", {topics.calls: ">"}, count=READ)
        entries = [(entry.decode(), fields[FIELD.encode()]) for entry, fields in _entries(told)]
        await intake.from_bus([Entry(stream=topics.calls, id=entry, raw=raw) for entry, raw in entries])
        await connection.xtrim(topics.calls, maxlen=0, approximate=False)
    if await connection.hlen(Shard(topics.prefix).key("runs")) != calls:
        raise RuntimeError("not every event was taken in")


def _entries(told: Any) -> list[Any]:
    """Return the entries of one stream, which RESP3 answers as a mapping of streams to lists of lists."""
    ((entries,),) = told.values()
    return list(entries)


async def _publish(connection: Any, topics: Topics, numbers: range) -> None:
    async with connection.pipeline(transaction=False) as pipe:
        for number in numbers:
            pipe.xadd(topics.calls, {FIELD: _event(number)})
        await pipe.execute()


def _event(number: int) -> bytes:
    event = {
        "specversion": "1.0",
        "type": "tool.call.requested",
        "source": "agent/research-7",
        "id": f"{number:026}",
        "time": "2026-11-20T09:00:00Z",
        "traceparent": f"00-{number + 1:032x}-00f067aa0ba902b7-01",
        "data": {
            "tool": "mail.messages.send",
            "arguments": {"ref": f"m{number}", "text": ""},
            "session": f"s{number % SESSIONS}",
        },
    }
    missing = EVENT_BYTES - len(json.dumps(event, separators=(",", ":")))
    event["data"]["arguments"]["text"] = "t" * missing  # type: ignore[index]
    return json.dumps(event, separators=(",", ":")).encode()


def _intake(redis: "Redis", topics: Topics) -> Intake:
    catalog = manifests.load([ROOT / "examples" / "json-api.yaml"], {}).catalog
    known = plans(catalog.operations.values(), grace_us=7_000_000)
    terms = LaneTerms(items=READ, size_bytes=8_000_000, wait_s=0.05, most_bytes=10**13)
    lanes = Lanes(redis, topics, shard=Shard(topics.prefix), terms=terms, plans=lambda: known)
    bounds = Terms(max_event_bytes=262_144, deadline_s=86_400, queue_limit=10**9, answer_ttl_s=86_400)
    return Intake(lanes, lambda: catalog, ambient=ambient("bench"), terms=bounds, letter=_no_letter)


async def _no_letter(entry: Entry, verdict: Undecodable) -> tuple[Opened, str]:
    raise RuntimeError(f"{entry.id} could not be read: {verdict.message}")

"""Several shards on one server, with its streams as the bus: what goes in is done once and told once, wherever its connector lies."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.entrypoints.bus.alone import Alone
from gateway.flow.intake import Entry
from gateway.lanes.offsets import Note, Offsets
from gateway.lanes.spread.above import AllOffsets
from gateway.lanes.spread.shards import reach
from schemas.sharding import shard_of, shard_of_id
from schemas.topics import GROUP
from tests.served import Served, bearer, people, served
from tests.vendor.client import VendorProcess, manifest

pytestmark = pytest.mark.wire

SHARDS = 4
NAMES = ("crm", "erp", "mail", "shop", "desk", "wiki")


def event(connector: str, ref: str) -> bytes:
    data = {"tool": f"{connector}.messages.send", "arguments": {"ref": ref, "text": "hi"}}
    envelope = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/t", "id": ref}
    return json.dumps({**envelope, "data": data}).encode()


async def test_what_comes_from_the_bus_is_acknowledged_in_the_shard_that_stores_it(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    assert len({shard_of(name, SHARDS) for name in NAMES}) > 2
    text = manifest(vendor.url)
    told = "\n---\n".join(text.replace("name: crm", f"name: {name}") for name in NAMES)
    told += people(tmp_path, {"t": "*"}, {"night": "operator"})
    refs = [(name, f"{name}-{at}") for at in range(5) for name in NAMES]
    async with served(redis_url, tmp_path / "data", told, shards=SHARDS, journals=True, beat_every=0.1) as gateway:
        for _ in range(2):  # all of it comes a second time
            for name, ref in refs:
                await redis.xadd("tool-calls", {"data": event(name, ref)})
        await redis.xadd("tool-calls", {"data": b"no event"})
        await redis.xadd("tool-calls", {"data": event("nobody", "nobody")})
        await settled(gateway, received=2 * len(refs) + 2)
        counts = vendor.counts()
        assert (counts.effects_total, counts.repeated_refs) == (len(refs), [])
        pending: Any = await redis.xpending("tool-calls", GROUP)
        assert pending["pending"] == 0
        entries: Any = await redis.xrange("tool-results")
        results = {one["id"]: one["data"] for one in (json.loads(fields[b"data"]) for _, fields in entries)}
        states = Counter(one["state"] for one in results.values())
        assert states == {"completed": len(refs), "rejected": 1}
        for one in results.values():
            assert shard_of_id(one["call"], SHARDS) == shard_of(one["tool"].partition(".")[0], SHARDS)
        await listed(gateway, len(refs) + 1)


async def settled(gateway: Served, received: int) -> None:
    """Wait until so many events were dealt with."""
    async with asyncio.timeout(30):
        while True:
            stats = await gateway.gateway.lanes.stats()
            if stats.get("received") == received and not stats["live"]:
                return
            await asyncio.sleep(0.05)


async def listed(gateway: Served, calls: int) -> None:
    """Wait until the journal lists them all."""
    async with asyncio.timeout(30):
        while True:
            answer = await gateway.http.get("/v1/calls", params={"limit": "200"}, headers=bearer("night"))
            if len(answer.json()["calls"]) == calls:
                return
            await asyncio.sleep(0.05)


class Reader:
    """Takes nothing in, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def poison(self, entry: Entry) -> None:
        self.asked.append(f"poison {entry.id}")

    async def from_bus(self, entries: list[Entry]) -> list[str]:
        self.asked += [one.id for one in entries]
        return []


async def test_a_record_that_any_shard_has_stored_is_no_poison_whoever_died_of_it(
    redis: "Redis", redis_url: str
) -> None:
    books: Any = redis
    async with reach(redis_url, "", SHARDS) as shards:
        offsets = AllOffsets([Offsets(seat.redis, seat.shard) for seat in shards.parts])
        alone = Alone(redis, shards.home.shard, most=1, stored=offsets.stored)
        reader: Any = Reader()
        await books.zadd(shards.parts[2].shard.key("marks:0"), {"7": 7})
        await alone.take(reader, Entry(stream="tool-calls", id="0:7", raw=b"", engine="kafka"))
        assert reader.asked == []
        await alone.take(reader, Entry(stream="tool-calls", id="0:8", raw=b"", engine="kafka"))
        assert reader.asked == ["poison 0:8"]
        await offsets.note([Note(partition=0, committed=9)])
        assert await offsets.stored("0:8")
        assert not await offsets.stored("0:9")


async def test_a_record_that_waits_for_the_journal_waits_where_its_call_is(redis: "Redis", redis_url: str) -> None:
    books: Any = redis
    async with reach(redis_url, "", SHARDS) as shards:
        offsets = AllOffsets([Offsets(seat.redis, seat.shard) for seat in shards.parts])
        raw = {f"0:{at}": event(name, name) for at, name in enumerate(NAMES)}
        await offsets.put_aside(raw)
        assert await offsets.aside() == raw
        for at, name in enumerate(NAMES):
            assert await books.hexists(shards.of(name).shard.key("aside"), f"0:{at}")

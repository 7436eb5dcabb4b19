"""Several shards on one server, with its streams as the bus: what goes in is done once and told once, wherever its connector lies."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

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

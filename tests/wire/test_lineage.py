"""A chain of replays as its events, the journal and the timeline tell it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.lanes.topic_reader import unread
from tests.served import Served, bearer, key_of, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess
from tests.wire.letters import BROKEN, SEND, WHO, declared, letter, replayed

pytestmark = pytest.mark.wire


async def journalled(redis: "Redis") -> None:
    async with asyncio.timeout(20):
        while True:
            found = await unread(redis, ["tool-events", "tool-results", "dead-letters"])
            if len(found) == 3 and all(one.entries == 0 for one in found):
                return
            await asyncio.sleep(0.02)


async def listed(gateway: Served, **query: Any) -> list[dict[str, Any]]:
    answer = await gateway.http.get("/v1/calls", params=query, headers=bearer(WHO))
    calls: list[dict[str, Any]] = answer.json()["calls"]
    return calls


async def test_a_chain_is_told_by_every_event_found_by_its_first_letter_and_said_in_the_timeline(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    vendor.script("messages.send", BROKEN)
    text = declared(vendor, tmp_path)
    async with served(redis_url, tmp_path / "data", text, beat_every=0.1, journals=True) as gateway:
        root = await letter(gateway, SEND, {"ref": "g", "text": "hi"})
        other = await letter(gateway, SEND, {"ref": "h", "text": "hi"})
        second = (await replayed(gateway, root, canary=0))["letters"][0]["successor"]
        vendor.script("messages.send")
        assert (await replayed(gateway, second, canary=0))["progress"]["replayed_ok"] == 1
        await journalled(redis)
        chain = await listed(gateway, text=root)
        assert [(one["replay_of"], one["root"], one["state"]) for one in chain] == [
            (second, root, "completed"),
            (root, root, "failed"),
            (None, None, "failed"),
        ]
        entries: Any = await redis.xrange("tool-events")
        events = [json.loads(fields[b"data"]) for _, fields in entries]
        told = [one["data"] for one in events if one["type"].startswith("tool.call.")]
        for one in chain:
            roots = [data["root"] for data in told if data["call"] == one["call"]]
            assert roots == [one["root"]] * 3
        assert [one["root"] for one in await listed(gateway, text=other)] == [None]
        shell = Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": key_of(WHO)})
        shown = [(await shell("calls", "show", one["call"], "-o", "table")).out for one in chain]
        assert f"to replay letter {second} of the chain that began with {root}." in shown[0]
        assert f"to replay letter {root}." in shown[1]
        assert "replay letter" not in shown[2]

"""How far the journal is behind, as `/readyz` and `sluice doctor` tell it."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.policy.keeping_up import IN_STEP_US, standing
from schemas.moment import moment, stamp
from schemas.topics import Unread
from tests.journal_examples import Story, told
from tests.served import Served, journalling, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess, manifest

pytestmark = pytest.mark.wire

AGO_S = 600


async def ready(gateway: Served) -> tuple[str, str]:
    answer = await gateway.http.get("/readyz")
    assert answer.status_code == 200, answer.text
    (row,) = [one for one in answer.json()["checks"] if one["name"] == "journal"]
    assert row["ok"], "calls are worked on without it"
    return answer.json()["status"], row["detail"]


async def doctor(gateway: Served, folder: Path) -> dict[str, Any]:
    settings = gateway.gateway.settings
    assert settings.redis_url
    place = {"SLUICE_REDIS_URL": settings.redis_url, "SLUICE_DATA": str(settings.data), "SLUICE_URL": gateway.url}
    ran = await Shell(folder, place)("doctor", "-o", "json")
    (row,) = [one for one in ran.data if one["check"] == "journal"]
    return dict(row)


async def test_a_journal_that_is_behind_is_told_with_how_much_and_since_when(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    async with served(redis_url, tmp_path / "data", manifest(vendor.url), journal_keep_done=0) as gateway:
        assert await ready(gateway) == (
            "ready",
            "no journal has started: nothing can be listed, and the topics grow until one does",
        )
        row = await doctor(gateway, tmp_path)
        assert (row["status"], "no journal has started" in row["detail"]) == ("warn", True)
        assert "sluice journal" in row["fix"]
        async with journalling(gateway.gateway.settings):
            await until_ready(gateway, "it writes what happens")
        then_ms = int((time.time() - AGO_S) * 1000)
        for number, raw in enumerate(told(Story(number=1)).events):
            await redis.xadd("tool-events", {"data": raw}, id=f"{then_ms}-{number + 1}")
        behind = f"it is behind: 3 entries, the oldest from {stamp(moment(then_ms * 1000))}"
        assert await ready(gateway) == ("ready", behind)
        row = await doctor(gateway, tmp_path)
        assert (row["status"], row["fix"]) == ("warn", "Is it running? sluice journal")
        assert row["detail"].endswith(behind)
        async with journalling(gateway.gateway.settings):
            await until_ready(gateway, "it writes what happens")
            row = await doctor(gateway, tmp_path)
            assert (row["status"], row["fix"]) == ("ok", "")


async def until_ready(gateway: Served, detail: str) -> None:
    async with asyncio.timeout(20):
        while True:
            if (await ready(gateway))[1] == detail:
                return
            await asyncio.sleep(0.05)


def unread(entries: int, age_us: int | None, now_us: int) -> Unread:
    oldest_us = None if age_us is None else now_us - age_us
    return Unread(topic="t", entries=entries, consumers=1, oldest_us=oldest_us)


@pytest.mark.parametrize(
    ("entries", "age_us", "begins"),
    [
        (0, None, "it writes"),
        (900_000, IN_STEP_US - 1, "it writes"),
        (1, IN_STEP_US, "it is behind: 1 entry, the oldest"),
        (20_001, 3_600_000_000, "it is behind: 20001 entries, the oldest"),
        (0, IN_STEP_US, "it is behind: some entries, the oldest"),
    ],
)
def test_what_is_young_may_be_on_its_way(entries: int, age_us: int | None, begins: str) -> None:
    now_us = 1_795_000_000_000_000
    topics = [unread(0, None, now_us), unread(entries, age_us, now_us)]
    assert standing(topics, now_us).startswith(begins)

"""Workers that are killed while they forget letters: an open letter keeps everything, and what was over leaves nothing behind."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gateway.app import open_gateway
from gateway.settings import Settings
from tests.demo import ledger
from tests.faults.conftest import Workers, free_port, until_quiet
from tests.faults.deadly import FORGET
from tests.faults.test_replay_kill import ask, event, finished, once_only
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

LARGE = "x" * 20_000
POINTS = [f"{when} {step}" for step in FORGET for when in ("before", "after")][1:]
"""Before the first step nothing has happened."""


@pytest.fixture
def port(workers: Workers) -> int:
    once_only(workers)
    workers.environment |= {"SLUICE_PORT": str(free_port()), "SLUICE_KEEP_LETTERS": "1", "SLUICE_TRIM_EVERY": "0.2"}
    workers.start_api()
    return int(workers.environment["SLUICE_PORT"])


def blobs(workers: Workers) -> set[Path]:
    return set((workers.folder / "data" / "blobs").glob("*.sealed"))


def of(letter: str, workers: Workers) -> set[Path]:
    return {path for path in blobs(workers) if path.name.startswith(letter)}


def made(workers: Workers, books: "Redis") -> list[str]:
    """Make one letter that stays open, and one for each point of death."""
    for number in range(1 + len(POINTS)):
        arguments = {"ref": f"r{number}", "text": LARGE}
        books.xadd("tool-calls", {"data": event(f"e{number}", "messages.send", arguments)})
    until_quiet(books, 1 + len(POINTS))
    return [one["data"]["identity"]["dl_id"] for one in ledger.letters(books)]


def test_killed_at_each_step_of_forgetting_nothing_open_is_touched_and_nothing_else_remains(
    workers: Workers, vendor: VendorProcess, books: "Redis", port: int
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.STATUS, status=422, forever=True))
    first = workers.start()
    opened, *rest = made(workers, books)
    first.kill()
    mine = of(opened, workers)
    for point, letter in zip(POINTS, rest, strict=True):
        ask(port, "POST", f"/v1/dead-letters/{letter}/discard", {"reason": point})
        time.sleep(1.1)  # it is over for so long
        assert workers.start(point, "1").wait(30) == -9, (point, workers.log[-2000:])
        assert of(opened, workers) == mine
    workers.start()
    give_up = time.monotonic() + 30
    while books.xlen("dead-letters") != 1:
        assert time.monotonic() < give_up, workers.log[-2000:]
        time.sleep(0.05)
    assert [one["data"]["identity"]["dl_id"] for one in ledger.letters(books)] == [opened]
    left = blobs(workers) - mine
    assert left, "a victim died between an entry and its file"
    for path in blobs(workers):
        os.utime(path, (1000, 1000))
    assert asyncio.run(swept(workers)) == [0, len(left), 0]
    assert blobs(workers) == mine
    vendor.script("messages.send")
    replay = ask(port, "POST", "/v1/replays", {"ids": [opened]})["replay"]
    assert finished(port, replay, workers)["progress"]["replayed_ok"] == 1
    assert vendor.counts().effects_total == 1


async def swept(workers: Workers) -> list[int]:
    names: dict[str, Any] = {"redis_url": workers.environment["SLUICE_REDIS_URL"], "data": workers.folder / "data"}
    async with open_gateway(Settings(**names, connectors=[]), "worker") as gateway:
        return [await gateway.replaying.care.sweep() for _ in range(3)]

"""Tokens under attack: many processes on tokens that end all the time, death at every step, and no secret anywhere.

`SLUICE_TEST_TOKENS_S=60` makes the long run.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from connectors.auth.found import NeedsConsent
from connectors.auth.freshness import MOVES, TokenState
from connectors.auth.token_store import AccessToken
from connectors.secret import Secret
from tests.credentials import NAME, Bench, bench, refreshing
from tests.faults.tokened import LEASE_S, TIMEOUT_S
from tests.vendor.client import ROOT, VendorProcess
from tests.vendor.script import Behaviour, Kind, Point
from tests.vendor.tokens import DeskRequest

pytestmark = pytest.mark.faults

SECONDS = float(os.environ.get("SLUICE_TEST_TOKENS_S", "12"))


class Fleet:
    """Processes that call with tokens."""

    def __init__(self, redis_url: str, vendor_url: str, folder: Path) -> None:
        self._place = [redis_url, vendor_url]
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.tokened", *self._place, *more]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
        self.running.append(process)
        return process

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


@pytest.fixture
def fleet(redis_url: str, vendor: VendorProcess) -> Iterator[Fleet]:
    BlockingRedis.from_url(redis_url).flushall()
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        started = Fleet(redis_url, vendor.url, Path(folder))
        yield started
        started.stop()


async def sums_of(fleet: Fleet) -> Counter[str]:
    sums: Counter[str] = Counter()
    for process in fleet.running:
        out, _ = await asyncio.to_thread(process.communicate)
        sums.update(json.loads(out))
    return sums


@pytest.mark.timeout(180)
@pytest.mark.parametrize("rotation", ["none", "grace", "strict"])
async def test_one_request_for_each_rotation_and_the_grant_alive(
    fleet: Fleet, redis_url: str, vendor: VendorProcess, rotation: Any
) -> None:
    vendor.desk(DeskRequest(lifetime=3, rotation=rotation))
    vendor.auth("oauth2")
    for callers in (13, 13, 12, 12):
        fleet.start("--rotation", rotation, "--callers", str(callers), "--seconds", str(SECONDS))
    sums = await sums_of(fleet)
    redis: Any = BlockingRedis.from_url(redis_url)
    books, version = vendor.desk_counts(), int(redis.hget(f"{{s0}}:token:{NAME}", "version"))
    assert books.requests == books.granted["refresh_token"] == version
    # 3 s, renewed after 2.25 s, give or take a fifth of the quarter and the first look.
    assert SECONDS / 3 - 1 <= version <= SECONDS / 2 + 2
    assert (books.reuses, books.repeats, books.alive) == (0, 0, True)
    assert (sums["401"], sums["NeedsConsent"], sums["ConfigError"]) == (0, 0, 0)
    assert sums["200"] > 50 * SECONDS
    assert_no_secret(fleet, redis_url, vendor)


def assert_no_secret(fleet: Fleet, redis_url: str, vendor: VendorProcess) -> None:
    """Search what was written down, by us and by Redis, for every token that there ever was."""
    secrets = [token.encode() for token in vendor.desk_counts().issued] + [b"refresh-0", b"s3cret"]
    books: Any = BlockingRedis.from_url(redis_url)
    texts = {"log": (fleet.folder / "log").read_bytes()}
    texts |= {f"dump of {key!r}": books.dump(key) for key in books.keys("*")}
    texts |= {stream: repr(books.xrange(stream)).encode() for stream in ("tool-events", "gateway-alerts")}
    files = [path for path in Path(urlsplit(redis_url).path).parent.rglob("*") if path.is_file()]
    texts |= {str(path): path.read_bytes() for path in files}
    assert any("aof" in name for name in texts)
    assert b"token.changed" in texts["log"]
    assert [name for name, text in texts.items() for secret in secrets if secret in text] == []


@pytest.fixture
async def survivor(redis: "Redis", vendor: VendorProcess, request: pytest.FixtureRequest) -> Any:
    rotation = request.getfixturevalue("rotation")
    terms = {"lease_s": LEASE_S, "timeout_s": TIMEOUT_S}
    vendor.desk(DeskRequest(lifetime=4, rotation=rotation))
    async with bench(redis, vendor.url, refreshing(rotation), "survivor", **terms) as one:
        yield one


async def until(one: Bench, kind: type, *, beyond: int = 0, timeout_s: float = 15.0) -> Any:
    """Ask until there is this kind of answer, and of a token a newer version."""
    give_up = time.monotonic() + timeout_s
    while True:
        found = await one.token()
        if isinstance(found, kind) and not (isinstance(found, AccessToken) and found.version <= beyond):
            return found
        assert time.monotonic() < give_up, (found, await one.store.read(NAME))
        await asyncio.sleep(0.02)


def books_of(one: Bench) -> Any:
    return one.store._redis


ROTATED = {"begun": False, "asked": True, "answered": True, "committed": True}
"""Whether the vendor has replaced the refresh token when the process dies."""


@pytest.mark.parametrize("rotation", ["grace", "strict"])
@pytest.mark.parametrize("step", ROTATED)
async def test_death_between_the_vendors_rotation_and_our_keeping_it(
    fleet: Fleet, survivor: Bench, vendor: VendorProcess, rotation: str, step: str
) -> None:
    first = await survivor.token()
    assert isinstance(first, AccessToken)
    if step == "asked":
        await vendor.aio.script("token", Behaviour(do=Kind.HOLD, point=Point.AFTER))
    process = fleet.start("--rotation", rotation, "--die", step)
    if step == "asked":
        await vendor.aio.until(held=1)
        process.kill()
        await vendor.aio.release()
    assert await asyncio.to_thread(process.wait, 10) == -signal.SIGKILL
    if step == "committed":
        assert (await until(survivor, AccessToken, beyond=first.version)).version == 2
    elif rotation == "grace" or not ROTATED[step]:
        await until(survivor, AccessToken, beyond=first.version)
    else:
        assert isinstance(await survivor.token(), AccessToken)
        await until(survivor, NeedsConsent)
    moves = [json.loads(fields[b"data"])["data"] for _, fields in await books_of(survivor).xrange("tool-events")]
    assert [move for move in moves if move["to"] not in MOVES[TokenState(move["from"])]] == []
    books = vendor.desk_counts()
    lost = rotation == "strict" and step in {"asked", "answered"}
    assert (books.reuses, books.alive) == (int(lost), not lost)
    if lost:
        await vendor.aio.consent("refresh-again")
        assert isinstance(await survivor.source.give(survivor.credential, Secret("refresh-again")), AccessToken)


@pytest.mark.parametrize("rotation", ["grace"])
async def test_a_worker_that_was_stopped_beyond_its_lease_changes_nothing(
    fleet: Fleet, survivor: Bench, vendor: VendorProcess, rotation: str
) -> None:
    first = await survivor.token()
    assert isinstance(first, AccessToken)
    await vendor.aio.script("token", Behaviour(do=Kind.HOLD, point=Point.AFTER))
    process = fleet.start("--rotation", rotation, "--die", "asked")
    await vendor.aio.until(held=1)
    process.send_signal(signal.SIGSTOP)
    await vendor.aio.release()
    second = await until(survivor, AccessToken, beyond=first.version)
    process.send_signal(signal.SIGCONT)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert (await survivor.store.read(NAME)).version == second.version
    assert (vendor.desk_counts().alive, vendor.desk_counts().reuses) == (True, 0)

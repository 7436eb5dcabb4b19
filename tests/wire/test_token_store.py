"""What is kept of a credential: sealed for one place, fenced, and the gates in step with it."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from connectors.auth.found import NeedsConsent
from connectors.auth.token_store import AccessToken, Begin
from dlq.keys import KeyRing
from gateway.embedded_redis import EmbeddedRedis, Restart
from gateway.lanes.connect import connect
from schemas.lifecycle import HoldReason
from tests.credentials import CLIENT, NAME, bench, gate, refreshing
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind, Point
from tests.vendor.tokens import DeskRequest

pytestmark = pytest.mark.wire


async def test_a_lost_key_costs_a_client_one_request_and_a_grant_its_consent(
    redis: "Redis", vendor: VendorProcess
) -> None:
    other = KeyRing({"k2": b"o" * 32})
    async with bench(redis, vendor.url, CLIENT) as one:
        await one.token()
    async with bench(redis, vendor.url, CLIENT, "w2", keys=other) as one:
        assert isinstance(await one.token(), AccessToken)
        assert vendor.desk_counts().requests == 2
    async with bench(redis, vendor.url, refreshing(), "w3", keys=KeyRing({"k3": b"x" * 32})) as one:
        found = await one.token()
    assert isinstance(found, NeedsConsent)
    assert "cannot be opened" in found.reason


async def test_old_keys_open_and_the_newest_seals(redis: "Redis", vendor: VendorProcess) -> None:
    both = KeyRing({"k2": b"n" * 32, "k1": b"k" * 32})
    async with bench(redis, vendor.url, refreshing()) as one:
        first = await one.token()
    async with bench(redis, vendor.url, refreshing(), "w2", keys=both) as one:
        assert (await one.token()).version == first.version
        await one.source.check(one.credential)
        assert (await one.store.read(NAME)).key_id == "k2"


async def test_what_a_dead_worker_left_half_done_is_finished_by_the_chore(
    redis: "Redis", vendor: VendorProcess
) -> None:
    vendor.revoke()
    async with bench(redis, vendor.url, refreshing("strict")) as one:
        assert isinstance(await one.token(), NeedsConsent)
        begin = Begin(knows=1, holder="dead", lease_us=1000, tries_in_doubt=1, force=True)
        assert (await one.store.begin(NAME, begin)).answer == "granted"
        await asyncio.sleep(0.01)
        vendor.consent("refresh-0")
        await one.source.tend(one.credential)
        await one.store.agree([NAME])
        assert isinstance(await one.token(), AccessToken)
        assert await gate(redis) is None


async def test_gates_follow_the_credentials_also_after_a_crash(redis: "Redis", vendor: VendorProcess) -> None:
    vendor.revoke()
    async with bench(redis, vendor.url, refreshing()) as one:
        await one.token()
        await one.lanes.open(f"@{NAME}", HoldReason.NEEDS_CONSENT)
        await one.store.agree([NAME])
        assert await gate(redis) is not None
        vendor.consent("refresh-0")
        await one.source.check(one.credential)
        await one.lanes.close(f"@{NAME}", HoldReason.NEEDS_CONSENT, for_us=0, detail="late")
        await one.store.agree([NAME])
        assert await gate(redis) is None


async def test_what_is_kept_does_not_open_elsewhere(redis: "Redis", vendor: VendorProcess) -> None:
    async with bench(redis, vendor.url, refreshing()) as one:
        await one.token()
        books: Any = redis
        stolen = await books.hgetall("{s0}:token:crm|main")
        await books.hset("{s0}:token:crm|main", mapping={**stolen, b"version": 7})
    async with bench(redis, vendor.url, refreshing(), "thief") as other:
        assert not isinstance(await other.token(), AccessToken)


@pytest.mark.parametrize("other_first", [False, True])
async def test_redis_forgets_while_the_vendor_answers(
    redis: "Redis", vendor: VendorProcess, *, other_first: bool
) -> None:
    """Who has the new refresh token in hand keeps it; once somebody has found the loss, it is a loss."""
    vendor.desk(DeskRequest(rotation="strict"))
    async with (
        bench(redis, vendor.url, refreshing("strict"), "a") as one,
        bench(redis, vendor.url, refreshing("strict"), "b") as other,
    ):
        assert (await one.token()).version == (await other.token()).version == 1
        await vendor.aio.script("token", Behaviour(do=Kind.HOLD, point=Point.AFTER))
        asking = asyncio.create_task(one.source.check(one.credential))
        await vendor.aio.until(held=1)
        await redis.flushall()
        if other_first:
            await other.source.forgotten(other.credential)
        await vendor.aio.release()
        found = await asking
        assert isinstance(found, NeedsConsent if other_first else AccessToken)
        if not other_first:
            assert isinstance(await one.source.check(one.credential), AccessToken)
    assert (vendor.desk_counts().reuses, vendor.desk_counts().alive) == (0, True)
    assert vendor.desk_counts().requests == (2 if other_first else 3)


async def test_a_token_that_was_fetched_while_redis_was_dead_is_kept_when_it_is_back(
    vendor: VendorProcess,
) -> None:
    vendor.desk(DeskRequest(rotation="strict"))
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        server = EmbeddedRedis(Path(folder))
        await server.start()
        back = asyncio.Event()

        async def restarted(_: Restart) -> None:
            back.set()

        watching = asyncio.create_task(server.watch(restarted))
        async with connect(server.url) as mine, bench(mine, vendor.url, refreshing("strict")) as one:
            await one.token()
            await vendor.aio.script("token", Behaviour(do=Kind.HOLD, point=Point.AFTER))
            asking = asyncio.create_task(one.source.check(one.credential))
            await vendor.aio.until(held=1)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await vendor.aio.release()
            assert isinstance(await asyncio.wait_for(asking, 15), AccessToken)
            assert back.is_set()
            kept = await one.store.read(NAME)
            assert (kept.version, kept.state) == (2, "active")
            assert isinstance(await one.source.check(one.credential), AccessToken)
        watching.cancel()
        await server.stop()
    assert (vendor.desk_counts().requests, vendor.desk_counts().alive) == (3, True)


async def test_the_chore_does_not_try_a_doubtful_refresh_token_while_the_access_token_lives(
    redis: "Redis", vendor: VendorProcess
) -> None:
    vendor.desk(DeskRequest(rotation="strict"))
    async with bench(redis, vendor.url, refreshing("strict")) as one:
        first = await one.token()
        begin = Begin(knows=1, holder="dead", lease_us=1000, tries_in_doubt=1, spare=True)
        assert (await one.store.begin(NAME, begin)).answer == "granted"
        await asyncio.sleep(0.01)
        for _ in range(3):
            await one.source.tend(one.credential)
        assert (await one.store.read(NAME)).state == "in_doubt"
        assert (await one.token()).version == first.version
    assert vendor.desk_counts().requests == 1


async def test_a_process_that_knew_a_token_notices_that_redis_has_forgotten_the_grant(
    redis: "Redis", vendor: VendorProcess
) -> None:
    vendor.desk(DeskRequest(rotation="strict", lifetime=1.0))
    async with bench(redis, vendor.url, refreshing("strict")) as one:
        assert isinstance(await one.token(), AccessToken)
        await redis.flushall()
        await asyncio.sleep(1.0)
        found = await one.token()
        assert isinstance(found, NeedsConsent)
        assert "forgotten" in found.reason
        assert (await gate(redis) or {})["detail"] == found.reason
    assert (vendor.desk_counts().requests, vendor.desk_counts().alive) == (1, True)

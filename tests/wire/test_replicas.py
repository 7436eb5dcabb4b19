"""Marks that a replica must hold, and a replica that takes over: the scripts on two real servers."""

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError  # noqa: A004 - the client's own

from gateway.lanes.connect import connect
from gateway.lanes.fleet import Epoch
from gateway.lanes.marks import Copies
from gateway.lanes.offsets import Forgotten, Note, Offsets
from gateway.lanes.queue import Lanes
from gateway.ports import Claim, Mark
from schemas.topics import GROUP, Shard, Topics
from tests.redis_pair import Pair, pair
from tests.wire.test_lanes import NEVER, TERMS, TOPICS, admission, deferral

GRACE_US = 7_000_000
sequence = itertools.count(1)


@pytest.fixture
def both() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder, pair(Path(folder)) as started:
        yield started


@pytest.fixture
async def client(both: Pair) -> AsyncIterator["Redis"]:
    async with connect(both.door.url) as redis:
        await redis.xgroup_create(TOPICS.calls, GROUP, id="0", mkstream=True)
        yield redis


def lanes_on(redis: "Redis", needed: int | None = None) -> Lanes:
    terms = replace(TERMS, copies=Copies(needed=needed, wait_ms=200))
    return Lanes(redis, Topics(), shard=Shard(), terms=terms, plans=dict)


async def one(lanes: Lanes, epoch: str = "") -> Claim:
    (claim,) = (await lanes.claim("w", next(sequence), room=1, grace_us=GRACE_US, epoch=epoch)).claims
    return claim


def mark_of(claim: Claim) -> Mark:
    return Mark(claim.id, claim.fence)


class Names:
    """The epoch of one process, and what it was told."""

    def __init__(self, lanes: Lanes, folder: Path) -> None:
        self.told: list[tuple[str, str]] = []
        names = (f"name-{number}" for number in itertools.count())
        self.epoch = Epoch(lanes, folder / "epoch", lambda: next(names))

    async def check(self) -> None:
        async def lost(expected: str, found: str) -> None:
            self.told.append((expected, found))

        await self.epoch.check(lost)


async def test_a_mark_waits_for_the_replica_and_without_its_word_nothing_may_be_sent(
    both: Pair, client: "Redis", tmp_path: Path
) -> None:
    lanes = lanes_on(client)
    await Names(lanes, tmp_path).check()
    await lanes.enqueue([admission("c1")])
    claim = await one(lanes)
    assert await lanes.mark(mark_of(claim)) == "marked"
    assert both.replica.client.hget("{s0}:runs", "c1") == both.primary.client.hget("{s0}:runs", "c1")
    both.replica.suspend()
    began = time.monotonic()
    assert await lanes.mark(mark_of(claim)) == "unconfirmed"
    assert time.monotonic() - began < 3
    assert await lanes.settle(deferral(claim, 0)) == "settled"
    again = await one(lanes)
    both.replica.resume()
    assert await lanes.mark(mark_of(again)) == "marked"


async def test_once_there_was_a_replica_its_death_is_no_reason_to_send_without_it(
    both: Pair, client: "Redis", tmp_path: Path
) -> None:
    lanes = lanes_on(client)
    names = Names(lanes, tmp_path)
    await names.check()
    both.replica.kill()
    await names.check()
    await lanes.enqueue([admission("c1")])
    claim = await one(lanes)
    assert await lanes.mark(mark_of(claim)) == "unconfirmed"
    none = lanes_on(client, 0)
    assert await none.mark(mark_of(claim)) == "marked", "unless an operator says that there is none"


@pytest.mark.parametrize(("needed", "told"), [(None, "marked"), (0, "marked"), (1, "unconfirmed")])
async def test_a_server_without_a_replica_is_asked_once_for_a_mark(
    redis: "Redis", tmp_path: Path, needed: int | None, told: str
) -> None:
    lanes = lanes_on(redis, needed)
    await Names(lanes, tmp_path).check()
    await lanes.enqueue([admission("c1")])
    claim = await one(lanes)
    await lanes.mark(mark_of(claim))
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    waited = (await redis.info("commandstats")).get("cmdstat_wait", {"calls": 0})["calls"]
    assert await lanes.mark(mark_of(claim)) == told
    after = await redis.info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] - before == 1
    assert after.get("cmdstat_wait", {"calls": 0})["calls"] - waited == (1 if needed else 0)


async def test_a_replica_that_took_over_is_another_state_for_whoever_claims_and_it_is_told_once(
    both: Pair, client: "Redis", tmp_path: Path
) -> None:
    lanes = lanes_on(client)
    names = Names(lanes, tmp_path)
    await names.check()
    await lanes.enqueue([admission("c1")])
    both.replica.client.ping()
    claim = await one(lanes, names.epoch.name)
    assert await lanes.mark(mark_of(claim)) == "marked"
    both.fail_over()
    async with connect(both.door.url) as fresh:
        lanes = lanes_on(fresh)
        names.epoch._lanes = lanes
        forgot = await lanes.claim("w", next(sequence), room=1, grace_us=GRACE_US, epoch=names.epoch.name)
        assert forgot.forgot
        assert await lanes.reap(most=9, lease_us=1, gap_us=NEVER, hold_us=0) == ()
        before = names.epoch.name
        await names.check()
        await names.check()
        assert names.told == [(before, names.epoch.name)]
        assert await fresh.get("{s0}:forgot"), "limits start full"
        assert not await fresh.exists("{s0}:doubt"), "each mark had to come, so one that did not was never given"
        assert not (await lanes.claim("w", next(sequence), room=1, grace_us=GRACE_US, epoch=names.epoch.name)).forgot
        assert await lanes.mark(mark_of(claim)) == "marked", "who lives goes on with what it has"


async def test_a_server_that_was_only_started_again_has_forgotten_nothing(
    both: Pair, client: "Redis", tmp_path: Path
) -> None:
    lanes = lanes_on(client)
    names = Names(lanes, tmp_path)
    await names.check()
    both.primary.kill()
    both.primary.start()
    async with connect(both.door.url) as fresh:
        names.epoch._lanes = lanes = lanes_on(fresh)
        assert not (await lanes.claim("w", next(sequence), room=1, grace_us=GRACE_US, epoch=names.epoch.name)).forgot
        await names.check()
    assert names.told == []


@pytest.mark.parametrize(("needed", "doubtful"), [(0, True), (None, False)])
async def test_what_waited_when_a_replica_took_over_is_in_doubt_unless_each_mark_had_to_come(
    both: Pair, client: "Redis", tmp_path: Path, needed: int | None, *, doubtful: bool
) -> None:
    lanes = lanes_on(client, needed)
    names = Names(lanes, tmp_path)
    await names.check()
    await lanes.enqueue([admission("claimed"), admission("waits")])
    claimed = await one(lanes)
    client_side = both.primary.client
    client_side.wait(1, 2000)
    both.fail_over()
    async with connect(both.door.url) as fresh:
        names.epoch._lanes = lanes = lanes_on(fresh, needed)
        await names.check()
        await lanes.enqueue([admission("later")])
        waits = await one(lanes, names.epoch.name)
        later = await one(lanes, names.epoch.name)
        assert (waits.id, waits.run.doubtful, waits.run.effect) == (
            "waits",
            doubtful,
            "unknown" if doubtful else "not_executed",
        )
        assert (later.id, later.run.doubtful) == ("later", False)
        await fresh.zadd("{s0}:leases", {claimed.id: 1})
        (heir,) = await lanes.reap(most=9, lease_us=1, gap_us=NEVER, hold_us=0)
        assert heir.run.marked > 0, "a mark that is absent proves nothing of a claim of before"


async def test_what_the_bus_believes_is_not_noted_before_the_partition_was_read_again(
    both: Pair, client: "Redis", tmp_path: Path
) -> None:
    names = Names(lanes_on(client), tmp_path)
    await names.check()
    offsets = Offsets(client, Shard(), lambda: names.epoch.name)
    await offsets.note([Note(partition=0, committed=7), Note(partition=1, committed=3)])
    await client.wait(1, 5000)
    both.fail_over()
    with contextlib.suppress(ConnectionError):  # the one that was open
        await client.ping()
    # The group's place may be further on than what this copy has: it would pass for stored.
    stale = [Note(partition=0, committed=90)]
    with pytest.raises(Forgotten, match="forgot"):
        await offsets.note(stale)
    await names.check()
    with pytest.raises(Forgotten, match="behind"):
        await offsets.note(stale)
    kept = (await offsets.kept([0]))[0]
    assert (kept.stored, kept.behind) == (7, True)
    assert kept.loss is not None
    assert kept.loss.covered
    await offsets.note([Note(partition=0, loss=kept.loss.name, below=90)])
    half = (await offsets.kept([0]))[0]
    assert (half.behind, half.below) == (True, 90), "whoever goes on knows how far it had been read"
    await offsets.note([Note(partition=0, loss=kept.loss.name, below=90, done=True)])
    await offsets.note([Note(partition=0, committed=8)])
    after = await offsets.kept([0, 1])
    assert (after[0].stored, after[0].behind, after[0].below) == (8, False, 90)
    assert (after[1].stored, after[1].behind) == (3, True)
    with pytest.raises(Forgotten, match="behind"):
        await offsets.note([Note(partition=0, committed=9), Note(partition=1, committed=90)])
    assert (await offsets.kept([0]))[0].stored == 8, "all or nothing"


async def test_a_first_start_has_lost_nothing(redis: "Redis", tmp_path: Path) -> None:
    names = Names(lanes_on(redis), tmp_path)
    await names.check()
    offsets = Offsets(redis, Shard(), lambda: names.epoch.name)
    await offsets.note([Note(partition=0, committed=7)])
    kept = (await offsets.kept([0]))[0]
    assert (kept.stored, kept.loss, kept.behind) == (7, None, False)


async def test_a_server_that_refuses_writes_for_want_of_replicas_is_waited_for(redis: "Redis", tmp_path: Path) -> None:
    lanes = lanes_on(redis)
    await Names(lanes, tmp_path).check()
    await lanes.enqueue([admission("c1")])
    claim = await one(lanes)
    await redis.config_set("min-replicas-to-write", 1)
    try:
        settling = asyncio.create_task(lanes.settle(deferral(claim, 0)))
        await asyncio.sleep(0.2)
        assert not settling.done()
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    assert await settling == "settled"

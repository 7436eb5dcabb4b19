"""`sluice dlq reindex`: the journal's letters and what Redis lost of them come back from their topic, and nothing runs twice."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import delete, select

from gateway.flow.reindex import Reindex
from gateway.journal.database import Database
from gateway.journal.letter_rows import LetterRows
from gateway.journal.tables import letters as table
from gateway.lanes.letter_topic import LetterTopic
from tests import journal_examples, postgres
from tests.letter_examples import NOW
from tests.served import Served, bearer, key_of, served
from tests.shell import Ran, Shell
from tests.vendor.client import ROOT, VendorProcess
from tests.wire.letters import BROKEN, LOST, SEND, WHO, declared, letter, listed, plan, replayed, say, show

pytestmark = pytest.mark.wire


@pytest.fixture
def manifests(vendor: VendorProcess, tmp_path: Path) -> str:
    vendor.script("messages.send", BROKEN)
    return declared(vendor, tmp_path)


@pytest.fixture
async def journalled(redis: "Redis", redis_url: str, tmp_path: Path, manifests: str) -> AsyncIterator[Served]:
    async with served(redis_url, tmp_path / "data", manifests, beat_every=0.1, journals=True) as running:
        yield running


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, manifests: str) -> AsyncIterator[Served]:
    async with served(redis_url, tmp_path / "data", manifests, beat_every=0.1) as running:
        yield running


@pytest.fixture
def sluice(redis_url: str, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"SLUICE_REDIS_URL": redis_url, "SLUICE_DATA": str(tmp_path / "data")})


MANY = 5000


async def some(gateway: Served, count: int) -> list[str]:
    return [await letter(gateway, SEND, {"ref": f"r{number}", "text": "hi"}) for number in range(count)]


async def rows(gateway: Served) -> dict[str, dict[str, Any]]:
    database = Database(gateway.gateway.settings.journal, writes=False)
    async with database.transaction() as connection:
        found = {row["letter"]: dict(row) for row in (await connection.execute(select(table))).mappings()}
    await database.close()
    return found


async def written(gateway: Served, statuses: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Wait until the journal has these."""
    async with asyncio.timeout(20):
        while True:
            found = await rows(gateway)
            if {one: row["status"] for one, row in found.items()} == statuses:
                return found
            await asyncio.sleep(0.05)


async def becomes(gateway: Served, one: str, status: str) -> None:
    async with asyncio.timeout(20):
        while (await show(gateway, one))["status"] != status:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def again(gateway: Served) -> dict[str, Any]:
    """Run it in this process, which is quicker."""
    parts, rows = gateway.gateway, None
    journal = Database(parts.settings.journal, writes=True)
    if (parts.settings.data / "journal.db").exists():
        rows = LetterRows(journal)
    report = await Reindex(LetterTopic(parts.redis, parts.topics, parts.shard), rows).run(lambda _: None)
    await journal.close()
    return asdict(report)


async def done(running: Ran) -> dict[str, Any]:
    assert running.code == 0, running.err
    told: dict[str, Any] = running.data
    return told


async def test_a_journal_that_lost_its_letters_has_them_again_as_they_stand(
    journalled: Served, redis: "Redis", vendor: VendorProcess, sluice: Shell, tmp_path: Path
) -> None:
    books: Any = redis
    one, two, three = await some(journalled, 3)
    vendor.script("messages.send", LOST)
    four = await letter(journalled, SEND, {"ref": "r4", "text": "hi"})
    await say(journalled, two, "discard", reason="a test")
    await say(journalled, four, "resolve", outcome="not_done", reason="asked them")
    vendor.script("messages.send", BROKEN)
    five = (await replayed(journalled, three))["letters"][0]["successor"]
    statuses = {one: "open", two: "discarded", three: "replayed_failed", four: "open", five: "open"}
    before = await written(journalled, statuses)
    database = Database(f"sqlite:///{tmp_path / 'data' / 'journal.db'}", writes=True)
    async with database.transaction() as connection:
        await connection.execute(delete(table))
    await database.close()
    await books.xadd("dead-letters", {"data": b"nonsense of somebody else"})
    told = await done(await sluice("dlq", "reindex", "-o", "json"))
    assert told == {
        "letters": 5, "unread": 1, "restored": 0, "doubted": 0, "replaying": 0, "closed": 0, "rows": 5, "in_doubt": [],
    }  # fmt: skip
    assert await rows(journalled) == before
    assert (await again(journalled))["rows"] == 0
    assert await rows(journalled) == before


@postgres.needs_postgres
async def test_a_journal_on_postgresql_has_them_again_too(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path, manifests: str
) -> None:
    with postgres.running() as url:
        where = {"SLUICE_REDIS_URL": redis_url, "SLUICE_DATA": str(tmp_path / "data"), "SLUICE_JOURNAL_URL": url}
        async with served(
            redis_url, tmp_path / "data", manifests, beat_every=0.1, journals=True, journal_url=url
        ) as running:
            one, two = await some(running, 2)
            await say(running, two, "discard", reason="a test")
            before = await written(running, {one: "open", two: "discarded"})
            database = Database(url, writes=True)
            async with database.transaction() as connection:
                await connection.execute(delete(table))
            await database.close()
            told = await done(await Shell(tmp_path, where)("dlq", "reindex", "-o", "json"))
            assert (told["letters"], told["rows"]) == (2, 2)
            assert await rows(running) == before


async def test_decisions_come_back_when_only_redis_remembers_them(
    journalled: Served, redis: "Redis", vendor: VendorProcess, tmp_path: Path
) -> None:
    vendor.script("messages.send", LOST)
    one, two, three = await some(journalled, 3)
    await say(journalled, one, "resolve", outcome="done", reason="seen")
    await say(journalled, two, "resolve", outcome="not_done", reason="asked them")
    await written(journalled, {one: "resolved", two: "open", three: "open"})
    await redis.delete("tool-events")
    database = Database(f"sqlite:///{tmp_path / 'data' / 'journal.db'}", writes=True)
    async with database.transaction() as connection:
        await connection.execute(delete(table))
    await database.close()
    assert (await again(journalled))["rows"] == 3
    found = await rows(journalled)
    assert {name: (row["status"], row["effect"], row["reason"]) for name, row in found.items()} == {
        one: ("resolved", "executed", "seen"),
        two: ("open", "not_executed", None),
        three: ("open", "unknown", None),
    }


async def test_what_redis_lost_is_restored_and_replayed_and_what_was_over_stays_over(
    gateway: Served, redis: "Redis", vendor: VendorProcess, sluice: Shell
) -> None:
    books: Any = redis
    one, two, three = await some(gateway, 3)
    vendor.script("messages.send")
    assert (await replayed(gateway, two))["progress"]["replayed_ok"] == 1
    before = await books.hgetall("{s0}:letters")
    await redis.delete("{s0}:letters", "{s0}:over", "{s0}:aging")
    assert {row["status"] for row in await listed(gateway)} == {"closed"}
    ran = await sluice("dlq", "reindex", "-o", "json")
    told = await done(ran)
    assert (told["restored"], told["closed"], told["doubted"], told["rows"]) == (2, 1, 0, None)
    assert "The journal was left out" in ran.err
    assert await books.hgetall("{s0}:letters") == before
    assert {row["letter"]: row["status"] for row in await listed(gateway)} == {
        one: "open", two: "replayed_ok", three: "open",
    }  # fmt: skip
    twice = await again(gateway)
    assert (twice["letters"], twice["restored"], twice["closed"]) == (3, 0, 0)
    arrivals = vendor.counts().effects_total
    await replayed(gateway, one, three, two)
    assert vendor.counts().effects_total == arrivals + 2


async def test_a_letter_of_which_nobody_tells_any_more_is_in_doubt_and_not_sent(
    gateway: Served, redis: "Redis", vendor: VendorProcess, sluice: Shell
) -> None:
    one, two = await some(gateway, 2)
    vendor.script("messages.send")
    await replayed(gateway, two)
    arrivals = vendor.counts().arrivals
    await redis.delete("{s0}:letters", "{s0}:over", "{s0}:aging", "tool-events")
    ran = await sluice("dlq", "reindex", "-o", "json")
    assert (ran.data["doubted"], ran.data["in_doubt"]) == (2, [one, two]), ran.err
    assert f"sluice dlq show {one}" in ran.err
    assert {row["effect"] for row in await listed(gateway)} == {"unknown"}
    made = await plan(gateway, ids=[one, two], dry_run=True)
    assert {action["action"] for action in made["actions"]} == {"excluded"}
    assert (await again(gateway))["doubted"] == 0
    assert vendor.counts().arrivals == arrivals
    await redis.delete("{s0}:letters")  # lost again: it is no surer for that
    assert (await again(gateway))["doubted"] == 2
    assert (await say(gateway, one, "resolve", outcome="not_done", reason="asked them")).status_code == 200
    await replayed(gateway, one)
    assert vendor.counts().arrivals == arrivals + 1
    assert (await show(gateway, one))["status"] == "replayed_ok"


async def test_a_letter_whose_replay_is_under_way_is_moved_by_its_end(
    gateway: Served, redis: "Redis", vendor: VendorProcess
) -> None:
    (one,) = await some(gateway, 1)
    vendor.script("messages.send")
    lane = {"connector": "crm"}
    await gateway.http.post("/v1/lanes/pause", json=lane | {"reason": "a look"}, headers=bearer(WHO))
    await plan(gateway, ids=[one])
    await becomes(gateway, one, "replaying")
    await redis.delete("{s0}:letters")
    told = await again(gateway)
    assert (told["replaying"], told["doubted"]) == (1, 0)
    await gateway.http.post("/v1/lanes/resume", json=lane, headers=bearer(WHO))
    await becomes(gateway, one, "replayed_ok")
    assert vendor.counts().effects_total == 1


async def test_many_letters_come_back_in_their_order_while_two_read_at_once(gateway: Served, redis: "Redis") -> None:
    books: Any = redis
    event = json.dumps({"type": "x", "id": "x", "time": "2020-01-01T00:00:00Z", "data": {}})
    await books.xadd("tool-events", {"data": event})
    ids = [journal_examples.call_id(number) for number in range(1000)]
    async with books.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.xadd("dead-letters", {"data": journal_examples.letter(one, NOW)})
        await pipe.execute()
    first, second = await asyncio.gather(again(gateway), again(gateway))
    assert first["restored"] + second["restored"] == 1000
    assert await books.hlen("{s0}:letters") == 1000
    assert {row["status"] for row in await listed(gateway, limit="500")} == {"open"}


async def test_where_redis_or_its_journal_is_not_there_it_says_what_to_do(sluice: Shell, redis: "Redis") -> None:
    away = await sluice("dlq", "reindex", "--redis", "redis://127.0.0.1:9/0")
    assert (away.code, "next: sluice up" in away.err) == (5, True)
    wrong = await sluice("dlq", "reindex", "--journal", "mysql://u:hunter2@h/d")
    assert (wrong.code, "hunter2" in wrong.err) == (2, False)
    empty = await sluice("dlq", "reindex", "-o", "table")
    assert (empty.code, "next: sluice journal" in empty.err) == (0, True)
    assert not (sluice.folder / "data" / "journal.db").exists()
    assert "Examples:" in (await sluice("dlq", "reindex", "--help")).out
    assert key_of(WHO) not in empty.err


async def test_killed_half_way_and_run_again_every_letter_is_there_once(
    gateway: Served, redis: "Redis", sluice: Shell
) -> None:
    books: Any = redis
    await books.xadd("tool-events", {"data": json.dumps({"type": "x"})})
    async with books.pipeline(transaction=False) as pipe:
        for number in range(MANY):
            pipe.xadd("dead-letters", {"data": journal_examples.letter(journal_examples.call_id(number), NOW)})
        await pipe.execute()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **sluice.environment}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "dlq", "reindex", cwd=sluice.folder, env=environment
    )
    async with asyncio.timeout(20):
        while not await books.hlen("{s0}:letters"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    running.kill()
    assert await running.wait() == -signal.SIGKILL
    restored = await books.hlen("{s0}:letters")
    assert 0 < restored < MANY
    assert (await again(gateway))["restored"] == MANY - restored
    assert await books.hlen("{s0}:letters") == MANY

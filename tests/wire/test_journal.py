"""The journal from end to end: calls really run, and HTTP and the command line tell what happened to them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from gateway.journal.database import Database
from gateway.journal.store import Store
from gateway.journal.writer import Heard, Terms, Writer
from gateway.lanes.fleet import Fleet
from gateway.lanes.topic_reader import TopicReader, unread
from gateway.settings import Settings
from schemas.topics import GROUP, Shard, TopicEntry
from tests.journal_examples import Story, told
from tests.served import Served, assert_problem, bearer, journalling, people, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

PEOPLE = {"one": "crm.*", "two": "crm.*"}
TOPICS = ("tool-events", "tool-results", "dead-letters")


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    declared = manifest(vendor.url) + people(tmp_path, PEOPLE, {"night-shift": "viewer"})
    async with served(redis_url, tmp_path / "data", declared, journals=True) as running:
        yield running


async def caught_up(redis: "Redis") -> None:
    """Wait until the journal has written everything."""
    async with asyncio.timeout(15):
        while True:
            found = await unread(redis, TOPICS)
            if len(found) == 3 and all(one.entries == 0 for one in found):
                return
            await asyncio.sleep(0.02)


async def run(gateway: Served, who: str, tool: str = "crm.echo", **more: Any) -> dict[str, Any]:
    answer = await gateway.publish(tool, more.pop("arguments", {}), headers=bearer(who), **more)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def listed(gateway: Served, who: str = "night-shift", **query: Any) -> list[dict[str, Any]]:
    answer = await gateway.http.get("/v1/calls", params=query, headers=bearer(who))
    assert answer.status_code == 200, answer.text
    calls: list[dict[str, Any]] = answer.json()["calls"]
    return calls


async def test_what_happened_is_listed_by_every_filter_and_an_agent_sees_its_own(
    gateway: Served, redis: "Redis", vendor: VendorProcess
) -> None:
    first = await run(gateway, "one", session="run-1", confidence=0.3)
    second = await run(gateway, "two", session="run-2", confidence=0.9)
    vendor.script("orders.create", Behaviour(do=Kind.RESET, forever=True))
    vendor.script("orders.list", Behaviour(do=Kind.STATUS, status=403, forever=True))
    lost = await run(
        gateway, "one", tool="crm.orders.create", arguments={"ref": "o-1", "item": "book"}, session="run-1"
    )
    assert lost["state"] == "escalated"
    await caught_up(redis)
    ids = [first["call"], second["call"], lost["call"]]
    assert [one["call"] for one in await listed(gateway)] == ids[::-1]
    (trace,) = {one["trace_id"] for one in await listed(gateway, session="run-2")}
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"session": "run-1"}, [2, 0]),
        ({"agent": "two"}, [1]),
        ({"tool": "crm.echo"}, [1, 0]),
        ({"connector": "crm", "limit": 2}, [2, 1]),
        ({"state": "escalated"}, [2]),
        ({"error": lost["error"]["class"]}, [2]),
        ({"fingerprint": lost["error"]["fingerprint"]}, [2]),
        ({"confidence_below": 0.5}, [0]),
        ({"confidence_from": 0.5}, [1]),
        ({"trace": trace}, [1]),
        ({"trace": f"00-{trace}-00f067aa0ba902b7-01"}, [1]),
        ({"text": "orders run-1"}, [2]),
        ({"since": "1h"}, [2, 1, 0]),
        ({"until": "1h"}, []),
        ({"since": "2026-01-01T00:00:00+01:00", "state": "completed"}, [1, 0]),
    ]
    for query, numbers in cases:
        assert [one["call"] for one in await listed(gateway, **query)] == [ids[n] for n in numbers], query
    assert [one["call"] for one in await listed(gateway, "one")] == [ids[2], ids[0]]
    assert await listed(gateway, "one", agent="two") == []
    (line,) = await listed(gateway, state="escalated")
    assert (line["effect"], line["dead_letter"], line["attempts"]) == ("unknown", lost["error"]["dead_letter"], 1)
    assert line["summary"] == lost["summary"]


async def test_pages_follow_each_other_and_lose_nothing(gateway: Served, redis: "Redis") -> None:
    ids = [(await run(gateway, "one"))["call"] for _ in range(5)]
    await caught_up(redis)
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        answer = (await gateway.http.get("/v1/calls", params=query, headers=bearer("one"))).json()
        found += [one["call"] for one in answer["calls"]]
        if answer["cursor"] is None:
            break
        query["cursor"] = answer["cursor"]
    assert found == ids[::-1]


WRONG = (
    {"state": "done"},
    {"error": "nothing"},
    {"since": "yesterday"},
    {"since": "2026-11-20T09:00:00"},
    {"confidence_below": "high"},
    {"confidence_from": "nan"},
    {"trace": "xyz"},
    {"limit": "0"},
    {"limit": "501"},
    {"cursor": "'; DROP TABLE calls"},
    {"sesion": "run-1"},
    {"text": "x" * 1025},
    {"session": "a\x00b"},
)


async def test_a_filter_that_cannot_be_meant_is_refused_and_named(gateway: Served) -> None:
    for query in WRONG:
        answer = await gateway.http.get("/v1/calls", params=query, headers=bearer("night-shift"))
        problem = assert_problem(answer, 400, None)
        assert problem["errors"][0]["pointer"] == f"?{next(iter(query))}"


async def test_a_call_that_redis_has_forgotten_is_shown_from_the_journal(gateway: Served, redis: "Redis") -> None:
    ended = await run(gateway, "one", session="run-1")
    before = (await gateway.http.get(f"/v1/calls/{ended['call']}", headers=bearer("one"))).json()
    await caught_up(redis)
    assert await redis.delete(Shard().answer(ended["call"])) == 1
    answer = await gateway.http.get(f"/v1/calls/{ended['call']}", headers=bearer("one"))
    assert (answer.status_code, answer.json()) == (200, before)
    assert_problem(await gateway.http.get(f"/v1/calls/{ended['call']}", headers=bearer("two")), 404, None)
    assert_problem(await gateway.http.get("/v1/calls/01JUNKNOWN", headers=bearer("one")), 404, None)


async def test_the_key_of_a_forgotten_answer_still_leads_to_it(gateway: Served, redis: "Redis") -> None:
    ended = await run(gateway, "one", idempotency_key="k-1")
    await caught_up(redis)
    await redis.delete(Shard().answer(ended["call"]))
    again = await run(gateway, "one", idempotency_key="k-1")
    assert again == ended


async def followed(http: httpx2.AsyncClient, call: str, **headers: str) -> list[dict[str, Any]]:
    async with http.stream("GET", f"/v1/calls/{call}/events", headers={**bearer("one"), **headers}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in answer.aiter_lines()]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


async def test_events_are_streamed_live_in_order_and_the_stream_ends_with_the_call(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("*", Behaviour(do=Kind.STATUS, status=500), Behaviour(do=Kind.DELAY, seconds=0.3))
    data = {"tool": "crm.contacts.get", "arguments": {"id": "c1"}}
    call = (await gateway.http.post("/v1/calls", json=data, headers=bearer("one"))).json()["call"]
    async with asyncio.timeout(20):
        events = await followed(gateway.http, call)
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert [event["type"].removeprefix("tool.call.") for event in events] == [
        *("accepted", "attempted", "attempted", "settled")
    ]
    assert "answered 500" in events[1]["text"]
    later = await followed(gateway.http, call, **{"Last-Event-ID": events[1]["id"]})
    assert later == events[2:]
    other = await gateway.http.get(f"/v1/calls/{call}/events", headers=bearer("two"))
    assert_problem(other, 404, None)


async def test_without_a_journal_a_list_says_so_and_a_stream_still_tells_what_comes(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.5, forever=True))
    declared = manifest(vendor.url) + people(tmp_path, PEOPLE)
    async with served(redis_url, tmp_path / "data", declared) as gateway:
        problem = assert_problem(await gateway.http.get("/v1/calls", headers=bearer("one")), 503, None)
        assert "sluice journal" in problem["action"]
        ready = (await gateway.http.get("/readyz")).json()
        (row,) = [check for check in ready["checks"] if check["name"] == "journal"]
        assert row["ok"]
        assert "no journal has started" in row["detail"]
        data = {"tool": "crm.contacts.get", "arguments": {"id": "c1"}}
        call = (await gateway.http.post("/v1/calls", json=data, headers=bearer("one"))).json()["call"]
        async with asyncio.timeout(20):
            events = await followed(gateway.http, call)
        assert events[-1]["type"] == "tool.call.settled"


# Catching up


def journal_settings(redis_url: str, data: Path, **more: Any) -> Settings:
    return Settings(redis_url=redis_url, data=data, journal_keep_done=0, journal_keep_failed=0, **more)


async def fill(redis: "Redis", numbers: range) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for number in numbers:
            all_told = told(Story(number=number))
            for raw in all_told.events:
                pipe.xadd("tool-events", {"data": raw})
            pipe.xadd("tool-results", {"data": all_told.result})
        await pipe.execute()


async def counts(database: Database) -> tuple[int, int, int]:
    async with database.transaction() as connection:
        rows = await connection.execute(
            text(
                "SELECT (SELECT count(*) FROM calls WHERE state = 'completed' AND summary IS NOT NULL),"
                " (SELECT count(*) FROM calls), (SELECT count(*) FROM events)"
            )
        )
        first, second, third = rows.one()
        return first, second, third


async def test_it_catches_up_after_being_down_and_nothing_is_trimmed_before(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    more: dict[str, Any] = {"keep_events": 1, "trim_every": 0.1}
    async with served(redis_url, tmp_path / "data", manifest(vendor.url), **more) as gateway:
        settings = gateway.gateway.settings
        async with journalling(settings) as joined:
            await gateway.publish("crm.echo", {})
            await caught_up(redis)
            assert await counts(joined.database) == (1, 1, 3)
        for _ in range(10):
            await gateway.publish("crm.echo", {})
        await asyncio.sleep(1.5)  # past `keep_events`: only what is unread holds it back
        assert await redis.xlen("tool-events") == 30
        ready = (await gateway.http.get("/readyz")).json()["checks"][-1]
        assert ready["name"] == "journal"
        async with journalling(settings) as joined:
            await caught_up(redis)
            assert await counts(joined.database) == (11, 11, 33)
            async with asyncio.timeout(10):
                while await redis.xlen("tool-events"):  # noqa: ASYNC110 - Redis offers no event
                    await asyncio.sleep(0.05)


async def test_what_another_journal_read_and_never_wrote_is_taken_over(
    redis: "Redis", redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.journal.writer.TAKE_OVER_MS", 200)
    dead = TopicReader(redis, Fleet(redis, Shard(), "journal-dead", dead_after_s=1), TOPICS)
    await fill(redis, range(20))
    assert len(await dead.read(most=50, wait_ms=10)) == 70
    settings = journal_settings(redis_url, tmp_path / "data")
    async with journalling(settings) as joined:
        await caught_up(redis)
        assert await counts(joined.database) == (20, 20, 60)
        names = {one["name"] for one in await redis.xinfo_consumers("tool-events", GROUP)}
        assert b"journal-dead" in names
        assert await joined.reader.retire(idle_ms=-1) > 0
        assert b"journal-dead" not in {one["name"] for one in await redis.xinfo_consumers("tool-events", GROUP)}


async def test_what_is_no_event_is_left_behind_and_stops_nothing(
    redis: "Redis", redis_url: str, tmp_path: Path
) -> None:
    for raw in (b"", b"garbage", b'{"type":"tool.call.settled"}', json.dumps({"type": "x", "id": "1"}).encode()):
        await redis.xadd("tool-events", {"data": raw})
    await redis.xadd("tool-events", {"other": "field"})
    huge = json.loads(told(Story(number=5)).events[0])
    huge["data"]["seq"] = 1 << 62  # no database has so large a number in this column
    await redis.xadd("tool-events", {"data": json.dumps({**huge, "data": {**huge["data"], "seq": 1 << 70}})})
    await fill(redis, range(3))
    async with journalling(journal_settings(redis_url, tmp_path / "data")) as joined:
        await caught_up(redis)
        assert (await counts(joined.database))[0] == 3


async def test_a_flushed_redis_does_not_stop_it(redis: "Redis", redis_url: str, tmp_path: Path) -> None:
    async with journalling(journal_settings(redis_url, tmp_path / "data")) as joined:
        await fill(redis, range(2))
        await caught_up(redis)
        await redis.flushall()
        await fill(redis, range(2, 4))
        async with asyncio.timeout(15):
            while (await counts(joined.database))[0] != 4:  # noqa: ASYNC110 - nor does a database
                await asyncio.sleep(0.05)


async def test_a_database_that_is_locked_is_waited_for_and_nothing_is_acknowledged(
    redis: "Redis", redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.journal.database._PRAGMAS", ("PRAGMA busy_timeout=100",))
    settings = journal_settings(redis_url, tmp_path / "data")
    async with journalling(settings) as joined:
        other = Database(settings.journal, writes=True)
        async with other.transaction():
            await fill(redis, range(3))
            await asyncio.sleep(1.0)
            assert {one.entries for one in await unread(redis, ("tool-events", "tool-results"))} == {9, 3}
        await caught_up(redis)
        assert (await counts(joined.database))[0] == 3
        await other.close()


async def test_batches_get_smaller_when_entries_are_large(tmp_path: Path) -> None:
    class Large:
        """A topic of large entries, as many as are asked for."""

        def __init__(self) -> None:
            self.asked: list[int] = []

        async def read(self, *, most: int, wait_ms: int) -> list[TopicEntry]:  # noqa: ARG002
            self.asked.append(most)
            return [TopicEntry(topic="t", id="1-1", raw=b"x" * (1 << 20))] * most

        async def abandoned(self, *, idle_ms: int, most: int) -> list[TopicEntry]:  # noqa: ARG002
            return []

        async def acknowledge(self, entries: Iterable[TopicEntry]) -> None:  # noqa: ARG002
            return

    source = Large()
    terms = Terms(batch=64, flush_s=0, result_bytes=1000, redis_wait_s=0.1)
    database = Database(f"sqlite:///{tmp_path / 'j.db'}", writes=True)
    writer = Writer(source, Store(database), terms=terms, heard=Heard(monotonic=time.monotonic, away=()))
    for _ in range(3):
        await writer.turn(1)
    await database.close()
    assert source.asked == [64, 16, 16]


# The command line


@pytest.fixture
def sluice(gateway: Served, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": "key-of-night-shift"})


async def test_the_command_line_lists_shows_and_follows(
    gateway: Served, redis: "Redis", sluice: Shell, vendor: VendorProcess
) -> None:
    vendor.script("*", Behaviour(do=Kind.STATUS, status=500))
    ended = await run(gateway, "one", tool="crm.contacts.get", arguments={"id": "c1"}, session="run-1")
    await run(gateway, "two", session="run-2")
    await caught_up(redis)
    rows = (await sluice("calls", "ls", "--session", "run-1", "--since", "30m", "-o", "json")).data
    assert [one["call"] for one in rows] == [ended["call"]]
    table = await sluice("calls", "ls", "-o", "table", "--most", "1")
    assert table.out.splitlines()[0].split() == ["CALL", "TIME", "TOOL", "STATE", "TRIES", "AGENT", "SESSION", "TOLD"]
    assert "There are more calls" in table.err
    shown = await sluice("calls", "show", ended["call"], "-o", "table")
    assert shown.code == 0, shown.err
    for words in ("summary", "Accepted as safe.", "Attempt 1 took", "the vendor answered 500", "Ended as completed"):
        assert words in shown.out, shown.out
    tailed = await sluice("calls", "tail", ended["call"], "-o", "jsonl")
    assert tailed.code == 0, tailed.err
    assert [json.loads(line)["seq"] for line in tailed.out.splitlines()] == [1, 2, 3, 4]
    wrong = await sluice("calls", "ls", "--state", "done")
    assert (wrong.code, "state is one of" in wrong.err) == (2, True)
    assert (await sluice("calls", "tail", "01JUNKNOWN")).code == 3

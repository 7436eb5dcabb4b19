"""The journal's databases: the same answers from SQLite and from PostgreSQL, and the way up and down of both."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, inspect, select, text

from gateway import journal_role
from gateway.journal import schema
from gateway.journal.calls import CallFilter, Calls
from gateway.journal.database import Away, Database, Misplaced, Missing, url_of
from gateway.journal.letters import LetterIndex
from gateway.journal.retention import Days, forget
from gateway.journal.rows import Told, read
from gateway.journal.store import Store
from gateway.journal.tables import calls, events, letters, metadata
from gateway.ports.letters import LetterFilter
from schemas.failure import Failure
from schemas.letter import LetterStatus
from schemas.moment import EPOCH
from tests import postgres
from tests.journal_examples import START_US, Story, call_id, changed, letter, told

pytestmark = pytest.mark.wire

BOTH = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=postgres.needs_postgres),
]
DAY_US = 86_400_000_000


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with postgres.running() as url:
        yield url


@pytest.fixture(params=BOTH)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'journal.db'}"
        return
    url: str = request.getfixturevalue("server")
    yield url
    database = Database(url, writes=True)
    async with database.transaction() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await database.close()


@pytest.fixture
async def empty(url: str) -> AsyncIterator[Database]:
    database = Database(url, writes=True)
    yield database
    await database.close()


@pytest.fixture
async def database(empty: Database) -> Database:
    await schema.migrate(empty)
    return empty


@pytest.fixture
async def reading(url: str, database: Database) -> AsyncIterator[Database]:
    reader = Database(url, writes=False)
    yield reader
    await reader.close()


def parsed(raws: list[bytes]) -> list[Told]:
    return [read(raw, most_bytes=65_536) for raw in raws]


async def names(database: Database) -> set[str]:
    async with database.transaction() as connection:
        found = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return {name for name in found if not name.startswith(("calls_words", "sqlite_"))}


async def count(database: Database, table: Any) -> int:
    async with database.transaction() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


# Migrations


async def test_up_down_and_up_again(empty: Database) -> None:
    assert await schema.migrate(empty) == schema.newest()
    assert {"calls", "events", "letters"} <= await names(empty)
    await Store(empty).write(parsed(list(told(Story(number=1)).entries())))
    assert await schema.migrate(empty, schema.BASE) is None
    assert await names(empty) <= {"alembic_version"}
    assert await schema.migrate(empty) == schema.newest()
    assert await count(empty, calls) == 0
    await Store(empty).write(parsed(list(told(Story(number=1)).entries())))
    assert await count(empty, calls) == 1


async def test_the_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
        return [one for one in found if "calls_words" not in str(one)]

    async with database.transaction() as connection:
        assert await connection.run_sync(differences) == []


async def test_several_that_start_at_once_migrate_once(url: str) -> None:
    several = [Database(url, writes=True) for _ in range(4)]
    # A locked file is waited for, as the journal's process waits.
    assert await asyncio.gather(*(journal_role.migrated(one, asyncio.Event()) for one in several)) == [True] * 4
    assert await schema.stands_on(several[0]) == schema.newest()
    for one in several:
        await one.close()


async def test_a_journal_of_a_newer_version_is_left_alone(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RuntimeError, match="newer version"):
        await schema.migrate(database)


async def test_who_only_reads_makes_no_file_and_changes_nothing(url: str, tmp_path: Path) -> None:
    reader = Database(url, writes=False)
    with pytest.raises(Missing):
        await Calls(reader).page(CallFilter())
    assert list(tmp_path.iterdir()) == []
    writer = Database(url, writes=True)
    await schema.migrate(writer)
    await writer.close()
    with pytest.raises(Away, match=r"readonly|read-only"):
        await Store(reader).write(parsed(list(told(Story(number=1)).entries())))
    assert (await Calls(reader).page(CallFilter())).rows == []
    await reader.close()


@pytest.mark.parametrize("wrong", ["mysql://u:hunter2@h/d", "nonsense hunter2", "sqlite://", "redis://hunter2"])
def test_a_url_that_is_no_journal_is_refused_without_being_quoted(wrong: str) -> None:
    with pytest.raises(Misplaced) as refused:
        url_of(wrong)
    assert "hunter2" not in str(refused.value)


async def test_a_database_that_is_not_there_is_away_and_no_bug(tmp_path: Path) -> None:
    for url in ("postgresql://nobody@127.0.0.1:9/none", f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'j.db'}"):
        database = Database(url, writes=True)
        with pytest.raises(Away):
            await schema.migrate(database)
        await database.close()
    await asyncio.sleep(0.1)  # the driver's thread says its last word to this loop


# Writing


async def test_in_any_order_and_batching_and_twice_the_rows_are_the_same(database: Database) -> None:
    dice = random.Random(7)
    stories = [
        Story(
            number=n, tries=1 + n % 3, failure=Failure.SEND_RESET if n % 2 else None, letter=f"L{n}" if n % 2 else None
        )
        for n in range(12)
    ]
    raws = [raw for story in stories for raw in told(story).entries()]
    for n in (1, 3, 5):
        at = EPOCH + timedelta(microseconds=START_US + n)
        raws += [letter(f"L{n}", at), changed(f"L{n}", "replaying", at), changed(f"L{n}", "resolved", at)]
    seen = []
    for _ in range(3):
        for table in (calls, events, letters):
            async with database.transaction() as connection:
                await connection.execute(table.delete())
        twice = [*raws, *dice.sample(raws, len(raws) // 2)]
        dice.shuffle(twice)
        while twice:
            size = dice.randint(1, 9)
            await Store(database).write(parsed(twice[:size]))
            twice = twice[size:]
        seen.append([await dump(database, table) for table in (calls, events, letters)])
    assert seen[0] == seen[1] == seen[2]
    assert (len(seen[0][0]), len(seen[0][2])) == (12, 3)
    assert len(seen[0][1]) == sum(story.tries + 2 for story in stories) + 6


async def dump(database: Database, table: Any) -> list[dict[str, Any]]:
    key = table.c[{"calls": "call", "events": "id", "letters": "letter"}[table.name]]
    async with database.transaction() as connection:
        rows = (await connection.execute(select(table).order_by(key))).mappings()
        return [{name: value for name, value in row.items() if name != "n"} for row in rows]


async def test_writers_at_the_same_time_lose_nothing_of_each_other(url: str, database: Database) -> None:
    stories = [Story(number=n) for n in range(40)]
    entries = [raw for story in stories for raw in told(story).entries()]
    several = [Database(url, writes=True) for _ in range(4)]

    async def write(number: int) -> None:
        for raw in entries[number::4]:
            await Store(several[number]).write(parsed([raw]))

    await asyncio.gather(*map(write, range(4)))
    rows = await dump(database, calls)
    assert len(rows) == 40
    assert {(row["state"], row["seq"], row["summary"], row["op_class"]) for row in rows} == {
        ("completed", 3, "Done on the first attempt.", "unsafe")
    }
    for one in several:
        await one.close()


async def test_text_that_no_database_likes_is_kept(database: Database, reading: Database) -> None:
    story = Story(number=1, session="a\x00b 'quoted\" \\ %_ 🦆", message="Ⅷ ﬁne\x00", failure=Failure.SEND_RESET)
    await Store(database).write(parsed(list(told(story).entries())))
    (row,) = (await Calls(reading).page(CallFilter(session="ab 'quoted\" \\ %_ 🦆"))).rows
    assert row["message"] == "Ⅷ ﬁne"


# Questions about calls

TOOLS = ("crm.contacts.create", "crm.contacts.get", "mail.messages.send")


def story_of(n: int) -> Story:
    failed = n % 5 == 0
    return Story(
        number=n,
        tool=TOOLS[n % 3],
        agent=f"agent-{n % 4}",
        session=f"run-{n // 10}" if n % 7 else None,
        confidence=None if n % 11 == 0 else (n % 100) / 100,
        failure=Failure.SEND_RESET if failed else None,
        message=f"The vendor closed connection {n}." if failed else "",
    )


FILTERS: list[tuple[CallFilter, Callable[[Story], bool]]] = [
    (CallFilter(), lambda _: True),
    (CallFilter(agent="agent-2"), lambda s: s.agent == "agent-2"),
    (CallFilter(session="run-4"), lambda s: s.session == "run-4"),
    (CallFilter(tool=TOOLS[1]), lambda s: s.tool == TOOLS[1]),
    (CallFilter(connector="crm"), lambda s: s.tool.startswith("crm.")),
    (CallFilter(state="failed"), lambda s: s.failure is not None),
    (CallFilter(state="pending"), lambda _: False),
    (CallFilter(error_class="send.reset", agent="agent-1"), lambda s: s.failure is not None and s.agent == "agent-1"),
    (CallFilter(trace_id=f"{34:032x}"), lambda s: s.number == 33),
    (CallFilter(fingerprint=f"v1:{3:016x}"), lambda s: s.failure is not None and s.number % 7 == 3),
    (CallFilter(confidence_below=0.25), lambda s: s.confidence is not None and s.confidence < 0.25),
    (
        CallFilter(confidence_from=0.2, confidence_below=0.5, state="completed"),
        lambda s: s.confidence is not None and 0.2 <= s.confidence < 0.5 and s.failure is None,
    ),
    (CallFilter(since_us=START_US + 40_000, until_us=START_US + 80_000), lambda s: 20 <= s.number < 40),
    (CallFilter(text="vendor CLOSED"), lambda s: s.failure is not None),
    (CallFilter(text="connection 35"), lambda s: s.number == 35),
    (
        CallFilter(text="conn", agent="agent-3", tool=TOOLS[0]),
        lambda s: s.number % 5 == 0 and s.number % 4 == 3 and s.number % 3 == 0,
    ),
    (CallFilter(text="messages.send agent-0", state="completed"), lambda s: s.tool == TOOLS[2] and s.failure is None),
    (CallFilter(text="% _"), lambda _: True),
    (CallFilter(text='"OR" NOT NEAR('), lambda _: False),
]


@pytest.mark.parametrize("few", [1, 20_000], ids=["on the way", "looked up"])
async def test_every_filter_finds_what_it_should_page_by_page(
    few: int, database: Database, reading: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.journal.query.FEW", few)
    stories = [story_of(n) for n in range(120)]
    await Store(database).write(parsed([raw for story in stories for raw in told(story).entries()]))
    for wanted, fulfils in FILTERS:
        expected = [call_id(story.number) for story in reversed(stories) if fulfils(story)]
        found: list[str] = []
        cursor = None
        while True:
            page = await Calls(reading).page(wanted, cursor=cursor, most=7)
            found += [row["call"] for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                break
        assert found == expected, wanted


async def test_a_call_that_has_ended_is_remembered_as_it_was_told(database: Database, reading: Database) -> None:
    all_told = told(Story(number=3, tries=3))
    store, index = Store(database), Calls(reading)
    await store.write(parsed(all_told.events[:-1]))
    assert await index.ended(all_told.call.id) is None
    await store.write(parsed([all_told.events[-1], all_told.result]))
    kept = await index.ended(all_told.call.id)
    assert kept is not None
    assert (kept.agent, kept.data["state"], [one["n"] for one in kept.attempts]) == (
        "research-7",
        "completed",
        [1, 2, 3],
    )
    timeline = await index.events(all_told.call.id)
    assert [event["seq"] for event in timeline] == [1, 2, 3, 4, 5]
    assert await index.ended("01JUNKNOWN") is None


# Questions about letters


async def test_letters_are_found_grouped_and_shown(database: Database, reading: Database) -> None:
    raws = []
    for n in range(10):
        at = EPOCH + timedelta(microseconds=START_US + n * 1_000_000)
        group = "v1:aaaa" if n < 7 else "v1:bbbb"
        raws.append(letter(f"L{n}", at, group=group, session=f"run-{n % 2}", agent=f"agent-{n % 3}"))
        if n == 2:
            raws.append(changed("L2", "resolved", at + timedelta(seconds=1), reason="it ran, says their support"))
    raws.append(changed("L99", "discarded", EPOCH))  # of a letter that is not read yet
    await Store(database).write(parsed(raws))
    index = LetterIndex(reading)
    cases: list[tuple[LetterFilter, list[int]]] = [
        (LetterFilter(), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (LetterFilter(status=LetterStatus.OPEN, session="run-0"), [8, 6, 4, 0]),
        (LetterFilter(status=LetterStatus.RESOLVED), [2]),
        (LetterFilter(fingerprint="v1:bbbb"), [9, 8, 7]),
        (LetterFilter(error_class="send.reset", agent="agent-1", effect="unknown"), [7, 4, 1]),
        (
            LetterFilter(tool="crm.contacts.create", since_us=START_US + 3_000_000, until_us=START_US + 5_000_000),
            [4, 3],
        ),
        (LetterFilter(text="says support"), [2]),
        (LetterFilter(text="nothing of the kind"), []),
    ]
    for wanted, numbers in cases:
        assert [row["letter"] for row in (await index.page(wanted)).rows] == [f"L{n}" for n in numbers], wanted
        assert await index.ids(wanted) == sorted(f"L{n}" for n in numbers)
    page = await index.page(LetterFilter(), most=4)
    assert page.cursor == "L6"
    rest = await index.page(LetterFilter(), cursor=page.cursor, most=2)
    assert [row["letter"] for row in rest.rows] == ["L5", "L4"]
    first, second = await index.groups(LetterFilter())
    assert (first.fingerprint, first.letters, first.open, first.newest) == ("v1:aaaa", 7, 6, "L6")
    assert (second.fingerprint, second.letters, second.error_class) == ("v1:bbbb", 3, "send.reset")
    one = await index.one("L2")
    assert one is not None
    assert (one["status"], one["decided_by"], one["reason"]) == (
        "resolved",
        "night-shift",
        "it ran, says their support",
    )
    assert one["record"]["rendered"]["arguments"]["inline"] == "AAAA"
    assert await index.one("L99") is None
    assert set(await index.records(["L1", "L2", "L99"])) == {"L1", "L2"}


# Retention


async def test_what_is_past_its_time_is_forgotten_and_an_open_letter_keeps_its_call(database: Database) -> None:
    old = [Story(number=n, failure=Failure.SEND_RESET if n % 2 else None) for n in range(6)]
    raws = [raw for story in old for raw in told(story).entries()]
    raws += told(Story(number=6)).events[:1]  # of which no end was ever told
    at = EPOCH + timedelta(microseconds=START_US)
    raws += [letter("L1", at, id=call_id(1)), letter("L3", at, id=call_id(3)), changed("L3", "resolved", at)]
    await Store(database).write(parsed(raws))
    days = Days(done=7, failed=30, letters=30)
    told_of: list[tuple[str, int]] = []

    async def after(number: float) -> int:
        return await forget(database, days, START_US + int(number * DAY_US), lambda *facts: told_of.append(facts))

    assert await after(6.9) == 0
    assert await after(7.1) == 3
    assert await after(31) == 5
    assert told_of == [("calls", 3), ("letters", 1), ("calls", 3), ("events", 1)]
    assert [row["call"] for row in await dump(database, calls)] == [call_id(1)]
    assert [row["letter"] for row in await dump(database, letters)] == ["L1"]
    assert {row["call"] for row in await dump(database, events) if row["call"]} == {call_id(1)}
    await Store(database).write(parsed([changed("L1", "discarded", at + timedelta(days=40))]))
    assert await after(75) == 3
    assert await dump(database, calls) == []


async def test_forgetting_goes_in_small_batches(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.journal.retention.BATCH", 10)
    stories = [Story(number=n) for n in range(35)]
    await Store(database).write(parsed([raw for story in stories for raw in told(story).entries()]))
    assert await forget(database, Days(done=1, failed=0, letters=0), START_US + 2 * DAY_US, lambda *_: None) == 35
    assert (await count(database, calls), await count(database, events)) == (0, 0)
    if database.is_sqlite:
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO calls_words(calls_words) VALUES ('integrity-check')"))

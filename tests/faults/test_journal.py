"""A journal process that is killed at each of its steps, on both databases: nothing is lost, nothing is doubled."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from gateway.journal.database import Database
from schemas.failure import Failure
from tests import postgres
from tests.faults.journalling import POINTS
from tests.journal_examples import Story, letter, told
from tests.vendor.client import ROOT

pytestmark = pytest.mark.faults

CALLS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.running() as url:
        yield url


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'journal.db'}"
        return
    url: str = request.getfixturevalue("server")
    yield url
    asyncio.run(ask(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public"))


@pytest.fixture
def books(redis_url: str) -> "Redis":
    redis = Redis.from_url(redis_url)
    redis.flushall()
    return redis


def environment(redis_url: str, tmp_path: Path, url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    return {
        **clean,
        "SLUICE_REDIS_URL": redis_url,
        "SLUICE_DATA": str(tmp_path / "data"),
        "SLUICE_JOURNAL_URL": url,
        "SLUICE_JOURNAL_BATCH": "25",
        "SLUICE_DEAD_AFTER": "0.5",
        "SLUICE_JOURNAL_FLUSH": "0",
        # What the examples tell of is long past.
        "SLUICE_JOURNAL_KEEP_DONE": "0",
        "SLUICE_JOURNAL_KEEP_FAILED": "0",
    }


def start(surroundings: dict[str, str], *point: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.journalling", *point],
        cwd=ROOT,
        env=surroundings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def publish(redis: "Redis", numbers: range) -> None:
    for number in numbers:
        failed = number % 4 == 0
        name = f"L{number:04d}"
        story = Story(number=number, failure=Failure.SEND_RESET if failed else None, letter=name if failed else None)
        all_told = told(story)
        with redis.pipeline(transaction=True) as pipe:
            for raw in all_told.events:
                pipe.xadd("tool-events", {"data": raw})
            pipe.xadd("tool-results", {"data": all_told.result})
            if failed:
                pipe.xadd("dead-letters", {"data": letter(name, story.at, id=all_told.call.id)})
            pipe.execute()


async def ask(url: str, *statements: str) -> list[Any]:
    database = Database(url, writes=True)
    try:
        async with database.transaction() as connection:
            rows: list[Any] = []
            for statement in statements:
                done = await connection.execute(text(statement))
                rows = list(done.all()) if done.returns_rows else []
            return rows
    finally:
        await database.close()


def writer_of(redis: "Redis") -> str | None:
    """Return the process id of the journal whose turn it is."""
    name = redis.get("{s0}:turn:journal")
    return name.decode().split("-")[-2] if isinstance(name, bytes) else None


def until_written(redis: "Redis") -> None:
    give_up = time.monotonic() + 20
    while True:
        groups = [redis.xinfo_groups(topic) for topic in ("tool-events", "tool-results", "dead-letters")]
        if all(found and found[0]["pending"] == 0 and found[0]["lag"] == 0 for found in groups):
            return
        assert time.monotonic() < give_up, groups
        time.sleep(0.05)


SUMS = (
    "SELECT (SELECT count(*) FROM calls), (SELECT count(DISTINCT call) FROM calls),"
    " (SELECT count(*) FROM calls WHERE seq = 3 AND summary IS NOT NULL AND result IS NOT NULL),"
    " (SELECT count(*) FROM calls WHERE state = 'failed'), (SELECT count(*) FROM events), (SELECT count(*) FROM letters)"
)


IN_SQL = ("after read", "within commit", "after commit")
"""Where the database could make a difference."""


@pytest.mark.parametrize(
    ("point", "url"),
    [
        *(pytest.param(point, "sqlite", id=f"sqlite, {point}") for point in POINTS),
        *(
            pytest.param(point, "postgresql", id=f"postgresql, {point}", marks=postgres.needs_postgres)
            for point in IN_SQL
        ),
    ],
    indirect=["url"],
)
def test_a_journal_that_is_killed_at_any_step_loses_and_doubles_nothing(
    point: str, url: str, books: "Redis", redis_url: str, tmp_path: Path
) -> None:
    surroundings = environment(redis_url, tmp_path, url)
    publish(books, range(CALLS // 2))
    doomed = start(surroundings, point, "2")
    assert doomed.wait(20) == -signal.SIGKILL
    publish(books, range(CALLS // 2, CALLS))
    heir = start(surroundings)
    try:
        until_written(books)
    finally:
        heir.terminate()
        assert heir.wait(10) == 0
    (sums,) = asyncio.run(ask(url, SUMS))
    assert tuple(sums) == (CALLS, CALLS, CALLS, CALLS // 4, 3 * CALLS, CALLS // 4)


@pytest.mark.parametrize("url", ["sqlite", pytest.param("postgresql", marks=postgres.needs_postgres)], indirect=True)
def test_of_two_journals_one_writes_and_when_it_is_killed_the_other_goes_on(
    url: str, books: "Redis", redis_url: str, tmp_path: Path
) -> None:
    surroundings = environment(redis_url, tmp_path, url)
    both = {str(process.pid): process for process in (start(surroundings), start(surroundings))}
    try:
        publish(books, range(CALLS // 4))
        until_written(books)
        first = writer_of(books)
        assert first in both
        consumers = {one["name"] for one in books.xinfo_consumers("tool-events", "sluice")}
        assert {name.decode().split("-")[-2] for name in consumers} == {first}, "the other one only stands by"
        publish(books, range(CALLS // 4, CALLS // 2))
        both[first].kill()
        publish(books, range(CALLS // 2, CALLS))
        until_written(books)
        assert writer_of(books) in both.keys() - {first}
    finally:
        for process in both.values():
            process.terminate()
            process.wait(10)
    (sums,) = asyncio.run(ask(url, SUMS))
    assert tuple(sums) == (CALLS, CALLS, CALLS, CALLS // 4, 3 * CALLS, CALLS // 4)

"""Forgetting: calls some days after their end, decided letters after theirs, in small batches that hold nobody up.

A letter that is not decided keeps its call, however old. What the topics still hold may come back by a new reading of them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.journal.database import Database
from gateway.journal.query import id_from
from gateway.journal.tables import calls, events, letters
from schemas.lifecycle import DEAD_LETTERED, TERMINAL, CallState

BATCH = 500
"""Rows of one transaction."""

PAUSE_S = 0.05
"""Between two of them, so that the writer has its turn."""

PAGES = 2000
"""Pages of a SQLite file that are given back at once."""

UNDECIDED = ("open", "replaying")


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """How long is kept what has ended; 0 is for ever."""

    done: float
    """Calls that completed or that the machine ended on purpose."""
    failed: float
    """Calls that left a letter, and calls of which no end was ever told."""
    letters: float
    """Letters that were decided, from their decision on."""


async def forget(database: Database, days: Days, now_us: int, told: Callable[[str, int], None]) -> int:
    """Delete what is past its time; tells of each kind how many rows. Raises `Away`."""
    total = 0
    for kind, batch in (("letters", _forget_letters), ("calls", _forget_calls), ("events", _forget_events)):
        removed = 0
        while True:
            async with database.transaction() as connection:
                count = await batch(connection, days, now_us)
            removed += count
            if count < BATCH:
                break
            await asyncio.sleep(PAUSE_S)
        if removed:
            told(kind, removed)
        total += removed
    if total and database.is_sqlite:
        async with database.transaction() as connection:
            await connection.execute(text(f"PRAGMA incremental_vacuum({PAGES})"))
    return total


async def _forget_calls(connection: AsyncConnection, days: Days, now_us: int) -> int:
    past = []
    if days.done:
        past += [_ended(state, _before(now_us, days.done)) for state in sorted(TERMINAL - DEAD_LETTERED)]
    if days.failed:
        before = _before(now_us, days.failed)
        past += [_ended(state, before) for state in sorted(DEAD_LETTERED)]
        lost = calls.c.call < id_from(before)
        past += [and_(calls.c.state == state, lost) for state in sorted(set(CallState) - TERMINAL)]
    if not past:
        return 0
    open_letter = exists().where(letters.c.call == calls.c.call, letters.c.status.in_(UNDECIDED))
    # One state after the other: each has an index in the order of time, and together they would have none.
    removed = 0
    for condition in past:
        chosen = select(calls.c.call).where(condition, ~open_letter).order_by(calls.c.call).limit(BATCH - removed)
        found = list((await connection.execute(chosen)).scalars())
        if found:
            await connection.execute(delete(events).where(events.c.call.in_(found)))
            await connection.execute(delete(calls).where(calls.c.call.in_(found)))
        removed += len(found)
        if removed >= BATCH:
            break
    return removed


async def _forget_letters(connection: AsyncConnection, days: Days, now_us: int) -> int:
    if not days.letters:
        return 0
    past = and_(letters.c.status.not_in(UNDECIDED), letters.c.changed_us < _before(now_us, days.letters))
    return await _remove(connection, letters.c.letter, past)


async def _forget_events(connection: AsyncConnection, days: Days, now_us: int) -> int:
    """Forget what belongs to no call: changes of breakers, tokens and contracts."""
    if not days.failed:
        return 0
    past = and_(events.c.call.is_(None), events.c.time_us < _before(now_us, days.failed))
    return await _remove(connection, events.c.id, past)


async def _remove(connection: AsyncConnection, key: Any, condition: ColumnElement[bool]) -> int:
    found = list((await connection.execute(select(key).where(condition).limit(BATCH))).scalars())
    if found:
        await connection.execute(delete(key.table).where(key.in_(found)))
    return len(found)


def _ended(state: str, before_us: int) -> ColumnElement[bool]:
    # A call cannot have ended before it came: the ids, which are in the order of time, bound the search.
    return and_(calls.c.state == state, calls.c.call < id_from(before_us), calls.c.ended_us < before_us)


def _before(now_us: int, days: float) -> int:
    return now_us - int(days * 86_400_000_000)

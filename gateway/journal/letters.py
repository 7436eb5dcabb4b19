"""Questions about letters: a page of those that fulfil a filter, groups of those that are alike, one with its whole record."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, case, func, select

from gateway.journal.calls import Page
from gateway.journal.database import Database
from gateway.journal.query import newest_first, wanted_words
from gateway.journal.rows import Row
from gateway.journal.tables import letters
from gateway.ports.letters import MOST_GROUPS, LetterFilter, LetterGroup
from schemas.effect import Effect

MOST_IDS = 100_000
"""Letters of one selection."""

AT_ONCE = 500
"""Letters of one `IN`."""

LISTED = [column for column in letters.c if column.name not in {"record", "search", "tenant", "version"}]

_OPEN = ("open", "replaying")


_RANGES = frozenset({"since_us", "until_us", "text"})


class LetterIndex:
    """The reading side."""

    def __init__(self, database: Database) -> None:
        """The database need not be opened for writing."""
        self._database = database

    async def page(self, wanted: LetterFilter, *, cursor: str | None = None, most: int = 50) -> Page:
        """Return letters, newest first, without their records; raises `Away`."""
        async with self._database.transaction() as connection:
            statement = select(*LISTED).where(*_conditions(wanted))
            found = await connection.execute(newest_first(statement, letters.c.letter, cursor, most))
            rows = [dict(row) for row in found.mappings()]
        return Page(rows=rows[:most], cursor=rows[most - 1]["letter"] if len(rows) > most else None)

    async def ids(self, wanted: LetterFilter, *, most: int = MOST_IDS) -> list[str]:
        """Return the ids of the letters of a filter, oldest first, at most so many; raises `Away`."""
        async with self._database.transaction() as connection:
            statement = select(letters.c.letter).where(*_conditions(wanted)).order_by(letters.c.letter).limit(most)
            return list((await connection.execute(statement)).scalars())

    async def groups(self, wanted: LetterFilter, *, most: int = MOST_GROUPS) -> list[LetterGroup]:
        """Return what is alike, the largest groups first; raises `Away`."""
        column = letters.c
        grouped = (
            select(
                column.fingerprint,
                func.count().label("letters"),
                _how_many(column.status.in_(_OPEN)).label("open"),
                *(_how_many(column.effect == effect).label(effect) for effect in Effect),
                func.min(column.first_us).label("first_us"),
                func.max(column.last_us).label("last_us"),
                func.max(column.letter).label("newest"),
            )
            .where(*_conditions(wanted), column.fingerprint.is_not(None))
            .group_by(column.fingerprint)
            .order_by(func.count().desc(), column.fingerprint)
            .limit(most)
            .subquery()
        )
        sample = letters.alias("sample")
        statement = (
            select(grouped, sample.c.error_class, sample.c.tool, sample.c.message)
            .join_from(grouped, sample, sample.c.letter == grouped.c.newest)
            .order_by(grouped.c.letters.desc(), grouped.c.fingerprint)
        )
        async with self._database.transaction() as connection:
            return [_group(dict(row)) for row in (await connection.execute(statement)).mappings()]

    async def one(self, letter: str) -> Row | None:
        """Return a letter with its whole `record`; None: the journal does not know it. Raises `Away`."""
        async with self._database.transaction() as connection:
            statement = select(*LISTED, letters.c.record).where(
                letters.c.letter == letter, letters.c.record.is_not(None)
            )
            row = (await connection.execute(statement)).mappings().first()
        return None if row is None else {**row, "record": msgspec.json.decode(row["record"])}

    async def undecided(self, ids: Sequence[str]) -> set[str]:
        """Return those of the letters about which nothing is decided yet; raises `Away`."""
        found: set[str] = set()
        async with self._database.transaction() as connection:
            for at in range(0, len(ids), AT_ONCE):
                some = letters.c.letter.in_(ids[at : at + AT_ONCE])
                chosen = select(letters.c.letter).where(some, letters.c.status.in_(_OPEN))
                found.update((await connection.execute(chosen)).scalars())
        return found

    async def records(self, ids: Sequence[str]) -> dict[str, Row]:
        """Return the records of some letters by their id; raises `Away`."""
        async with self._database.transaction() as connection:
            statement = select(letters.c.letter, letters.c.record).where(
                letters.c.letter.in_(ids), letters.c.record.is_not(None)
            )
            return {row.letter: msgspec.json.decode(row.record) for row in await connection.execute(statement)}


def _how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _group(row: Mapping[str, Any]) -> LetterGroup:
    return LetterGroup(
        fingerprint=row["fingerprint"],
        letters=row["letters"],
        open=int(row["open"]),
        effects={effect: int(row[effect]) for effect in Effect if row[effect]},
        error_class=row["error_class"] or "",
        tool=row["tool"],
        message=row["message"] or "",
        first_us=row["first_us"] or 0,
        last_us=row["last_us"] or 0,
        newest=row["newest"],
    )


def _conditions(wanted: LetterFilter) -> list[ColumnElement[bool]]:
    # A change of a letter may be read before the letter: such a row is no letter yet.
    conditions: list[ColumnElement[bool]] = [letters.c.record.is_not(None)]
    for field in fields(wanted):
        value = getattr(wanted, field.name)
        if value is not None and field.name not in _RANGES:
            conditions.append(letters.c[field.name] == str(value))
    if wanted.since_us is not None:
        conditions.append(letters.c.last_us >= wanted.since_us)
    if wanted.until_us is not None:
        conditions.append(letters.c.last_us < wanted.until_us)
    conditions += [letters.c.search.contains(f" {word}", autoescape=True) for word in wanted_words(wanted.text)]
    return conditions

"""How the journal is asked so that an answer is quick whatever is asked for, among a million calls.

Lists go from the newest id backwards, a page at a time, from the last id of the page before. Every exact filter has an index in that
same order. Words and ranges have none: they are looked up when few rows match, and what is frequent is met soon enough on the way.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    Select,
    and_,
    column,
    func,
    intersect,
    literal,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.journal.rows import words_of
from gateway.journal.tables import calls

FEW = 20_000
"""Rows that may be looked up one by one."""

_WORDS_SQLITE = text("SELECT rowid FROM calls_words WHERE calls_words MATCH :words")
_WORDS_POSTGRESQL = text(
    "SELECT n FROM calls WHERE to_tsvector('simple'::regconfig, coalesce(search, ''))"
    " @@ to_tsquery('simple'::regconfig, :words)"
)
_ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def id_from(us: int) -> str:
    """Return the least id of a ULID of that millisecond."""
    ms = max(0, us // 1000)
    return "".join(_ULID[(ms >> shift) & 31] for shift in range(45, -1, -5)) + "0" * 16


def matching(words: Sequence[str]) -> ColumnElement[bool]:
    """Say that a row has every word, each from its beginning; read row by row."""
    return and_(*(calls.c.search.contains(f" {word}", autoescape=True) for word in words))


async def found_by_words(connection: AsyncConnection, words: Sequence[str]) -> ColumnElement[bool] | None:
    """Say the same so that the database takes its index of words; None: more than a few rows have them."""
    if connection.dialect.name == "sqlite":
        indexed, key = _WORDS_SQLITE.bindparams(words=" ".join(f'"{word}"*' for word in words)), "rowid"
    else:
        indexed, key = _WORDS_POSTGRESQL.bindparams(words=" & ".join(f"'{word}':*" for word in words)), "n"
    rows = indexed.columns(column(key, Integer))
    return calls.c.n.in_(rows.scalar_subquery()) if await _few(connection, rows.subquery()) else None


async def found_by(connection: AsyncConnection, condition: ColumnElement[bool]) -> ColumnElement[bool] | None:
    """Say a condition so that its own index leads, which has another order; None: more than a few rows fulfil it."""
    rows = select(calls.c.n).where(condition)
    return calls.c.n.in_(rows) if await _few(connection, rows.subquery()) else None


async def _few(connection: AsyncConnection, rows: FromClause) -> bool:
    some = select(literal(1).label("one")).select_from(rows).limit(FEW).subquery()
    return int((await connection.execute(select(func.count()).select_from(some))).scalar_one()) < FEW


def met(
    leading: Sequence[ColumnElement[bool]], rest: Sequence[ColumnElement[bool]], bounds: Sequence[ColumnElement[bool]]
) -> Select[Any] | CompoundSelect[Any]:
    """Return the ids that fulfil everything, newest first, in the way that SQLite does quickly.

    It takes one index a table, and keeps no statistics to choose it by. Asked for what several indexes have in common, it reads all of
    them side by side in their order, and stops when it has enough.
    """
    parts = [select(calls.c.call).where(condition, *bounds) for condition in leading]
    if len(parts) < 2:
        return select(calls.c.call).where(*leading, *rest, *bounds).order_by(calls.c.call.desc())
    common = intersect(*parts)
    if not rest:
        return common.order_by(common.selected_columns.call.desc())
    few = common.subquery("common")
    found = select(calls.c.call).join_from(few, calls, calls.c.call == few.c.call)
    return found.where(*rest).order_by(few.c.call.desc())


def aside(connection: AsyncConnection, number: ColumnElement[float]) -> ColumnElement[float]:
    """Return a column of numbers so that SQLite does not take its index, which has another order."""
    return number + 0 if connection.dialect.name == "sqlite" else number


def newest_first(statement: Select[Any], key: ColumnElement[Any], cursor: str | None, most: int) -> Select[Any]:
    """Give one page, and one row more that tells whether there is another."""
    if cursor is not None:
        statement = statement.where(key < cursor)
    return statement.order_by(key.desc()).limit(most + 1)


def wanted_words(given: str | None) -> list[str]:
    """Return the words of a search, the longest first and no more than matter."""
    return sorted(dict.fromkeys(words_of(given or "")), key=len, reverse=True)[:8]

"""Writes what was told: one batch, one transaction. Whatever is told twice changes nothing the second time.

Rows that the batch speaks of are read, folded with what is new, and written back under the database's one writer's lock.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.journal.database import Database
from gateway.journal.rows import Row, Told, fold_call, fold_letter
from gateway.journal.tables import calls, events, letters

AT_ONCE = 500
"""Keys of one `IN`; both databases have a bound far above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Rows that are new or changed."""

    calls: int = 0
    events: int = 0
    letters: int = 0


class Store:
    """The writing side of the journal."""

    def __init__(self, database: Database) -> None:
        """The database must be opened for writing."""
        self._database = database

    async def write(self, told: Sequence[Told]) -> Written:
        """Commit a batch; raises `Away` when the database is, and then nothing of it was written."""
        async with self._database.transaction() as connection:
            return Written(
                calls=await _fold(connection, _CALLS, [one.call for one in told if one.call]),
                events=await _add_events(connection, [one.event for one in told if one.event]),
                letters=await _fold(connection, _LETTERS, [one.letter for one in told if one.letter]),
            )


@dataclass(frozen=True, slots=True)
class _Kind:
    table: Table
    key: str
    fold: Callable[[Mapping[str, Any] | None, Mapping[str, Any]], Row]


_CALLS: Final = _Kind(calls, "call", fold_call)
_LETTERS: Final = _Kind(letters, "letter", fold_letter)


async def _fold(connection: AsyncConnection, kind: _Kind, parts: Sequence[Row]) -> int:
    before = await _known(connection, kind, list(dict.fromkeys(part[kind.key] for part in parts)))
    after: dict[str, Row] = {}
    for part in parts:
        key = part[kind.key]
        after[key] = kind.fold(after.get(key) or before.get(key), part)
    fresh = [row for key, row in after.items() if key not in before]
    changed = [row for key, row in after.items() if key in before and row != before[key]]
    if fresh:
        await connection.execute(insert(kind.table), fresh)
    if changed:
        columns = [name for name in changed[0] if name not in {kind.key, "n"}]
        statement = (
            update(kind.table)
            .where(kind.table.c[kind.key] == bindparam("of_row"))
            .values({name: bindparam(f"new_{name}") for name in columns})
        )
        values = [{"of_row": row[kind.key], **{f"new_{name}": row[name] for name in columns}} for row in changed]
        await connection.execute(statement, values)
    return len(fresh) + len(changed)


async def _known(connection: AsyncConnection, kind: _Kind, keys: Sequence[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for part in _parts(keys):
        rows = await connection.execute(select(kind.table).where(kind.table.c[kind.key].in_(part)))
        found |= {row[kind.key]: dict(row) for row in rows.mappings()}
    return found


async def _add_events(connection: AsyncConnection, rows: Sequence[Row]) -> int:
    fresh = list({row["id"]: row for row in reversed(rows)}.values())
    if not fresh:
        return 0
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    added = await connection.execute(dialect.insert(events).on_conflict_do_nothing(), fresh)
    return max(0, added.rowcount)


def _parts(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + AT_ONCE] for start in range(0, len(keys), AT_ONCE))

"""Questions about calls: a page of those that fulfil a filter, one call, the events of one."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, CompoundSelect, Select, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.journal.database import Database
from gateway.journal.query import aside, found_by, found_by_words, id_from, matching, met, wanted_words
from gateway.journal.rows import Row
from gateway.journal.tables import calls, events

MOST_EVENTS = 1000
"""Events of a call that are read: a call has two or three for each attempt."""

LISTED = [column for column in calls.c if column.name not in {"n", "result", "search", "tenant", "seq"}]

_decode = msgspec.json.decode


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which calls; None does not matter. Times are when a call came in, to the millisecond, from `since_us` to before `until_us`."""

    agent: str | None = None
    session: str | None = None
    tool: str | None = None
    connector: str | None = None
    state: str | None = None
    error_class: str | None = None
    trace_id: str | None = None
    fingerprint: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    confidence_from: float | None = None
    confidence_below: float | None = None
    text: str | None = None

    def exact(self) -> dict[str, str]:
        """Return the filters that ask for one value of a column."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name in _EXACT}
        return {name: value for name, value in given.items() if value is not None}


_EXACT = frozenset({"agent", "session", "tool", "connector", "state", "error_class", "trace_id", "fingerprint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows, newest first, and where the next page begins; None: this is the last."""

    rows: list[Row]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How a call ended, as it was told: the `data` of its result event, its agent, and its attempts."""

    agent: str | None
    data: dict[str, Any]
    attempts: list[dict[str, Any]]
    ended_us: int
    trace_id: str | None


class Calls:
    """The reading side."""

    def __init__(self, database: Database) -> None:
        """The database need not be opened for writing."""
        self._database = database

    async def page(self, wanted: CallFilter, *, cursor: str | None = None, most: int = 50) -> Page:
        """Return calls, newest first; raises `Away`."""
        async with self._database.transaction() as connection:
            chosen = (await _chosen(connection, wanted, cursor)).limit(most + 1)
            ids = list((await connection.execute(chosen)).scalars())
            statement = select(*LISTED).where(calls.c.call.in_(ids[:most])).order_by(calls.c.call.desc())
            rows = [dict(row) for row in (await connection.execute(statement)).mappings()]
        return Page(rows=rows, cursor=ids[most - 1] if len(ids) > most else None)

    async def one(self, call: str) -> Row | None:
        """Return a call's row; None: the journal does not know it. Raises `Away`."""
        async with self._database.transaction() as connection:
            found = await connection.execute(select(*LISTED).where(calls.c.call == call))
            row = found.mappings().first()
        return None if row is None else dict(row)

    async def ended(self, call: str) -> Kept | None:
        """Return how a call ended; None: it is not known to have. Raises `Away`."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                select(calls.c.agent, calls.c.result, calls.c.ended_us, calls.c.trace_id).where(calls.c.call == call)
            )
            row = found.mappings().first()
            if row is None or row["result"] is None:  # its last event may be on its way yet: the result says all
                return None
            told = await _events(connection, call)
        attempts = [event["data"]["attempt"] for event in told if event["data"].get("attempt")]
        data = _decode(row["result"])
        return Kept(
            agent=row["agent"], data=data, attempts=attempts, ended_us=row["ended_us"], trace_id=row["trace_id"]
        )

    async def events(self, call: str) -> list[Row]:
        """Return the events of a call in their order, as far as they were written; raises `Away`."""
        async with self._database.transaction() as connection:
            return await _events(connection, call)


async def _events(connection: AsyncConnection, call: str) -> list[Row]:
    columns = (events.c.id, events.c.seq, events.c.type, events.c.time_us, events.c.data)
    found = await connection.execute(select(*columns).where(events.c.call == call).limit(MOST_EVENTS))
    told = [{**row, "data": _decode(row["data"])} for row in found.mappings()]
    return sorted(told, key=_order)


def _order(event: Mapping[str, Any]) -> tuple[int, int, str]:
    """By time; among events of one moment by their number, and what has none stands last."""
    return event["time_us"], event["seq"] or MOST_EVENTS, event["id"]


async def _chosen(
    connection: AsyncConnection, wanted: CallFilter, cursor: str | None
) -> Select[Any] | CompoundSelect[Any]:
    """Return the ids that fulfil a filter, newest first."""
    leading, rest = await _searched(connection, wanted)
    leading += [calls.c[name] == value for name, value in wanted.exact().items()]
    bounds = _bounds(wanted, cursor)
    if connection.dialect.name == "sqlite":
        return met(leading, rest, bounds)
    return select(calls.c.call).where(*leading, *rest, *bounds).order_by(calls.c.call.desc())


def _bounds(wanted: CallFilter, cursor: str | None) -> list[ColumnElement[bool]]:
    """Bound the ids, which are in the order of time; all of these also bound what is read of an index."""
    bounds = [] if cursor is None else [calls.c.call < cursor]
    if wanted.since_us is not None:
        bounds.append(calls.c.call >= id_from(wanted.since_us))
    if wanted.until_us is not None:
        bounds.append(calls.c.call < id_from(wanted.until_us))
    return bounds


async def _searched(
    connection: AsyncConnection, wanted: CallFilter
) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """Return what words and ranges ask for: that which few rows fulfil, to be looked up, and the rest, to be met on the way."""
    leading: list[ColumnElement[bool]] = []
    rest: list[ColumnElement[bool]] = []
    words = wanted_words(wanted.text)
    if words:
        found = await found_by_words(connection, words)
        (rest if found is None else leading).append(matching(words) if found is None else found)
    confidence = _ranges(calls.c.confidence, wanted)
    if confidence:
        found = await found_by(connection, and_(*confidence))
        rest += _ranges(aside(connection, calls.c.confidence), wanted) if found is None else []
        leading += [] if found is None else [found]
    return leading, rest


def _ranges(column: ColumnElement[Any], wanted: CallFilter) -> list[ColumnElement[bool]]:
    conditions = []
    if wanted.confidence_from is not None:
        conditions.append(column >= wanted.confidence_from)
    if wanted.confidence_below is not None:
        conditions.append(column < wanted.confidence_below)
    return conditions

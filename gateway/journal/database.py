"""The journal's database, SQLite or PostgreSQL by URL: engines, transactions, and what its being away looks like.

SQLite: write-ahead log, `BEGIN IMMEDIATE` for those who write (a lock that is upgraded later fails at once, whatever
`busy_timeout` says), and `synchronous=FULL`, because what is committed here is acknowledged on the topics.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

LOCK = 0x51_0C_E
"""The advisory lock of those who write to a PostgreSQL journal: one at a time, so that a fold reads what it will replace."""

BUSY_MS = 5000
"""How long a SQLite connection waits for another's lock, milliseconds."""

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_MS}",
    "PRAGMA cache_size=-65536",
)
_WRITING = (
    "PRAGMA auto_vacuum=INCREMENTAL",  # heard only before the first table is made
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
)


class Away(Exception):  # noqa: N818 - it names a situation, not an error of ours
    """The database does not answer, is locked for too long, is full, or has no tables yet: worth trying again."""


class Missing(Away):
    """There is no journal yet: no file, or no tables."""


class Misplaced(ValueError):  # noqa: N818 - as above
    """The URL names no database that a journal can be in."""


def url_of(text_url: str) -> URL:
    """Return the URL with its asynchronous driver; raises `Misplaced`, which never quotes the URL: it may hold a password."""
    try:
        url = make_url(text_url)
    except ArgumentError:
        raise Misplaced("SLUICE_JOURNAL_URL is not a URL: sqlite:///PATH or postgresql://USER@HOST/NAME") from None
    driver = _DRIVERS.get(url.drivername.partition("+")[0])
    if driver is None:
        raise Misplaced(f"SLUICE_JOURNAL_URL names {url.drivername}: sqlite and postgresql are known")
    if driver.startswith("sqlite") and not url.database:
        raise Misplaced("SLUICE_JOURNAL_URL names no file: sqlite:///PATH, with four slashes for an absolute one")
    return url.set(drivername=driver)


class Database:
    """One process's connections to the journal."""

    def __init__(self, text_url: str, *, writes: bool) -> None:
        """Open nothing yet. Who does not `write` cannot: SQLite refuses it and never makes a file."""
        self.url = url_of(text_url)
        self.writes = writes
        self._engine: AsyncEngine | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file on this machine."""
        return self.url.drivername.startswith("sqlite")

    @property
    def name(self) -> str:
        """What may be shown of the URL."""
        return self.url.render_as_string(hide_password=True).replace("+aiosqlite", "").replace("+asyncpg", "")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction: committed at the end, rolled back by an exception. Raises `Away`."""
        if not (self.writes or self._exists()):
            raise Missing("nothing has been journalled yet")
        try:
            async with self._made().begin() as connection:
                if self.writes and not self.is_sqlite:
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
                yield connection
        except (TimeoutError, OSError, PoolTimeout) as error:
            raise Away(f"{type(error).__name__}: {error}") from error
        except DBAPIError as error:
            if missing(error):
                raise Missing("nothing has been journalled yet") from error
            if passing(error):
                raise Away(f"{type(error.orig).__name__}: {error.orig}") from error
            raise

    async def close(self) -> None:
        """Give the connections back."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    def _exists(self) -> bool:
        return not self.is_sqlite or Path(self.url.database or "").exists()

    def _made(self) -> AsyncEngine:
        if self._engine is None:
            self._engine = (
                _sqlite(self.url, writes=self.writes) if self.is_sqlite else _postgresql(self.url, self.writes)
            )
        return self._engine


def missing(error: DBAPIError) -> bool:
    """Tell whether an error says that the tables are not there."""
    return getattr(error.orig, "sqlstate", None) == "42P01" or "no such table" in str(error.orig)


def passing(error: DBAPIError) -> bool:
    """Tell whether an error is about the database and not about what it was told."""
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        return True
    # PostgreSQL says so with a code: no connection, no resources, an operator's hand, a column that is not there yet.
    code = str(getattr(error.orig, "sqlstate", None) or "")
    return code[:2] in {"08", "53", "57", "58"} or code in {"42703", "40001", "40P01", "55P03", "25006"}


def _sqlite(url: URL, *, writes: bool) -> AsyncEngine:
    path = str(Path(url.database or "").absolute())
    mode = "rwc" if writes else "ro"
    engine = create_async_engine(
        url.set(database=f"file:{quote(path)}", query={"uri": "true", "mode": mode}), pool_size=1 if writes else 4
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: see below
        cursor = connection.cursor()
        for pragma in (*_PRAGMAS, *(_WRITING if writes else ("PRAGMA query_only=ON",))):
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL, writes: bool) -> AsyncEngine:  # noqa: FBT001 - see Database
    settings = {"application_name": "sluice", "default_transaction_read_only": "off" if writes else "on"}
    return create_async_engine(
        url,
        pool_size=2 if writes else 8,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={"server_settings": settings, "timeout": 5},
    )

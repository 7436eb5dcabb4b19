"""Which step of the migrations a database stands on, and the way to another."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from gateway.journal.database import Database

HEAD = "head"
BASE = "base"


async def migrate(database: Database, to: str = HEAD) -> str | None:
    """Bring a database up to a step, or down to it; returns where it stands. One at a time, all or nothing."""
    async with database.transaction() as connection:
        await connection.run_sync(_migrate, to)
        return await connection.run_sync(_stands_on)


async def stands_on(database: Database) -> str | None:
    """Return the step a database stands on; None: it has no tables of ours. Raises `Away`."""
    async with database.transaction() as connection:
        return await connection.run_sync(_stands_on)


def newest() -> str:
    """Return the step that this version of the code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("the migrations are not part of this installation")
    return head


def _migrate(connection: Connection, to: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    now = _stands_on(connection)
    known = [step.revision for step in script.walk_revisions()]
    if now is not None and now not in known:
        raise RuntimeError(
            f"the journal was written by a newer version (step {now}): install that, or name another database"
        )
    target = script.get_current_head() if to == HEAD else to
    if to == BASE or (now in known and target in known and known.index(target) > known.index(now)):
        command.downgrade(config, to)
    else:
        command.upgrade(config, to)


def _stands_on(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config

"""The journal's letters as they are rebuilt: what it has of them, and folding more into it."""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import select

from gateway.journal import schema
from gateway.journal.database import Database
from gateway.journal.rows import Told, read
from gateway.journal.store import Store
from gateway.journal.tables import letters
from gateway.ports.reindex import Change
from schemas.effect import Effect
from schemas.letter import LetterStatus
from schemas.moment import moment, stamp


class Unready(Exception):  # noqa: N818 - a situation
    """The database has no tables, or those of another version; the message says so."""


class LetterRows:
    """Implements `gateway.ports.reindex.Journal`."""

    def __init__(self, database: Database) -> None:
        """The database must be opened for writing."""
        self._database = database
        self._store = Store(database)

    async def check(self) -> None:
        """Raise `Unready` where a journal has to be started first, and `Away`."""
        stands, newest = await schema.stands_on(self._database), schema.newest()
        if stands != newest:
            raise Unready(f"the journal stands on step {stands}, this version needs {newest}")

    async def known(self, ids: Sequence[str]) -> Mapping[str, Change]:
        """Return how it has letters; raises `Away`."""
        column = letters.c
        named = (column.letter, column.status, column.effect, column.decided_by, column.reason, column.replay)
        statement = select(*named, column.changed_us).where(column.letter.in_(ids))
        async with self._database.transaction() as connection:
            rows = list((await connection.execute(statement)).mappings())
        return {
            row["letter"]: Change(
                letter=row["letter"],
                status=LetterStatus(row["status"]),
                at=stamp(moment(row["changed_us"] or 0)),
                effect=Effect(row["effect"]) if row["effect"] else None,
                by=row["decided_by"],
                reason=row["reason"],
                replay=row["replay"],
            )
            for row in rows
        }

    async def write(self, raws: Sequence[bytes]) -> int:
        """Fold letters and their changes into its rows; returns how many are new or changed. Raises `Away`."""
        return (await self._store.write(list(_letters(raws)))).letters


def _letters(raws: Sequence[bytes]) -> Iterator[Told]:
    for raw in raws:
        try:
            told = read(raw, most_bytes=0)
        except ValueError:  # as the journal itself leaves it out
            continue
        if told.letter is not None:
            yield Told(letter=told.letter)  # an event that was forgotten stays so

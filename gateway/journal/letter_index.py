"""The journal as the index of letters; while it is behind, letters are looked for in their topic instead.

It is in step as far as letters go when it knows the newest one: then nothing is missing from what it lists.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.journal.database import Away
from gateway.journal.letters import Group
from gateway.journal.letters import LetterFilter as Wanted
from gateway.journal.letters import LetterIndex as Journal
from gateway.ports.letters import Became, LetterFilter, LetterGroup, LetterIndex, LetterPage, LetterRow
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.letter import FINAL, LetterStatus

_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

Newest = Callable[[], Awaitable[str | None]]
"""Returns the id of the newest letter of the topic; None: there is none."""


class JournalIndex:
    """Implements `gateway.ports.letters.LetterIndex`."""

    def __init__(self, journal: Journal, topic: LetterIndex, newest: Newest) -> None:
        """`topic` looks through the topic itself, which is slower and ends somewhere."""
        self._journal = journal
        self._topic = topic
        self._newest = newest

    async def find(self, wanted: LetterFilter, *, cursor: str | None, limit: int) -> LetterPage:
        """Return letters, newest first; raises `Unlisted`."""
        # A cursor of ours is a letter's id. What began in the topic goes on there, which also says what is no cursor at all.
        ours = cursor is None or _ID.fullmatch(cursor)
        if not ours or not await self._in_step():
            return await self._topic.find(wanted, cursor=cursor, limit=limit)
        page = await self._journal.page(_wanted(wanted), cursor=cursor, most=limit)
        return LetterPage(rows=[_row(row) for row in page.rows], cursor=page.cursor)

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return what is alike, the largest groups first."""
        if not await self._in_step():
            return await self._topic.groups(wanted)
        return [_group(one) for one in await self._journal.groups(_wanted(wanted))]

    async def record(self, letter: str) -> DeadLetter | None:
        """Return one whole; None: it is not known."""
        found = await self._topic.record(letter)
        if found is not None:
            return found
        row = await self._one(letter)
        return None if row is None else msgspec.convert(row["record"], DeadLetter)

    async def became(self, letter: str) -> Became | None:
        """Return what became of one that is over; None: that is no longer told."""
        row = await self._one(letter)
        if row is None or row["status"] not in FINAL:
            return await self._topic.became(letter)
        return Became(
            status=LetterStatus(row["status"]), by=row["decided_by"], reason=row["reason"], replay=row["replay"]
        )

    async def _in_step(self) -> bool:
        newest = await self._newest()
        return newest is not None and await self._one(newest) is not None

    async def _one(self, letter: str) -> dict[str, Any] | None:
        try:
            found = await self._journal.one(letter)
        except Away:
            return None
        return None if found is None else dict(found)


def _wanted(wanted: LetterFilter) -> Wanted:
    names = {name: getattr(wanted, name) for name in wanted.__slots__}
    return Wanted(**(names | {"status": wanted.status.value if wanted.status else None}))


def _row(row: Any) -> LetterRow:
    op_class = row.get("op_class")
    return LetterRow(
        letter=row["letter"],
        status=LetterStatus(row["status"]),
        call=row["call"],
        tool=row["tool"],
        connector=row["connector"],
        connection=row["connection"],
        op_class=OperationClass(op_class) if op_class else None,
        agent=row["agent"],
        session=row["session"],
        error_class=Failure(row["error_class"]),
        message=row["message"] or "",
        action=row.get("action") or "",
        effect=Effect(row["effect"]),
        fingerprint=row["fingerprint"],
        first_us=row["first_us"],
        last_us=row["last_us"],
        root=row["root"] or row["letter"],
        parent=row["parent"],
        generation=row["generation"] or 0,
        decided_by=row["decided_by"],
        reason=row["reason"],
        replay=row["replay"],
    )


def _group(one: Group) -> LetterGroup:
    return LetterGroup(
        fingerprint=one.fingerprint,
        letters=one.letters,
        open=one.open,
        effects={},
        error_class=one.error_class or "",
        tool=one.tool,
        message=one.message or "",
        first_us=one.first_us or 0,
        last_us=one.last_us or 0,
        newest=one.newest,
    )

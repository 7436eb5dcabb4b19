"""The journal as the index of letters; while it is behind, letters are looked for in their topic instead.

It is in step as far as letters go when it knows the newest one: then nothing is missing from what it lists.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from gateway.journal.database import Away, Missing
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
        page = await self._journal.page(wanted, cursor=cursor, most=limit)
        return LetterPage(rows=[_row(row) for row in page.rows], cursor=page.cursor)

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return what is alike, the largest groups first."""
        if not await self._in_step():
            return await self._topic.groups(wanted)
        return await self._journal.groups(wanted)

    async def record(self, letter: str) -> DeadLetter | None:
        """Return one whole; None: it is not known."""
        found = await self._topic.record(letter)
        if found is not None:
            return found
        row = await self._one(letter)
        return None if row is None else msgspec.convert(row["record"], DeadLetter)

    async def became(self, letter: str) -> Became | None:
        """Return what became of one that is over; None: that is no longer told."""
        found = await self._topic.became(letter)
        if found is not None:
            return found
        row = await self._one(letter)
        if row is None or row["status"] not in FINAL:
            return None
        return Became(
            status=LetterStatus(row["status"]),
            effect=Effect(row["effect"]),
            by=row["decided_by"],
            reason=row["reason"],
            replay=row["replay"],
        )

    async def _in_step(self) -> bool:
        newest = await self._newest()
        # Where all letters were over and are forgotten, whatever the journal has is more.
        return await (self._there() if newest is None else self._knows(newest))

    async def _there(self) -> bool:
        try:
            await self._journal.one("")
        except Away:
            return False
        return True

    async def _knows(self, letter: str) -> bool:
        return await self._one(letter) is not None

    async def _one(self, letter: str) -> dict[str, Any] | None:
        try:
            found = await self._journal.one(letter)
        except Away:
            return None
        return None if found is None else dict(found)


async def undecided(journal: Journal, letters: Sequence[str]) -> set[str] | None:
    """Return those about which nothing is decided; none where there is no journal, and None where it cannot be asked."""
    try:
        return await journal.undecided(letters)
    except Missing:
        return set()
    except Away:
        return None


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

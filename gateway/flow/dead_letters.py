"""Dead letters for people: find them, look at one, and say what is known: it ran, it did not, or it does not matter any more."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import structlog

from dlq import opening
from dlq.opening import Unseal
from gateway.flow import letter_moves
from gateway.flow.refusals import Conflict, Nowhere, Unfit
from gateway.ports import Ambient
from gateway.ports.letters import (
    Became,
    LetterBook,
    LetterChange,
    LetterFilter,
    LetterGroup,
    LetterIndex,
    LetterPage,
)
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect
from schemas.letter import LetterState, LetterStatus

log = structlog.get_logger()

MOST_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long keys and answers of a letter that is over are remembered, seconds."""

    scope_ttl_s: int
    answer_ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What dead letters are found with."""

    index: LetterIndex
    book: LetterBook
    unseal: Unseal
    ambient: Ambient


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A letter and how it stands; None: it is over."""

    record: DeadLetter
    state: LetterState | None
    became: Became | None


class DeadLetters:
    """The use-case; one instance a process."""

    def __init__(self, parts: Parts, terms: Terms) -> None:
        """See `Parts`."""
        self._parts = parts
        self._terms = terms

    async def find(self, wanted: LetterFilter, *, cursor: str | None, limit: int) -> LetterPage:
        """Return letters, newest first, as they stand now."""
        page = await self._parts.index.find(wanted, cursor=cursor, limit=limit)
        ids = [row.letter for row in page.rows]
        states, ends = await self._parts.book.states(ids), await self._parts.book.became(ids)
        # What found them may be behind.
        rows = [row.standing(state, became) for row, state, became in zip(page.rows, states, ends, strict=True)]
        kept = [row for row in rows if wanted.status in {None, row.status} and wanted.effect in {None, row.effect}]
        return replace(page, rows=kept)

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return what is alike, the largest groups first."""
        return await self._parts.index.groups(wanted)

    async def show(self, letter: str) -> Shown:
        """Return one whole, its sealed parts sealed; raises `Nowhere`."""
        record = await self._parts.index.record(letter)
        if record is None:
            raise Nowhere("", f"there is no dead letter {letter[:64]}")
        (state,) = await self._parts.book.states([letter])
        became = await self._parts.index.became(letter) if state is None else None
        return Shown(record=record, state=state, became=became)

    async def open(self, letter: str, *, by: str) -> dict[str, Any]:
        """Return the sealed parts of one in clear, and note who saw them; raises `Nowhere` and `UnsealError`."""
        shown = await self.show(letter)
        found = await asyncio.to_thread(opening.opened, shown.record, self._parts.unseal)
        log.warning("letter.opened", letter=letter, who=by)
        return found

    async def resolve(self, letter: str, *, done: bool, by: str, reason: str) -> Shown:
        """Say whether it ran: done ends it; not done, where that was unknown, lets it be replayed.

        Raises `Nowhere`, `Unfit` and `Conflict`.
        """
        if done:
            return await self._decided(letter, LetterStatus.RESOLVED, Effect.EXECUTED, by=by, reason=reason)
        return await self._decided(letter, LetterStatus.OPEN, Effect.NOT_EXECUTED, by=by, reason=reason)

    async def discard(self, letter: str, *, by: str, reason: str) -> Shown:
        """Say that nothing is to be done about it any more; raises `Nowhere`, `Unfit` and `Conflict`."""
        return await self._decided(letter, LetterStatus.DISCARDED, None, by=by, reason=reason)

    async def _decided(
        self, letter: str, status: LetterStatus, effect: Effect | None, *, by: str, reason: str
    ) -> Shown:
        if not 0 < len(reason.strip()) <= MOST_REASON:
            raise Unfit("/reason", f"a decision needs a reason, of at most {MOST_REASON} characters")
        shown = await self.show(letter)
        change = self._change(shown, status, effect, by=by, reason=reason)
        (told,) = await self._parts.book.change([change])
        if told.stands is not None:
            raise Conflict(f"letter {letter} is {told.stands}")
        log.warning("letter.decided", letter=letter, status=status, effect=effect, who=by, reason=reason)
        return await self.show(letter)

    def _change(
        self, shown: Shown, status: LetterStatus, effect: Effect | None, *, by: str, reason: str
    ) -> LetterChange:
        ambient, identity = self._parts.ambient, shown.record.identity
        facts = {"call": identity.call, "by": by, "reason": reason, "replay": None, "effect": effect}
        event = letter_moves.changed(identity.dl_id, status, mark=ambient.new_id(), now=ambient.now(), facts=facts)
        return LetterChange(
            letter=identity.dl_id,
            status=status,
            effect=effect,
            by=by,
            reason=reason,
            event=event,
            scope_ttl_s=self._terms.scope_ttl_s,
            answer_ttl_s=self._terms.answer_ttl_s,
        )

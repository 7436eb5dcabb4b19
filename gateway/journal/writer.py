"""The journal's loop: read, commit, acknowledge. In this order, so that whatever dies in between is only read again.

A database that is away is waited for, and the topics keep what is unread. An entry that no database takes is told and left behind:
it would keep everything after it unread for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.journal.database import Away
from gateway.journal.rows import Told, read
from gateway.journal.store import Store, Written
from schemas.topics import TopicEntry

log = structlog.get_logger()

WAIT_MS = 1000
"""How long one read waits for entries; a stop waits no longer than this."""

TAKE_OVER_MS = 10_000
"""What was read and not acknowledged for so long was left by a journal that died, or lies with one that waits for its database."""

TAKE_OVER_EVERY_S = 2.0
"""Between looks for such entries."""

BATCH_BYTES = 16 << 20
"""Entries that are read together should not be larger: the next batch is as much smaller as the last was too large."""

AGAIN_S = (0.1, 5.0)
"""First and longest pause while the database is away."""


STAND_BY_S = 0.5
"""Between looks whether it is our turn: another journal writes."""


async def _alone() -> bool:
    return True


class Source(Protocol):
    """What the journal needs of the topics."""

    async def read(self, *, most: int, wait_ms: int) -> list[TopicEntry]:
        """Return what nobody has read."""

    async def abandoned(self, *, idle_ms: int, most: int) -> list[TopicEntry]:
        """Take over what was read and never acknowledged."""

    async def acknowledge(self, entries: Iterable[TopicEntry]) -> None:
        """Say that entries are dealt with for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The writer's bounds."""

    batch: int
    """Entries of a topic that are read at once."""
    flush_s: float
    """How long a small batch waits for company."""
    result_bytes: int
    """Results beyond this are left out of the journal."""
    redis_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the writer is told of, and asked."""

    monotonic: Callable[[], float]
    away: tuple[type[Exception], ...]
    """How Redis says that it is away."""
    wrote: Callable[[Written], None] = lambda _: None
    """Told after each commit."""
    answered: Callable[[Sequence[str]], Awaitable[None]] | None = None
    """Told which calls the journal answers for from now on, before their entries are acknowledged."""
    leads: Callable[[], Awaitable[bool]] = _alone
    """Tells whether it is this process's turn to write; others stand by."""
    skipped: Callable[[], None] = lambda: None
    """Told of each entry that is left behind."""


class Writer:
    """One process's journal."""

    def __init__(self, source: Source, store: Store, *, terms: Terms, heard: Heard) -> None:
        """Reads from `source`, writes to `store`, until it is stopped."""
        self._source = source
        self._store = store
        self._terms = terms
        self._heard = heard
        self._most = terms.batch
        self._stopping = asyncio.Event()
        self._looked_s = float("-inf")

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Write until `stop`; Redis being away is waited out."""
        while not self._stopping.is_set():
            try:
                await self.turn(WAIT_MS)
            except self._heard.away as error:
                log.warning("journal.redis_away", error=f"{type(error).__name__}: {error}"[:300])
                await self._pause(max(self._terms.redis_wait_s, 0.2))
            except Exception:
                # Whatever it is, a journal that gave up would let the topics grow; what was read is read again.
                log.exception("journal.broken")
                await self._pause(AGAIN_S[1])

    async def turn(self, wait_ms: int) -> int:
        """Read, commit and acknowledge once; returns how many entries were dealt with."""
        if not await self._heard.leads():
            await self._pause(STAND_BY_S)
            return 0
        entries = await self._abandoned() or await self._read(wait_ms)
        if entries and (kept := await self._write(entries)) is not None:
            answered = [one.answered for one in kept if one.answered]
            if answered and self._heard.answered is not None:
                await self._heard.answered(answered)
            await self._source.acknowledge(entries)
            return len(entries)
        return 0

    async def _abandoned(self) -> list[TopicEntry]:
        now_s = self._heard.monotonic()
        if now_s - self._looked_s < TAKE_OVER_EVERY_S:
            return []
        found = await self._source.abandoned(idle_ms=TAKE_OVER_MS, most=self._most)
        if not found:
            self._looked_s = now_s  # while there are some, there may be more
        return found

    async def _read(self, wait_ms: int) -> list[TopicEntry]:
        entries = await self._source.read(most=self._most, wait_ms=wait_ms)
        if 0 < len(entries) < self._most and self._terms.flush_s:
            await asyncio.sleep(self._terms.flush_s)
            entries += await self._source.read(most=self._most, wait_ms=1)
        self._fit(entries)
        return entries

    def _fit(self, entries: Sequence[TopicEntry]) -> None:
        size = sum(len(one.raw) for one in entries)
        fitting = self._most * 2 if size < BATCH_BYTES else self._most * BATCH_BYTES // size
        self._most = max(1, min(self._terms.batch, fitting))

    async def _write(self, entries: Sequence[TopicEntry]) -> list[Told] | None:
        """Commit entries and return what the database took; None when a stop came while it was away."""
        told = [one for one in map(self._told, entries) if one is not None]
        pause_s, began_s = AGAIN_S[0], None
        while True:
            try:
                kept = await self._commit(told)
            except Away as error:
                if began_s is None:
                    began_s = self._heard.monotonic()
                    log.warning("journal.sql_away", error=str(error))
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, AGAIN_S[1])
                if self._stopping.is_set():
                    return None
            else:
                if began_s is not None:
                    log.info("journal.sql_back", away_s=round(self._heard.monotonic() - began_s, 1))
                return kept

    async def _commit(self, told: Sequence[Told]) -> list[Told]:
        try:
            self._heard.wrote(await self._store.write(told))
        except Away:
            raise
        except Exception as error:  # noqa: BLE001 - told below, and its like would come again
            if len(told) == 1:
                log.error("journal.entry_refused", error=f"{type(error).__name__}: {error}"[:500])  # noqa: TRY400 - the message is the story
                self._heard.skipped()
                return []
            # One row that the database refuses must not take its batch along.
            half = len(told) // 2
            return await self._commit(told[:half]) + await self._commit(told[half:])
        return list(told)

    def _told(self, entry: TopicEntry) -> Told | None:
        try:
            return read(entry.raw, most_bytes=self._terms.result_bytes)
        except Exception as error:  # noqa: BLE001 - anybody may write to a topic; nothing there may stop the journal
            log.warning("journal.entry_unread", topic=entry.topic, entry=entry.id, error=str(error)[:200])
            self._heard.skipped()
            return None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

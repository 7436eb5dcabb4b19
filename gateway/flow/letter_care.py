"""Keeps letters from growing for ever: forgets those that were over long enough, and removes files that nothing names any more.

An open letter is never touched. A file goes after what names it: whoever dies in between leaves an orphan, which the sweep finds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

import structlog

from dlq.blobs import BlobStore, letter_of, reference
from dlq.letter import ARGUMENTS, BODY, RAW
from gateway.ports import Ambient

log = structlog.get_logger()

AT_ONCE: Final = 64
"""Letters of one script call; more would hold Redis too long."""

MOST: Final = 20_000
"""Letters of one run; what is left is met in the next."""

GRACE_S: Final = 3600.0
"""A file is written before the letter that names it: one that is younger may still get its letter."""


class Board(Protocol):
    """What one shard keeps of letters."""

    async def forget(self, *, skip: int, most: int) -> tuple[int, list[str]]:
        """Forget letters that were over long enough: how many were looked at, and which are gone."""


class Shelf(Protocol):
    """What Redis keeps of letters."""

    @property
    def parts(self) -> Sequence[Board]:
        """What each shard keeps."""

    async def unknown(self, letters: Collection[str]) -> set[str]:
        """Return those of which nothing is kept."""

    async def named(self, files: Collection[str]) -> set[str]:
        """Return those that a letter or a replay names."""


Undecided = Callable[[Sequence[str]], Awaitable[set[str] | None]]
"""Tells which letters the journal has as undecided; None: it cannot be asked."""


class LetterCare:
    """Two chores of every worker; what two do at once, the scripts and the file system make one of."""

    def __init__(self, shelf: Shelf, blobs: BlobStore, undecided: Undecided, ambient: Ambient) -> None:
        """`ambient.now` is the clock of the files."""
        self._shelf = shelf
        self._blobs = blobs
        self._undecided = undecided
        self._ambient = ambient
        self._orphans: set[str] = set()

    async def forget(self) -> int:
        """Forget what was over long enough, with its files; returns how many letters."""
        gone = 0
        for board in self._shelf.parts:
            gone += await self._forget(board)
        if gone:
            log.info("letters.forgotten", letters=gone)
        return gone

    async def _forget(self, board: Board) -> int:
        held = gone = 0
        for _ in range(MOST // AT_ONCE):
            looked, letters = await board.forget(skip=held, most=AT_ONCE)
            held += looked - len(letters)
            gone += len(letters)
            if letters:
                await self.removed([reference(one, part) for one in letters for part in (RAW, ARGUMENTS, BODY)])
            if looked < AT_ONCE:
                break
        return gone

    async def sweep(self) -> int:
        """Remove files that nothing names, and named nothing at the look before; returns how many.

        Twice, because whoever was stopped between its file and its letter, with the whole machine, goes on before the second look.
        """
        before_s = self._ambient.now().timestamp() - GRACE_S
        found = await self._unnamed(await asyncio.to_thread(self._blobs.older, before_s))
        orphans, self._orphans = found & self._orphans, found
        if orphans:
            await self.removed(orphans)
            log.warning("letters.orphans", files=len(orphans))
        return len(orphans)

    async def removed(self, files: Collection[str]) -> None:
        """Remove files that nothing names."""
        await asyncio.to_thread(self._blobs.remove, *files)

    async def _unnamed(self, files: Sequence[str]) -> set[str]:
        """Return files whose letter is nowhere: not in Redis, and not open in the journal, which may outlive it."""
        unknown = await self._shelf.unknown({letter_of(file) for file in files}) if files else set()
        left = {file for file in files if letter_of(file) in unknown}
        if not left:
            return set()
        undecided = await self._undecided(sorted({letter_of(file) for file in left}))
        if undecided is None:
            return set()
        left = {file for file in left if letter_of(file) not in undecided}
        return left - await self._shelf.named(left)

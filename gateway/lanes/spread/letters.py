"""Letters and replays of all shards. A letter lies where its call did; a replay, which may take letters of many, lies in the first."""

import re
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime

from gateway.lanes.letter_shelf import LetterShelf
from gateway.lanes.letter_topic import LetterTopic
from gateway.lanes.letters import LetterScan, LetterStates, Unlisted
from gateway.lanes.replays import Replays
from gateway.lanes.spread.shards import Spread, together
from gateway.ports.letters import (
    MOST_GROUPS,
    Became,
    LetterChange,
    LetterFilter,
    LetterGroup,
    LetterPage,
    LetterRow,
    Told,
)
from gateway.ports.reindex import Change, Found, History, Restoring
from gateway.ports.replays import Move
from schemas.dead_letter import DeadLetter
from schemas.letter import LetterState, Over
from schemas.replay import Progress, ReplayItem, ReplayPlan, ReplayState

_CURSOR = re.compile(r"\d{1,20}-\d{1,20}\.\d{1,3}")


class AllLetterStates(Spread[LetterStates]):
    """How letters stand, and decisions."""

    async def states(self, letters: Sequence[str]) -> list[LetterState | None]:
        """Return how letters stand; None: it is over, or was never one."""
        return await self.sorted_out(letters, self.of_id, LetterStates.states)

    async def over(self, letters: Sequence[str]) -> list[Over | None]:
        """Return what is kept of letters that are over; None: nothing."""
        return await self.sorted_out(letters, self.of_id, LetterStates.over)

    async def became(self, letters: Sequence[str]) -> list[Became | None]:
        """Return what became of letters that are over; None: it is not, or that is no longer told."""
        return await self.sorted_out(letters, self.of_id, LetterStates.became)

    async def change(self, changes: Sequence[LetterChange]) -> list[Told]:
        """Write decisions down; only an open letter takes one."""
        return await self.sorted_out(changes, lambda one: self.of_id(one.letter), LetterStates.change)


class AllReplays(Spread[Replays]):
    """Each shard knows whether a replay runs, since the script that takes a letter asks; the first one decides."""

    async def save(self, plan: ReplayPlan, items: Sequence[ReplayItem]) -> None:
        """Keep a new one, whole or not at all: what the others know of it comes first, and says only that it does not run."""
        await self._tell(plan)
        await self.home.save(plan, items)

    async def plan(self, replay: str) -> ReplayPlan | None:
        """Return one."""
        return await self.home.plan(replay)

    async def plans(self) -> list[ReplayPlan]:
        """Return all, newest first."""
        return await self.home.plans()

    async def items(self, replay: str) -> list[ReplayItem]:
        """Return the letters of one, in their order."""
        return await self.home.items(replay)

    async def progress(self, replay: str) -> dict[str, Progress]:
        """Return how far its letters are."""
        found: dict[str, Progress] = {}
        for told in await self.everywhere(lambda one: one.progress(replay)):
            found |= told
        return found

    async def skip(self, replay: str, letter: str, why: str) -> None:
        """Write down that a letter is left out after all; not when something became of it already."""
        await self.of_id(letter).skip(replay, letter, why)

    async def move(self, replay: str, move: Move) -> tuple[bool, ReplayPlan] | None:
        """Bring it from one of the given states to another.

        Where it begins to run the others are told before, since whoever runs it goes by the first; where it ends, nobody is told that
        it did before all of them know.
        """
        if move.to is ReplayState.RUNNING and len(self.parts) > 1:
            plan = await self.home.plan(replay)
            if plan is not None and plan.state in move.given:
                await self._tell(plan, ReplayState.RUNNING)
        answer = await self.home.move(replay, move)
        if answer is not None:
            await self._tell(answer[1])
        return answer

    async def forget(self, replay: str) -> None:
        """Keep it no longer."""
        await self.everywhere(lambda one: one.forget(replay))

    async def lead(self, worker: str, lease_ms: int) -> int:
        """Ask to be the one who runs replays; the fence, or 0."""
        return await self.home.lead(worker, lease_ms)

    async def _tell(self, plan: ReplayPlan, state: ReplayState | None = None) -> None:
        for one in self.parts[1:]:
            await one.know(plan, state or plan.state)


class AllLetters(Spread[LetterScan]):
    """Their topics, looked through as if they were one. Entries are ordered by their time, and of the same time by their shard."""

    def __init__(self, parts: Sequence[LetterScan], shelf: Spread[LetterScan]) -> None:
        """`parts` are the topics there are, `shelf` has for each shard the one in which its letters lie."""
        super().__init__(parts)
        self._shelf = shelf

    async def newest(self) -> str | None:
        """Return the newest letter's id; None: there is none."""
        found = [one for one in await self.everywhere(LetterScan.newest) if one is not None]
        return max(found, default=None)

    async def find(self, wanted: LetterFilter, *, cursor: str | None, limit: int) -> LetterPage:
        """Return letters, newest first; raises `Unlisted`. The cursor of several topics ends with the number of the last one's."""
        if len(self.parts) == 1:
            return await self.home.find(wanted, cursor=cursor, limit=limit)
        entry, number = _place(cursor)
        rows: list[tuple[tuple[int, int, int], LetterRow]] = []
        whole = True
        for at, part in enumerate(self.parts):
            # Of entries of the same time those of higher numbers were shown before.
            found, ended = await part.rows(entry, inclusive=at < number, wanted=wanted, limit=limit)
            whole = whole and ended
            rows += [((*_time(key), at), row) for key, row in found]
        rows.sort(key=lambda one: one[0], reverse=True)
        if whole and len(rows) <= limit:
            return LetterPage(rows=[row for _, row in rows], cursor=None)
        shown = rows[:limit]
        last = f"{shown[-1][0][0]}-{shown[-1][0][1]}.{shown[-1][0][2]}" if shown else None
        return LetterPage(rows=[row for _, row in shown], cursor=last, whole=last is None)

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return what is alike, the largest groups first; those of two shards are never of the same connector, so they never meet."""
        found = [group for groups in await self.everywhere(lambda one: one.groups(wanted)) for group in groups]
        return sorted(found, key=lambda one: (-one.letters, one.fingerprint))[:MOST_GROUPS]

    async def record(self, letter: str) -> DeadLetter | None:
        """Return one whole; None: it is not known."""
        return await self._shelf.of_id(letter).record(letter)

    async def became(self, letter: str) -> Became | None:
        """Return what became of one that is over; None: that is no longer told."""
        return await self._shelf.of_id(letter).became(letter)


class AllShelves(Spread[LetterShelf]):
    """What is kept of letters that are over; each shard forgets its own, one after the other."""

    async def unknown(self, letters: Collection[str]) -> set[str]:
        """Return those of which nothing is kept."""
        found = set[str]()
        for part in self.parts:
            some = [one for one in letters if self.of_id(one) is part]
            found |= await part.unknown(some) if some else set()
        return found

    async def named(self, files: Collection[str]) -> set[str]:
        """Return those that a letter or a replay names."""
        found = set[str]()
        for some in await self.everywhere(lambda one: one.named(files)):
            found |= some
        return found


class AllLetterTopics(Spread[LetterTopic]):
    """What letters are rebuilt from: implements `gateway.ports.reindex.Topic`."""

    def __init__(self, parts: Sequence[LetterTopic], writing: Sequence[LetterTopic]) -> None:
        """`parts` has one for each shard, `writing` one for each set of topics."""
        super().__init__(parts)
        self._writing = tuple(writing)

    async def length(self) -> int:
        """Count the entries."""
        return sum(await together(self._writing, LetterTopic.length))

    async def now(self) -> datetime:
        """Return the time of Redis."""
        return await self.home.now()

    async def history(self) -> History:
        """Read what was told of letters, as far back as it lies in every topic of events."""
        found = await together(self._writing, LetterTopic.history)
        changes: dict[str, Sequence[Change]] = {}
        events: dict[str, Sequence[bytes]] = {}
        for one in found:
            changes |= one.changes
            events |= one.events
        return History(changes=changes, events=events, reaches=lambda entry: all(one.reaches(entry) for one in found))

    async def letters(self) -> AsyncIterator[tuple[int, list[Found]]]:
        """Yield entries, those of each topic oldest first; a letter and those it came from lie in one."""
        for topic in self._writing:
            async for batch in topic.letters():
                yield batch

    async def states(self, letters: Sequence[str]) -> list[LetterState | None]:
        """Return how letters stand that are not over."""
        return await self.sorted_out(letters, self.of_id, LetterTopic.states)

    async def over(self, letters: Sequence[str]) -> list[Over | None]:
        """Return what became of those that are."""
        return await self.sorted_out(letters, self.of_id, LetterTopic.over)

    async def restore(self, items: Sequence[Restoring]) -> list[str]:
        """Write down how letters stand."""
        return await self.sorted_out(items, lambda one: self.of_id(one.letter), LetterTopic.restore)


def _place(cursor: str | None) -> tuple[str | None, int]:
    """Read a cursor: up to which entry, and of which topic that was."""
    if cursor is None:
        return None, 0
    if not _CURSOR.fullmatch(cursor):
        raise Unlisted("that is no cursor")
    entry, _, number = cursor.partition(".")
    return entry, int(number)


def _time(entry: str) -> tuple[int, int]:
    first, _, second = entry.partition("-")
    return int(first), int(second)

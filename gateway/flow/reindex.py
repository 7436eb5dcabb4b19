"""Reads the topic of dead letters from its beginning, and rebuilds from it what the journal and Redis know of them.

The topic is the truth. What Redis knows is left alone; what it lost is restored from what was told, and where nobody tells any more
what became of a letter, it is in doubt. Twice changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.flow import letter_moves
from gateway.policy.restoring import DOUBT, WHO, Link, Restored, Told, link, restored
from gateway.ports.reindex import Change, Found, History, Journal, Restoring, Topic
from schemas.dead_letter import DeadLetter
from schemas.letter import FINAL, LetterState, LetterStatus, Over
from schemas.moment import EPOCH, moment, stamp


@dataclass(slots=True)
class Report:
    """What was done; the fields after `unread` count letters that Redis had lost, by what was restored."""

    letters: int = 0
    unread: int = 0
    """Entries that are no letters."""
    restored: int = 0
    doubted: int = 0
    replaying: int = 0
    closed: int = 0
    rows: int | None = None
    """Of the journal, new or changed; None: there is no journal."""
    in_doubt: list[str] = field(default_factory=list)


class Reindex:
    """One run."""

    def __init__(self, topic: Topic, journal: Journal | None) -> None:
        """Without a journal only Redis is mended."""
        self._topic = topic
        self._journal = journal
        self._now = EPOCH
        self._chain: dict[str, Link] = {}
        self.report = Report(rows=None if journal is None else 0)

    async def run(self, advance: Callable[[int], None]) -> Report:
        """Read everything once; `advance` is told of entries that were dealt with."""
        self._now = await self._topic.now()
        history = await self._topic.history()
        async for read, found in self._topic.letters():
            self.report.letters += len(found)
            self.report.unread += read - len(found)
            self._chain |= {one.record.identity.dl_id: link(one.record) for one in found}
            if found:
                await self._mend(found, history)
            advance(read)
        return self.report

    async def _mend(self, found: Sequence[Found], history: History) -> None:
        ids = [one.record.identity.dl_id for one in found]
        known = await self._journal.known(ids) if self._journal else {}
        states, ends = await self._topic.states(ids), await self._topic.over(ids)
        lost = [one for one, state, over in zip(found, states, ends, strict=True) if state is None and over is None]
        if lost:
            await self._restore(lost, history, known)
            states, ends = await self._topic.states(ids), await self._topic.over(ids)
        if self._journal is not None and self.report.rows is not None:
            raws: list[bytes] = []
            for one, state, over in zip(found, states, ends, strict=True):
                letter = one.record.identity.dl_id
                raws += [one.raw, *history.events.get(letter, ())]
                told = [*history.changes.get(letter, ()), *([known[letter]] if letter in known else [])]
                raws += _said(one.record, state, over, told)
            self.report.rows += await self._journal.write(raws)

    async def _restore(self, lost: Sequence[Found], history: History, known: Mapping[str, Change]) -> None:
        items = []
        for one in lost:
            letter = one.record.identity.dl_id
            told = Told(
                changes=history.changes.get(letter, ()),
                journalled=known.get(letter),
                whole=history.reaches(one.entry),
            )
            items.append(self._item(one, restored(one.record, one.entry, told, self._chain)))
        answers = await self._topic.restore(items)
        counted = Counter(answers)
        for name in ("restored", "doubted", "replaying", "closed"):
            setattr(self.report, name, getattr(self.report, name) + counted[name])
        pairs = zip(items, answers, strict=True)
        self.report.in_doubt += [item.letter for item, answer in pairs if answer == "doubted"]

    def _item(self, one: Found, found: Restored) -> Restoring:
        letter, event = one.record.identity.dl_id, None
        if found.doubted is not None:
            facts = {"call": one.record.identity.call, "by": WHO, "reason": DOUBT, "replay": None}
            facts["effect"] = found.doubted.effect
            now = self._now
            event = letter_moves.changed(letter, LetterStatus.OPEN, mark=f"{WHO}.{stamp(now)}", now=now, facts=facts)
        named: dict[str, Any] = {"over": found.over, "state": found.state, "call": found.call, "doubted": found.doubted}
        return Restoring(letter=letter, entry=one.entry, event=event, **named)


def _said(record: DeadLetter, state: LetterState | None, over: Over | None, told: Sequence[Change]) -> list[bytes]:
    """Return what Redis alone knows of a letter, as an event tells it."""
    letter = record.identity.dl_id
    if over is not None and not any(one.status in FINAL for one in told):
        facts: dict[str, Any] = {"effect": over.effect, "by": over.by, "reason": over.reason, "replay": over.replay}
        return [letter_moves.changed(letter, over.status, mark=WHO, now=moment(over.at_us), facts=facts).encode()]
    if state is not None and not told and (state.by or state.status is not LetterStatus.OPEN):
        facts = {"effect": state.effect, "by": state.by, "reason": None, "replay": state.replay}
        # Older than any change that was told: each of those is right against it.
        at = datetime.fromisoformat(record.failure.last_at)
        return [letter_moves.changed(letter, state.status, mark=WHO, now=at, facts=facts).encode()]
    return []

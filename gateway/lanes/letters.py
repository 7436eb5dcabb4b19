"""Letters in Redis: how each stands, and a bounded look through their topic for those that nobody has indexed elsewhere."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

import msgspec
from redis.asyncio import Redis

from gateway.lanes.queue import Lanes
from gateway.lanes.replies import text
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
from schemas.dead_letter import DeadLetter
from schemas.letter import LetterState, LetterStatus, Over
from schemas.moment import microseconds
from schemas.topics import FIELD, Shard, Topics

MOST_LOOKED = 20_000
"""Letters that one question looks at; older ones are found through an index, or by their id."""

CHUNK = 200
NEAR_MS = 60_000
"""How far the time in a letter's id may lie from the time of its entry."""

_CURSOR = re.compile(r"\d{1,20}-\d{1,20}")
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_state = msgspec.msgpack.Decoder(LetterState).decode
_over = msgspec.msgpack.Decoder(Over).decode


class _Event(msgspec.Struct):
    data: DeadLetter


_event = msgspec.json.Decoder(_Event).decode


class Unlisted(ValueError):  # noqa: N818 - a situation
    """The cursor is none of ours."""


class LettersKnown:
    """What one shard knows of letters."""

    def __init__(self, redis: "Redis", shard: Shard) -> None:
        """Only looks."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._shard = shard

    async def states(self, letters: Sequence[str]) -> list[LetterState | None]:
        """Return how letters stand; None: it is over, or was never one."""
        if not letters:
            return []
        return [packed and _state(packed) for packed in await self._redis.hmget(self._shard.key("letters"), letters)]

    async def over(self, letters: Sequence[str]) -> list[Over | None]:
        """Return what is kept of letters that are over; None: nothing."""
        if not letters:
            return []
        return [packed and _over(packed) for packed in await self._redis.hmget(self._shard.key("over"), letters)]

    async def became(self, letters: Sequence[str]) -> list[Became | None]:
        """Return what became of letters that are over; None: it is not, or that is no longer told."""
        return [_became(over) for over in await self.over(letters)]


class LetterStates(LettersKnown):
    """The same, and decisions."""

    def __init__(self, redis: "Redis", shard: Shard, lanes: Lanes) -> None:
        """`lanes` are the lanes of the same shard."""
        super().__init__(redis, shard)
        self._lanes = lanes

    async def change(self, changes: Sequence[LetterChange]) -> list[Told]:
        """Write decisions down; only an open letter takes one."""
        return [_told(reply) for reply in await self._lanes.letter(changes)]


class Standing(Protocol):
    """How letters stand, wherever they lie."""

    async def states(self, letters: Sequence[str]) -> list[LetterState | None]:
        """Return how letters stand; None: it is over, or was never one."""

    async def over(self, letters: Sequence[str]) -> list[Over | None]:
        """Return what is kept of letters that are over."""

    async def became(self, letters: Sequence[str]) -> list[Became | None]:
        """Return what became of letters that are over."""


class LetterScan:
    """Looks through the topic, newest first."""

    def __init__(self, redis: "Redis", topics: Topics, states: Standing) -> None:
        """`states` says how those stand that are not over."""
        self._redis: Any = redis
        self._topics = topics
        self._states = states

    async def newest(self) -> str | None:
        """Return the newest letter's id; None: there is none."""
        entries = await self._redis.xrevrange(self._topics.letters, count=1)
        found = _read(entries[0][1]) if entries else None
        return found.identity.dl_id if found else None

    async def find(self, wanted: LetterFilter, *, cursor: str | None, limit: int) -> LetterPage:
        """Return letters, newest first; raises `Unlisted`."""
        if cursor is not None and not _CURSOR.fullmatch(cursor):
            raise Unlisted("that is no cursor")
        rows: list[LetterRow] = []
        at = None
        async for at, row in self._rows(f"({cursor}" if cursor else "+"):
            if fits(row, wanted):
                rows.append(row)
            if len(rows) == limit:
                return LetterPage(rows=rows, cursor=at)
        whole = at is None or not await self._redis.xrevrange(self._topics.letters, max=f"({at}", count=1)
        return LetterPage(rows=rows, cursor=None if whole else at, whole=whole)

    async def rows(
        self, entry: str | None, *, inclusive: bool, wanted: LetterFilter, limit: int
    ) -> tuple[list[tuple[str, LetterRow]], bool]:
        """Return rows with their entries, those before `entry`, newest first, and whether there are no more."""
        found: list[tuple[str, LetterRow]] = []
        at = None
        async for at, row in self._rows("+" if entry is None else entry if inclusive else f"({entry}"):
            if fits(row, wanted):
                found.append((at, row))
            if len(found) == limit:
                break
        return found, at is None or not await self._redis.xrevrange(self._topics.letters, max=f"({at}", count=1)

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return what is alike, the largest groups first."""
        found: dict[str, LetterGroup] = {}
        async for _, row in self._rows("+"):
            if fits(row, wanted):
                found[row.fingerprint] = _joined(found.get(row.fingerprint), row)
        return sorted(found.values(), key=lambda one: (-one.letters, one.fingerprint))[:MOST_GROUPS]

    async def record(self, letter: str) -> DeadLetter | None:
        """Return one whole; None: it is not known."""
        (state,) = await self._states.states([letter])
        (over,) = await self._states.over([letter])
        known = state or over
        if known is not None and known.entry:
            entries = await self._redis.xrange(self._topics.letters, min=known.entry, max=known.entry)
            return _read(entries[0][1]) if entries else None
        return await self._by_time(letter)

    async def became(self, letter: str) -> Became | None:
        """Return what became of one that is over; None: that is no longer told."""
        (found,) = await self._states.became([letter])
        return found

    async def _by_time(self, letter: str) -> DeadLetter | None:
        """Look where a letter of this id must lie: ids begin with their time."""
        made_ms = milliseconds(letter)
        if made_ms is None:
            return None
        at, last = f"{max(0, made_ms - NEAR_MS)}", f"{made_ms + NEAR_MS}"
        for _ in range(MOST_LOOKED // CHUNK):
            entries = await self._redis.xrange(self._topics.letters, min=at, max=last, count=CHUNK)
            for _, fields in entries:
                if letter.encode() in fields.get(FIELD.encode(), b""):
                    found = _read(fields)
                    if found is not None and found.identity.dl_id == letter:
                        return found
            if len(entries) < CHUNK:
                return None
            at = f"({text(entries[-1][0])}"
        return None

    async def _rows(self, at: str) -> AsyncIterator[tuple[str, LetterRow]]:
        """Yield entry ids and rows, with how each letter stands; no more than a question may look at."""
        for _ in range(MOST_LOOKED // CHUNK):
            entries = await self._redis.xrevrange(self._topics.letters, max=at, count=CHUNK)
            found = [(text(entry), record) for entry, fields in entries if (record := _read(fields)) is not None]
            ids = [record.identity.dl_id for _, record in found]
            states, ends = await self._states.states(ids), await self._states.became(ids)
            for (entry, record), state, became in zip(found, states, ends, strict=True):
                yield entry, row_of(record).standing(state, became)
            if len(entries) < CHUNK:
                return
            at = f"({text(entries[-1][0])}"


def _read(fields: dict[bytes, bytes]) -> DeadLetter | None:
    return record_of(fields.get(FIELD.encode(), b""))


def record_of(raw: bytes) -> DeadLetter | None:
    """Read one entry; what somebody else wrote there is no letter."""
    try:
        return _event(raw).data
    except msgspec.DecodeError:
        return None


def row_of(record: DeadLetter) -> LetterRow:
    """Return a letter as it is listed; how it stands is not told by its record."""
    identity, operation, failure = record.identity, record.operation, record.failure
    return LetterRow(
        letter=identity.dl_id,
        status=LetterStatus.CLOSED,
        call=identity.call,
        tool=operation.tool,
        connector=operation.connector,
        connection=operation.connection,
        op_class=operation.op_class,
        agent=identity.agent_id,
        session=identity.session_id,
        error_class=failure.failure,
        message=failure.message,
        action=failure.action,
        effect=record.effect.state,
        fingerprint=record.grouping.fingerprint,
        first_us=_us(failure.first_at),
        last_us=_us(failure.last_at),
        root=record.lifecycle.root_id or identity.dl_id,
        parent=record.lifecycle.parent_id,
        generation=record.lifecycle.generation,
    )


_EXACT = ("status", "error_class", "effect", "fingerprint", "tool", "connector", "connection", "agent", "session")
_SEARCHED = (
    "letter",
    "call",
    "tool",
    "agent",
    "session",
    "connection",
    "error_class",
    "message",
    "fingerprint",
    "root",
)


def fits(row: LetterRow, wanted: LetterFilter) -> bool:
    """Tell whether a letter is among those that are wanted."""
    for name in (*_EXACT, "call", "root"):
        value = getattr(wanted, name)
        if value is not None and getattr(row, name) != value:
            return False
    if wanted.since_us is not None and row.last_us < wanted.since_us:
        return False
    if wanted.until_us is not None and row.last_us >= wanted.until_us:
        return False
    return wanted.text is None or _mentions(row, wanted.text.casefold().split())


def _mentions(row: LetterRow, words: Iterable[str]) -> bool:
    searched = " ".join(str(getattr(row, name)) for name in _SEARCHED).casefold()
    return all(word in searched for word in words)


def _joined(group: LetterGroup | None, row: LetterRow) -> LetterGroup:
    """Add a letter to its group; letters come newest first."""
    counted = int(row.status in {LetterStatus.OPEN, LetterStatus.REPLAYING})
    if group is None:
        return LetterGroup(
            fingerprint=row.fingerprint,
            letters=1,
            open=counted,
            effects={row.effect: 1},
            error_class=row.error_class,
            tool=row.tool,
            message=row.message,
            first_us=row.first_us,
            last_us=row.last_us,
            newest=row.letter,
        )
    return replace(
        group,
        letters=group.letters + 1,
        open=group.open + counted,
        effects=group.effects | {row.effect: group.effects.get(row.effect, 0) + 1},
        first_us=min(group.first_us, row.first_us),
    )


def _became(over: Over | None) -> Became | None:
    if over is None:
        return None
    return Became(status=over.status, effect=over.effect, by=over.by, reason=over.reason, replay=over.replay)


def _told(reply: list[Any]) -> Told:
    kind, *rest = map(text, reply)
    match kind:
        case "changed":
            return Told()
        case "gone":
            return Told(stands="over")
        case "known":
            return Told(stands=f"known to be {rest[0]}")
        case _:
            return Told(stands=rest[0])


def _us(stamped: str) -> int:
    return microseconds(datetime.fromisoformat(stamped))


def milliseconds(ulid: str) -> int | None:
    """Read the time in an id of ours (a ULID: ten characters of Crockford's base 32)."""
    if len(ulid) != 26 or set(ulid) - set(_BASE32):
        return None
    return sum(_BASE32.index(character) << 5 * place for place, character in enumerate(reversed(ulid[:10])))

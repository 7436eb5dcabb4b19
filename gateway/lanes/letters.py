"""Letters in Redis: how each stands, and a bounded look through their topic for those that nobody has indexed elsewhere."""

import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.lanes.queue import Lanes
from gateway.lanes.replies import text
from gateway.ports.letters import Became, LetterChange, LetterFilter, LetterGroup, LetterPage, LetterRow, Told
from schemas.dead_letter import DeadLetter
from schemas.letter import CHANGED, FINAL, LetterState, LetterStatus
from schemas.moment import microseconds
from schemas.topics import FIELD, Shard, Topics

MOST_LOOKED = 20_000
"""Letters that one question looks at; older ones are found through an index, or by their id."""

MOST_EVENTS = 5_000
"""Lifecycle events that are looked through for what became of letters that are over."""

CHUNK = 200
NEAR_MS = 60_000
"""How far the time in a letter's id may lie from the time of its entry."""

_CURSOR = re.compile(r"\d{1,20}-\d{1,20}")
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_state = msgspec.msgpack.Decoder(LetterState).decode


class _Event(msgspec.Struct):
    data: DeadLetter


_event = msgspec.json.Decoder(_Event).decode


class Unlisted(ValueError):  # noqa: N818 - a situation
    """The cursor is none of ours."""


class LetterStates:
    """One shard's."""

    def __init__(self, redis: "Redis", shard: Shard, lanes: Lanes) -> None:
        """`lanes` are the lanes of the same shard."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._key = shard.key("letters")
        self._lanes = lanes

    async def states(self, letters: Sequence[str]) -> list[LetterState | None]:
        """Return how letters stand; None: it is over, or was never one."""
        if not letters:
            return []
        return [packed and _state(packed) for packed in await self._redis.hmget(self._key, letters)]

    async def change(self, changes: Sequence[LetterChange]) -> list[Told]:
        """Write decisions down; only an open letter takes one."""
        return [_told(reply) for reply in await self._lanes.letter(changes)]


class LetterScan:
    """Looks through the topic, newest first."""

    def __init__(self, redis: "Redis", topics: Topics, states: LetterStates) -> None:
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

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return what is alike, the largest groups first."""
        found: dict[str, LetterGroup] = {}
        async for _, row in self._rows("+"):
            if fits(row, wanted):
                found[row.fingerprint] = _joined(found.get(row.fingerprint), row)
        return sorted(found.values(), key=lambda one: (-one.letters, one.fingerprint))

    async def record(self, letter: str) -> DeadLetter | None:
        """Return one whole; None: it is not known."""
        (state,) = await self._states.states([letter])
        if state is not None and state.entry:
            entries = await self._redis.xrange(self._topics.letters, min=state.entry, max=state.entry)
            return _read(entries[0][1]) if entries else None
        return await self._by_time(letter)

    async def became(self, letter: str) -> Became | None:
        """Return what became of one that is over; None: that is no longer told."""
        told = (await self._over()).get(letter)
        if told is None or told["status"] not in FINAL:
            return None
        return Became(
            status=LetterStatus(told["status"]),
            by=told.get("by"),
            reason=told.get("reason"),
            replay=told.get("replay"),
        )

    async def _by_time(self, letter: str) -> DeadLetter | None:
        """Look where a letter of this id must lie: ids begin with their time."""
        made_ms = _milliseconds(letter)
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
        over: dict[str, dict[str, Any]] | None = None
        for _ in range(MOST_LOOKED // CHUNK):
            entries = await self._redis.xrevrange(self._topics.letters, max=at, count=CHUNK)
            found = [(text(entry), record) for entry, fields in entries if (record := _read(fields)) is not None]
            states = await self._states.states([record.identity.dl_id for _, record in found])
            if over is None and None in states:
                over = await self._over()
            for (entry, record), state in zip(found, states, strict=True):
                yield entry, standing(row_of(record), state, (over or {}).get(record.identity.dl_id))
            if len(entries) < CHUNK:
                return
            at = f"({text(entries[-1][0])}"

    async def _over(self) -> dict[str, dict[str, Any]]:
        """Read from the newest lifecycle events what became of letters."""
        found: dict[str, dict[str, Any]] = {}
        at, mark = "+", f'"type":"{CHANGED}"'.encode()
        for _ in range(MOST_EVENTS // CHUNK):
            entries = await self._redis.xrevrange(self._topics.events, max=at, count=CHUNK)
            for _, fields in entries:
                if mark in fields.get(FIELD.encode(), b""):
                    data = json.loads(fields[FIELD.encode()])["data"]
                    found.setdefault(data["letter"], data)
            if len(entries) < CHUNK:
                break
            at = f"({text(entries[-1][0])}"
        return found


def _read(fields: dict[bytes, bytes]) -> DeadLetter | None:
    """Read one entry; what somebody else wrote there is no letter."""
    try:
        return _event(fields.get(FIELD.encode(), b"")).data
    except msgspec.DecodeError:
        return None


def row_of(record: DeadLetter) -> LetterRow:
    """Return a letter as it is listed, open as it was written."""
    identity, operation, failure = record.identity, record.operation, record.failure
    return LetterRow(
        letter=identity.dl_id,
        status=LetterStatus.OPEN,
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


def standing(row: LetterRow, state: LetterState | None, over: dict[str, Any] | None = None) -> LetterRow:
    """Return a row with how its letter stands: what the queue keeps is right, `over` tells of what it has forgotten."""
    if state is not None:
        return replace(row, status=state.status, effect=state.effect, decided_by=state.by, replay=state.replay)
    told = LetterStatus(over["status"]) if over else LetterStatus.CLOSED
    status = told if told not in {LetterStatus.OPEN, LetterStatus.REPLAYING} else LetterStatus.CLOSED
    if over is None:
        return replace(row, status=status)
    return replace(row, status=status, decided_by=over.get("by"), reason=over.get("reason"), replay=over.get("replay"))


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


def _milliseconds(ulid: str) -> int | None:
    """Read the time in an id of ours (a ULID: ten characters of Crockford's base 32)."""
    if len(ulid) != 26 or set(ulid) - set(_BASE32):
        return None
    return sum(_BASE32.index(character) << 5 * place for place, character in enumerate(reversed(ulid[:10])))

"""The events of one call, told and still to come: the journal knows what was, the topic what comes, each event is told once, in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from gateway.journal.calls import Calls
from gateway.journal.database import Away
from gateway.journal.rows import Row, read
from gateway.policy.timeline import sentence
from schemas.lifecycle import TERMINAL
from schemas.moment import moment, stamp

LOOK_EVERY_S = 0.5
"""Between looks into the journal: it finds what was told before we listened."""

GAP_S = 3.0
"""How long an event waits for those before it; the journal may never have had them."""

MOST = 500
"""Followers of one process."""

_UNBOUNDED = 1 << 30
_decode = msgspec.json.decode


class Crowded(Exception):  # noqa: N818 - it names a situation, not an error of ours
    """As many follow as may."""


class Tail(Protocol):
    """What comes from now on."""

    def follow(self, call: str) -> AbstractAsyncContextManager["asyncio.Queue[bytes]"]:
        """Give a queue that is filled with the events of a call."""


@dataclass(slots=True)
class _Line:
    """What was heard of a call, in its order."""

    next_seq: int = 1
    told: set[str] = field(default_factory=set)
    waiting: dict[str, Row] = field(default_factory=dict)
    gap_since_s: float | None = None

    def hear(self, event: Row) -> None:
        if event["id"] not in self.told:
            self.waiting.setdefault(event["id"], event)

    def ready(self, now_s: float) -> Iterator[Row]:
        """Yield what may be told: what stands next, and all of it once the gap before it has been waited for."""
        late = self.gap_since_s is not None and now_s - self.gap_since_s > GAP_S
        for event in sorted(self.waiting.values(), key=lambda one: (one["seq"] or 0, one["time_us"])):
            if event["seq"] is None or event["seq"] <= self.next_seq or late:
                yield self._tell(event)
        self.gap_since_s = None if not self.waiting else self.gap_since_s or now_s

    def _tell(self, event: Row) -> Row:
        del self.waiting[event["id"]]
        self.told.add(event["id"])
        if event["seq"] is not None:
            self.next_seq = max(self.next_seq, event["seq"] + 1)
        return event


class Following:
    """The use-case; one instance a process."""

    def __init__(self, calls: Calls, tail: Tail, monotonic: Callable[[], float]) -> None:
        """`calls` may be away: then only what comes is told."""
        self._calls = calls
        self._tail = tail
        self._monotonic = monotonic
        self._following = 0

    async def told(self, call: str) -> list[dict[str, Any]]:
        """Return the events of a call so far, as the journal has them; raises `Away`."""
        return [shown(event) for event in await self._calls.events(call)]

    async def events(self, call: str, *, after: int = 0) -> AsyncIterator[dict[str, Any] | None]:
        """Yield each event behind number `after`, until the call has ended; None: nothing happened for a while. Raises `Crowded`."""
        if self._following >= MOST:
            raise Crowded(f"{MOST} requests follow calls already, as many as may")
        self._following += 1
        try:
            async with self._tail.follow(call) as queue:
                line = _Line()
                while True:
                    await self._look(call, line)
                    for event in list(line.ready(self._monotonic())):
                        if (event["seq"] or 0) > after or event["seq"] is None:
                            yield shown(event)
                        if event["data"].get("state") in TERMINAL and event["seq"] is not None:
                            return
                    yield None
                    await self._listen(queue, line)
        finally:
            self._following -= 1

    async def _look(self, call: str, line: _Line) -> None:
        try:
            # A follower that goes away must not tear a connection out of the database's hands.
            for event in await asyncio.shield(self._calls.events(call)):
                line.hear(event)
        except Away:
            return

    async def _listen(self, queue: "asyncio.Queue[bytes]", line: _Line) -> None:
        """Take what came, or wait a moment for it."""
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                _heard(await queue.get(), line)
        except TimeoutError:
            return
        while not queue.empty():
            _heard(queue.get_nowait(), line)


def _heard(raw: bytes, line: _Line) -> None:
    try:
        event = read(raw, most_bytes=_UNBOUNDED).event
    except ValueError:
        return
    if event is not None:
        line.hear({**event, "data": _decode(event["data"])})


def shown(event: Row) -> dict[str, Any]:
    """Return an event as it is shown: with its moment as text, and a sentence for people."""
    data = event["data"]
    return {
        "id": event["id"],
        "seq": event["seq"],
        "type": event["type"],
        "time": stamp(moment(event["time_us"])),
        "text": sentence(event["type"], data),
        "data": data,
    }

"""What Redis keeps of letters that are over, until it is forgotten; and which files anything in Redis still names."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from redis.asyncio import Redis

from gateway.lanes.letters import LettersKnown
from gateway.lanes.queue import Lanes
from gateway.lanes.replies import text
from schemas.topics import FIELD, GROUP, Topics

CHUNK = 50
"""Letters that are read at once; they are long."""

TOGETHER = 500
"""Letters that are asked about at once."""

_FILE = re.compile(rb"[A-Za-z0-9_-]{1,64}\.[a-z][a-z_.]{0,63}\.sealed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long what is over is kept, seconds."""

    keep_s: float
    wait_s: float
    """At most so long for the sake of another group."""


class LetterShelf(LettersKnown):
    """One shard's."""

    def __init__(self, redis: "Redis", topics: Topics, lanes: Lanes, terms: Terms) -> None:
        """`lanes` are the lanes of the same shard."""
        super().__init__(redis, lanes.shard)
        self._topics = topics
        self._lanes = lanes
        self._terms = terms

    @property
    def parts(self) -> tuple["LetterShelf"]:
        """Itself: one shard's has no others."""
        return (self,)

    async def forget(self, *, skip: int, most: int) -> tuple[int, list[str]]:
        """Forget letters that were over long enough: how many were looked at, and which are gone; see `forget.lua`."""
        keep_us, wait_us = (int(seconds * 1_000_000) for seconds in (self._terms.keep_s, self._terms.wait_s))
        looked, gone = await self._lanes.forget([GROUP, keep_us, wait_us, skip, most])
        return looked, [text(letter) for letter in gone]

    async def unknown(self, letters: Collection[str]) -> set[str]:
        """Return those of which nothing is kept: they are neither open nor remembered to be over."""
        ids, found = list(letters), set()
        for at in range(0, len(ids), TOGETHER):
            some = ids[at : at + TOGETHER]
            states, ends = await self.states(some), await self.over(some)
            found |= {
                one for one, state, over in zip(some, states, ends, strict=True) if state is None and over is None
            }
        return found

    async def named(self, files: Collection[str]) -> set[str]:
        """Return those that a letter of the topic or a replay names. Reads the whole topic: to be asked rarely."""
        found: set[str] = set()
        for packed in await self._redis.hvals(self._shard.key("replays")):
            found |= _named(packed)
        at = "-"
        while entries := await self._redis.xrange(self._topics.letters, min=at, count=CHUNK):
            for _, fields in entries:
                found |= _named(fields.get(FIELD.encode(), b""))
            at = f"({text(entries[-1][0])}"
        return found & set(files)


def _named(raw: bytes) -> set[str]:
    return {name.decode() for name in _FILE.findall(raw)}

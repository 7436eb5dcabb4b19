"""Findings in Redis: one record a difference, whoever saw it and however often; Python's side of `finding.lua` and `judge.lua`."""

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from gateway.lanes.overview import SCAN
from gateway.lanes.replies import text
from gateway.lanes.scripts import load
from schemas.contracts.finding import Finding
from schemas.contracts.sighting import FindingState, SeenFinding, Sighting
from schemas.topics import Shard, Topics

MOST = 2000
"""Findings that are kept; those that were not seen longest are forgotten first. Decisions about them are in files."""

_pack = msgspec.msgpack.Encoder().encode
_finding = msgspec.json.Decoder(Finding).decode


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    finding: str
    tool: str
    first_us: int
    last_us: int
    count: int
    call: str
    state: FindingState


_kept = msgspec.msgpack.Decoder(_Kept).decode


class Findings:
    """One shard's."""

    def __init__(self, redis: "Redis", topics: Topics, shard: Shard, *, most: int = MOST) -> None:
        """`most` is how many are kept."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._keys = [shard.tag, topics.events]
        self._hash = shard.key("findings")
        self._most = most

    async def note(self, sightings: Sequence[Sighting]) -> list[bool]:
        """Write down what was seen; true for each that nobody had seen before."""
        if not sightings:
            return []
        reply = await self._call("finding", [_pack(sightings), self._most])
        return [text(one) == "new" for one in reply]

    async def seen(self) -> list[SeenFinding]:
        """List what is kept, newest sighting first."""
        found: dict[bytes, bytes] = {}
        cursor = None
        while cursor != 0:
            cursor, some = await self._redis.hscan(self._hash, cursor=cursor or 0, count=SCAN)
            found.update(some)
        return sorted((_told(_kept(packed)) for packed in found.values()), key=lambda one: (-one.last_us, one.tool))

    async def judge(self, fingerprint: str, state: FindingState, event: str) -> bool:
        """Write down a decision; false when it is not known or was decided so before."""
        return text(await self._call("judge", [fingerprint, state, event])) == "judged"

    async def _call(self, name: str, arguments: list[Any]) -> Any:
        script = load(name)
        try:
            return await self._redis.evalsha(script.sha, len(self._keys), *self._keys, *arguments)
        except NoScriptError:
            return await self._redis.eval(script.source, len(self._keys), *self._keys, *arguments)


def _told(kept: _Kept) -> SeenFinding:
    return SeenFinding(
        finding=_finding(kept.finding),
        tool=kept.tool,
        first_us=kept.first_us,
        last_us=kept.last_us,
        count=kept.count,
        call=kept.call,
        state=kept.state,
    )

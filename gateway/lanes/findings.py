"""Findings in Redis: one record a difference, whoever saw it and however often; Python's side of `finding.lua` and `judge.lua`."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from gateway.lanes import scripts
from gateway.lanes.overview import SCAN
from gateway.lanes.replies import text
from schemas.contracts.finding import Finding
from schemas.contracts.sighting import FindingState, Noted, SeenFinding, Sighting
from schemas.topics import Shard, Topics

MOST = 2000
"""Findings that are kept; those that were not seen longest are forgotten first. Decisions about them are in files."""

LOUD = 100
"""New findings of one tool that are told in an hour: a vendor whose answers never look the same must not flood anybody."""

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

    def __init__(self, redis: "Redis", topics: Topics, shard: Shard, *, most: int = MOST, loud: int = LOUD) -> None:
        """`most` is how many are kept, `loud` how many new ones of a tool are told in an hour."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._keys = [shard.tag, topics.events]
        self._alerts = topics.alerts
        self._hash = shard.key("findings")
        self._most = most
        self._loud = loud

    async def note(self, sightings: Sequence[Sighting]) -> list[Noted]:
        """Write down what was seen, and tell what nobody had seen before."""
        if not sightings:
            return []
        keys = [*self._keys, self._alerts]
        reply = await self._call("finding", keys, [_pack(sightings), self._most, self._loud])
        return [cast("Noted", text(one)) for one in reply]

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
        return text(await self._call("judge", self._keys, [fingerprint, state, event])) == "judged"

    async def _call(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        return await scripts.run(self._redis, name, keys, arguments)


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

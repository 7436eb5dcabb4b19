"""The alerts of all processes, in Redis: one record a pattern; Python's side of `alert.lua` and `alert_end.lua`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from redis.asyncio import Redis

from gateway.lanes.overview import SCAN
from gateway.lanes.replies import text
from gateway.lanes.scripts import run
from gateway.ports import Ambient
from gateway.ports.alerts import Observation, Verdict
from schemas.alert import AlertRecord
from schemas.moment import stamp
from schemas.topics import Shard, Topics

AT_ONCE: Final = 200
"""Observations of one script call."""

_pack = msgspec.msgpack.Encoder().encode
_record = msgspec.msgpack.Decoder(AlertRecord).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the store holds alerts against."""

    most_per_hour: int
    damp_s: float = 3600.0
    """Who comes back within this time must be quiet for twice as long."""
    keep_s: float = 86_400.0
    """How long a resolved alert can be looked at."""


class AlertBook:
    """One shard's."""

    def __init__(self, redis: "Redis", topics: Topics, shard: Shard, bounds: Bounds, ambient: Ambient) -> None:
        """`ambient.worker` is who observes."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._keys = [shard.tag, topics.alerts]
        self._hash = shard.key("alerts")
        self._bounds = bounds
        self._ambient = ambient

    async def observe(self, turn: str, seen: Sequence[Observation]) -> list[Verdict]:
        """Bring the alerts up to date; all `late` when the turn is over."""
        bounds = self._bounds
        answers: list[Verdict] = []
        for at in range(0, len(seen), AT_ONCE):
            some = seen[at : at + AT_ONCE]
            terms = {
                "most": bounds.most_per_hour,
                "at": stamp(self._ambient.now()),
                "damp_us": int(bounds.damp_s * 1e6),
                "keep_us": int(bounds.keep_s * 1e6),
            }
            reply = await self._call("alert", [turn, self._ambient.worker, _pack(terms), _pack(some)])
            told = [cast("Verdict", text(one)) for one in reply]
            answers += ["late"] * len(some) if told == ["late"] else told
        return answers

    async def ls(self) -> list[AlertRecord]:
        """List every record."""
        found: dict[bytes, bytes] = {}
        cursor = None
        while cursor != 0:
            cursor, some = await self._redis.hscan(self._hash, cursor=cursor or 0, count=SCAN)
            found.update(some)
        return [_record(packed) for packed in found.values()]

    async def end(self, record: AlertRecord, *, by: str, reason: str) -> tuple[Verdict | None, AlertRecord | None]:
        """Resolve one on a person's word: `resolved`, or None with the record when it was resolved before, without when it is gone."""
        arguments = [record.key, record.alert, stamp(self._ambient.now()), by, reason]
        kind, *rest = await self._call("alert_end", arguments)
        found = _record(rest[0]) if rest else None
        return ("resolved" if text(kind) == "resolved" else None), found

    async def _call(self, name: str, arguments: list[Any]) -> Any:
        return await run(self._redis, name, self._keys, arguments)

"""Credentials in Redis: Python's side of the `token_*` scripts, and the gates that hold the calls of those that need a person.

The script that changes a state also tells of it; the gate follows, and `agree` mends what a crash left between the two.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol, cast

import msgspec
import structlog
from redis.asyncio import Redis

from connectors.auth.freshness import SHUT, TokenState
from connectors.auth.token_store import Began, Begin, Fall, Fresh, Kept
from gateway.lanes import scripts
from gateway.lanes.queue import PASSING
from gateway.lanes.replies import text
from schemas.lifecycle import HoldReason
from schemas.moment import stamp
from schemas.topics import Shard, Topics

log = structlog.get_logger()

WAIT_S: Final = 0.2
"""Pause before a script is sent again while Redis is away: an answer of the vendor may hang on it."""

_pack = msgspec.msgpack.Encoder().encode


class Gates(Protocol):
    """What holds lanes."""

    async def close(self, gate: str, reason: HoldReason, *, for_us: int, detail: str) -> int | None:
        """Close a gate; 0 until it is opened."""

    async def open(self, gate: str, reason: HoldReason) -> None:
        """Open a gate that was closed for this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What the events of a change need: a time for people and an id."""

    now: Callable[[], datetime]
    new_id: Callable[[], str]


class Tokens:
    """One shard's credentials; implements `connectors.auth.token_store.TokenStore`."""

    def __init__(self, redis: "Redis", topics: Topics, shard: Shard, *, gates: Gates, telling: Telling) -> None:
        """`gates` are the lanes of the same shard."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._shard = shard
        self._keys = [shard.tag, topics.events, topics.alerts]
        self._gates = gates
        self._telling = telling

    async def read(self, name: str) -> Kept:
        """Look at one; nothing is known of one that nobody used yet."""
        while True:
            try:
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.time()
                    pipe.hgetall(self._shard.key(f"token:{name}"))
                    (seconds, us), fields = await pipe.execute()
            except PASSING:
                await asyncio.sleep(WAIT_S)
            else:
                return _kept(seconds * 1_000_000 + us, fields)

    async def begin(self, name: str, begin: Begin) -> Began:
        """Take the lease; see `token_begin.lua`."""
        arguments = [
            begin.knows,
            begin.holder,
            begin.lease_us,
            begin.tries_in_doubt,
            int(begin.spare),
            int(begin.force),
        ]
        answer, now, flat = await self._call("token_begin", name, arguments)
        kept = _kept(now, dict(zip(flat[::2], flat[1::2], strict=True)))
        if text(answer) == "shut":
            await self._follow(name, kept.state, kept.detail)
        return Began(cast("Any", text(answer)), kept)

    async def commit(self, name: str, fence: int, fresh: Fresh) -> bool:
        """Keep a new version; see `token_commit.lua`."""
        kept = text(await self._call("token_commit", name, [fence, *_packed(fresh)])) == "kept"
        if kept:
            await self._follow(name, TokenState.ACTIVE, "")
        return kept

    async def fail(self, name: str, fence: int, fall: Fall) -> bool:
        """Give the lease back; see `token_fail.lua`."""
        noted = text(await self._call("token_fail", name, [fence, _pack(fall)])) == "noted"
        if noted:
            kept = await self.read(name)
            if kept.state in SHUT:
                _tell(name, kept)
                await self._follow(name, kept.state, kept.detail)
        return noted

    async def refuse(
        self, name: str, version: int, *, wait_us: int, soon_us: int
    ) -> Literal["moved", "stale", "waits"]:
        """Note a refused version; see `token_refuse.lua`."""
        answer = text(await self._call("token_refuse", name, [version, wait_us, soon_us]))
        return cast("Literal['moved', 'stale', 'waits']", answer)

    async def put(self, name: str, fresh: Fresh, state: TokenState) -> bool:
        """Replace what is there; false when somebody else did meanwhile."""
        done = text(await self._call("token_put", name, [state, *_packed(fresh)])) == "kept"
        if done:
            await self._follow(name, state, fresh.detail)
        return done

    async def agree(self, names: Sequence[str]) -> None:
        """Make the gates say what the credentials say: a crash may have come between the two."""
        for name in names:
            kept = await self.read(name)
            packed = await self._redis.hget(self._shard.key("gates"), f"@{name}")
            closed = bool(packed) and HoldReason.NEEDS_CONSENT in msgspec.msgpack.decode(packed)
            if closed != (kept.state in SHUT) and kept.state is not TokenState.REFRESHING:
                await self._follow(name, kept.state, kept.detail)

    async def _follow(self, name: str, state: TokenState, detail: str) -> None:
        """Close or open the gate of one connection, and of no other."""
        if state in SHUT:
            said = detail or "nobody has consented yet"
            await self._insist(lambda: self._gates.close(f"@{name}", HoldReason.NEEDS_CONSENT, for_us=0, detail=said))
        else:
            await self._insist(lambda: self._gates.open(f"@{name}", HoldReason.NEEDS_CONSENT))

    async def _call(self, verb: str, name: str, arguments: list[Any]) -> Any:
        """Send an idempotent script until it is answered."""
        note = _pack({"id": self._telling.new_id(), "time": stamp(self._telling.now())})
        return await self._insist(lambda: self._send(verb, [name, *arguments, note]))

    async def _send(self, verb: str, arguments: list[Any]) -> Any:
        return await scripts.run(self._redis, verb, self._keys, arguments)

    async def _insist(self, act: Callable[[], Any]) -> Any:
        while True:
            try:
                return await act()
            except PASSING:
                await asyncio.sleep(WAIT_S)


def _tell(name: str, kept: Kept) -> None:
    """Log what the script has published as an alert."""
    if kept.state is TokenState.NEEDS_CONSENT:
        log.error("token.needs_consent", connection=name, detail=kept.detail)
    else:
        log.error("token.config_error", connection=name, detail=kept.detail)


def _packed(fresh: Fresh) -> tuple[bytes, bytes]:
    """Part what the script reads from what it only keeps; the script's msgpack knows no bytes."""
    fields = {one.name: getattr(fresh, one.name) for one in dataclasses.fields(fresh)}
    return fields.pop("sealed"), _pack(fields)


_NUMBERS: Final = (
    "version", "fence", "issued_us", "expires_us", "retry_us", "lease_us", "changed_us", "failures", "doubts", "refusals"
)  # fmt: skip


def _kept(now_us: int, fields: dict[bytes, bytes]) -> Kept:
    told = {text(name): value for name, value in fields.items()}
    numbers = {name: int(told.get(name, b"0")) for name in _NUMBERS}
    return Kept(
        now_us=now_us,
        state=TokenState(text(told.get("state", b"active"))),
        sealed=told.get("sealed", b""),
        key_id=text(told.get("key_id", b"")),
        stale=told.get("stale") == b"1",
        refused=told.get("refused") == b"1",
        scope=text(told.get("scope", b"")),
        detail=text(told.get("detail", b"")),
        **numbers,
    )

"""The lanes in Redis: Python's side of the scripts. Every write is idempotent, so a lost reply is simply sent again.

Never decides anything: what to admit, how to end a claim and when to try again comes from outside.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.lanes.batch import Batcher, Load
from gateway.lanes.scripts import load
from gateway.ports import (
    Admission,
    Admitted,
    Answer,
    Claim,
    Claims,
    Conflict,
    Duplicate,
    Ended,
    Full,
    Known,
    Live,
    Mark,
    Refusal,
    Run,
    Seen,
    Settled,
    Settlement,
)
from schemas.topics import GROUP, Shard, Topics

log = structlog.get_logger()
T = TypeVar("T")

PASSING = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, OutOfMemoryError, ReadOnlyError)
"""Redis is away, loading, full or being replaced: worth waiting for, and no script was run in part."""

MISFIT = "MISFIT"
"""How a script says that a key of ours is of another type."""

MEND_S = 1.0
"""Pause before it is tried again."""

_ANSWERS: dict[str, type[Admitted | Duplicate | Conflict | Full | Seen]] = {
    "admitted": Admitted,
    "duplicate": Duplicate,
    "conflict": Conflict,
    "full": Full,
    "seen": Seen,
}
_pack = msgspec.msgpack.Encoder().encode
_run = msgspec.msgpack.Decoder(Run).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The bounds of one script call, and the pause between tries while Redis is away."""

    items: int
    size_bytes: int
    wait_s: float

    def load(self, weigh: Callable[[T], int]) -> Load[T]:
        """Return what one flight may carry."""
        return Load(items=self.items, size_bytes=self.size_bytes, weigh=weigh)


class Lanes:
    """One shard's lanes."""

    def __init__(self, redis: "Redis", topics: Topics, *, shard: Shard, terms: "Terms") -> None:
        """One shard of the Redis behind `redis`."""
        self._redis = redis
        self._topics = topics
        self.shard = shard
        self._terms = terms
        self._enqueue: Batcher[Admission, Answer] = Batcher(self._send_admissions, terms.load(_weight_in))
        self._mark: Batcher[Mark, bool] = Batcher(self._send_marks, terms.load(lambda _: 64))
        self._settle: Batcher[Settlement, Settled] = Batcher(self._send_settlements, terms.load(_weight_out))

    async def enqueue(self, admissions: Sequence[Admission]) -> list[Answer]:
        """Store calls and acknowledge their sources; answers in the order given."""
        return [answer for part in self._parts(admissions, _weight_in) for answer in await self._send_admissions(part)]

    async def _send_admissions(self, admissions: Sequence[Admission]) -> list[Answer]:
        keys = [self.shard.tag, self._topics.calls, self._topics.results, self._topics.events]
        replies = await self._insist("enqueue", keys, [GROUP, _pack(admissions)])
        return [_ANSWERS[_text(kind)](_value(value)) for kind, value in replies]  # type: ignore[arg-type]

    async def admit(self, admission: Admission) -> Answer:
        """Store one call together with those that arrive at the same time."""
        return await self._enqueue.submit(admission)

    async def refuse(self, refusals: Sequence[Refusal]) -> list[str]:
        """End events that never reach a lane."""
        topics = self._topics
        keys = [self.shard.tag, topics.calls, topics.results, topics.events, topics.letters]
        parts = self._parts(refusals, _weight_refused)
        return [_text(reply) for part in parts for reply in await self._insist("refuse", keys, [GROUP, _pack(part)])]

    async def claim(self, worker: str, sequence: int, *, room: int, grace_us: int) -> Claims:
        """Take up to `room` calls; the same sequence after a lost reply gives the same claims."""
        kind, now, rest = await self._call(
            "claim", [self.shard.tag], [worker, sequence, min(room, self._terms.items), grace_us]
        )
        if _text(kind) == "claimed":
            return Claims(now_us=now, claims=_claims(now, rest))
        return Claims(now_us=now, due_us=rest if rest >= 0 else None)

    async def reap(self, *, most: int, lease_us: int, gap_us: int, hold_us: int) -> tuple[Claim, ...]:
        """Take over claims whose lease ended; after a gap of `gap_us` without reaping nothing is for `hold_us`."""
        now, rest = await self._call("reap", [self.shard.tag], [most, lease_us, gap_us, hold_us])
        return _claims(now, rest)

    async def mark(self, mark: Mark) -> bool:
        """Tell whether the claim may begin to send."""
        return await self._mark.submit(mark)

    async def settle(self, settlement: Settlement) -> Settled:
        """End or defer a claim; waits for Redis as long as it takes."""
        return await self._settle.submit(settlement)

    async def seize(self, call: str, *, lease_us: int = 10_000_000) -> Claim | Literal["busy", "gone"]:
        """Take one waiting call out of its lane."""
        kind, *rest = await self._call("seize", [self.shard.tag], [call, lease_us])
        if _text(kind) == "seized":
            return _claims(rest[0], rest[1])[0]
        return "busy" if _text(kind) == "busy" else "gone"

    async def inspect(self, call: str) -> Known:
        """Look at one call."""
        kind, *rest = await self._call("inspect", [self.shard.tag], [call])
        match _text(kind):
            case "live":
                now, run, body, position, due = rest
                place, due_us = (position if position >= 0 else None), (due if due >= 0 else None)
                return Live(now_us=now, run=_run(run), body=body, position=place, due_us=due_us)
            case "ended":
                return Ended(event=rest[0], attempts=rest[1])
            case _:
                return None

    async def trim(self, stream: str, own: str, *, keep_us: int, wait_us: int) -> int:
        """Forget what every group has finished with; `own` is our group there, or empty."""
        return cast("int", await self._call("trim", [stream], [own, keep_us, wait_us]))

    async def retire(self, stream: str, consumer: str) -> bool:
        """Forget a consumer of ours that holds nothing."""
        return bool(await self._call("retire", [stream], [GROUP, consumer]))

    async def stats(self) -> dict[str, int]:
        """Count events by fate, and the calls that are live."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self.shard.key("stats"))
            pipe.hlen(self.shard.key("runs"))
            counts, live = await pipe.execute()
        return {**{_text(name): int(count) for name, count in counts.items()}, "live": live}

    def _parts(self, items: Sequence[T], weigh: Callable[[T], int]) -> Iterator[Sequence[T]]:
        load = self._terms.load(weigh)
        while items:
            count = load.fitting(items)
            yield items[:count]
            items = items[count:]

    async def _send_marks(self, marks: Sequence[Mark]) -> list[bool]:
        items = _pack([msgspec.to_builtins(mark) for mark in marks])
        return [_text(reply) == "marked" for reply in await self._insist("mark", [self.shard.tag], [items])]

    async def _send_settlements(self, settlements: Sequence[Settlement]) -> list[Settled]:
        topics = self._topics
        keys = [self.shard.tag, topics.results, topics.events, topics.letters]
        replies = await self._insist("settle", keys, [_pack(settlements)])
        return [cast("Settled", _text(reply)) for reply in replies]

    async def _insist(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        """Send an idempotent write until Redis has answered it: there is nowhere else the work could go."""
        while True:
            try:
                return await self._call(name, keys, arguments)
            except PASSING:
                await asyncio.sleep(self._terms.wait_s)
            except ResponseError as error:
                if MISFIT not in str(error):
                    raise
                # A key of ours holds something else. Nothing was written; it goes on when somebody has mended it.
                log.error("redis.misfit", script=name, error=str(error))  # noqa: TRY400 - the message is the story
                await asyncio.sleep(MEND_S)

    async def _call(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        script = load(name)
        try:
            return await self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._redis.eval(script.source, len(keys), *keys, *arguments)


def _weight_in(admission: Admission) -> int:
    return len(admission.body) + len(admission.event)


def _weight_out(settlement: Settlement) -> int:
    told = len(settlement.result or "") + len(settlement.letter or "") + len(settlement.attempts_json)
    return told + sum(map(len, settlement.events))


def _weight_refused(refusal: Refusal) -> int:
    return len(refusal.result or "") + len(refusal.letter or "") + sum(map(len, refusal.events))


def _claims(now: int, flat: list[Any]) -> tuple[Claim, ...]:
    return tuple(
        Claim(
            id=_text(flat[at]),
            fence=flat[at + 1],
            lease_us=int(flat[at + 2]),
            claimed_us=now,
            run=_run(flat[at + 3]),
            body=flat[at + 4],
        )
        for at in range(0, len(flat), 5)
    )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _value(value: bytes | str | int) -> str | int:
    return value if isinstance(value, int) else _text(value)

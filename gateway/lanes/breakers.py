"""What breakers of all processes share, in Redis: standings, evidence, the place of a probe, and the gates they close.

Decides nothing. Redis counts in microseconds of its own clock; here they become seconds of this process's, by their distance.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from connectors.breaking.breaker import Move, Permit
from connectors.breaking.breakers import Changed, told
from connectors.breaking.standing import Mode, Standing, State, half_opened
from connectors.breaking.store import Delta, FleetSums, Probed, Shared, StoreAwayError
from connectors.breaking.terms import BUCKETS
from connectors.breaking.window import Counts
from gateway.lanes import scripts
from gateway.lanes.queue import PASSING
from gateway.lanes.replies import text
from schemas.cloudevent import CloudEvent, publishable
from schemas.moment import moment, stamp
from schemas.topics import Shard, Topics

log = structlog.get_logger()

CHANGED = "breaker.changed"
"""Type of the event that tells of a change of state."""

_pack = msgspec.msgpack.Encoder().encode

Heard = Callable[[str, Shared], None]


class Record(msgspec.Struct, kw_only=True):
    """A standing as the scripts keep it."""

    state: State
    generation: int
    revision: int
    since_us: int
    until_us: int
    opens: int
    ramp: int
    ramp_since_us: int
    mode: Mode
    mode_until_us: int
    owner: str
    reason: str
    gates: list[str]


class _News(msgspec.Struct):
    key: str
    now_us: int
    standing: Record


_record = msgspec.msgpack.Decoder(Record).decode
_news = msgspec.msgpack.Decoder(_News).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the store is told of its process."""

    worker: str
    clock: Callable[[], float]
    """Epoch seconds; the same clock as that of the `Breakers`."""
    gates: Callable[[str], Sequence[str]]
    """Names the gates of a breaker's origin by the breaker's key."""
    new_id: Callable[[], str]


class RedisBreakers:
    """One shard's `BreakerStore`."""

    def __init__(self, redis: "Redis", topics: Topics, shard: Shard, around: Around) -> None:
        """`redis` may be slow to answer, but not for ever."""
        self._redis: Any = redis  # the client's types know keys of one kind only
        self._topics = topics
        self._shard = shard
        self._worker = around.worker
        self._clock = around.clock
        self._gates = around.gates
        self._new_id = around.new_id

    async def look(self) -> Mapping[str, Shared]:
        """Read how all breakers stand."""
        with _told_away():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.hgetall(self._shard.key("standings"))
                (seconds, us), kept = await pipe.execute()
            now_us = seconds * 1_000_000 + us
            return {text(key): self._shared(now_us, packed) for key, packed in kept.items()}

    async def move(self, key: str, move: Move) -> tuple[bool, Shared]:
        """Change a standing, with its gates and its event, if nobody has before."""
        now, standing = self._clock(), move.standing
        steps = move.revision is not None
        event = "" if steps else self._event(key, standing, move.before)
        revision = -1 if move.revision is None else move.revision
        arguments = [key, move.expected, revision, _pack(self._item(key, standing, now)), event]
        kind, now_us, packed = await self._call("breaker_move", [self._topics.events], arguments)
        return text(kind) == "moved", self._shared(now_us, packed)

    async def probe(self, permit: Permit, lease_s: float) -> Probed:
        """Take the fleet's one place for a probe."""
        begun = half_opened(Standing(state=State.OPEN, generation=permit.generation, since=self._clock()))
        event = self._event(permit.key, begun, State.OPEN)
        arguments = [permit.key, permit.generation, self._worker, permit.token, int(lease_s * 1_000_000), event]
        kind, now_us, packed = await self._call("breaker_probe", [self._topics.events], arguments)
        said = text(kind)
        return Probed(granted=said in {"begun", "granted"}, begun=said == "begun", shared=self._shared(now_us, packed))

    async def flush(self, sequence: int, deltas: Sequence[Delta]) -> Sequence[FleetSums]:
        """Add evidence and return the sums."""
        items = [_delta(delta) for delta in deltas]
        now_us, answers = await self._call("breaker_flush", [], [self._worker, sequence, BUCKETS, _pack(items)])
        return [
            FleetSums(shared=self._shared(now_us, packed), ages=_ages(flat), row=row, successes=successes)
            for packed, row, successes, flat in answers
        ]

    @property
    def channel(self) -> str:
        """Where changes are told."""
        return self._shard.key("breakers")

    async def listen(self, redis: "Redis", heard: Heard, *, wait_s: float, also: Sequence[str] = ()) -> None:
        """Hear of changes until cancelled, `also` on other channels; `redis` has no read timeout, and news may be lost."""
        task = asyncio.current_task()
        while task is None or not task.cancelling():
            try:
                await self._listen(redis, heard, [self.channel, *also])
            except PASSING:
                pass
            except Exception:
                log.exception("breakers.broken")
            await asyncio.sleep(wait_s)

    async def _listen(self, redis: "Redis", heard: Heard, channels: Sequence[str]) -> None:
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(*channels)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    news = _news(message["data"])
                    heard(news.key, Shared(self._standing(news.now_us, news.standing), news.standing.revision))

    def _item(self, key: str, standing: Standing, now: float) -> dict[str, Any]:
        return {
            "state": standing.state,
            "generation": standing.generation,
            "open_us": _left_us(standing.until, now),
            "opens": standing.opens,
            "ramp": standing.ramp,
            "mode": standing.mode,
            "mode_us": _left_us(standing.mode_until, now),
            "owner": standing.owner,
            "reason": standing.reason,
            "detail": detail(standing),
            "gates": list(self._gates(key)),
        }

    def _event(self, key: str, standing: Standing, before: State) -> str:
        data = told(Changed(key=key, standing=standing, before=before))
        now = stamp(moment(int(self._clock() * 1_000_000)))
        return publishable(
            CloudEvent(type=CHANGED, id=self._new_id(), time=now, subject=key.partition("|")[0], data=data)
        )

    def _shared(self, now_us: int, packed: bytes) -> Shared:
        if not packed:
            return Shared(Standing(), 0)
        with _told_away():
            record = _record(packed)
        return Shared(self._standing(now_us, record), record.revision)

    def _standing(self, now_us: int, record: Record) -> Standing:
        now = self._clock()

        def at(us: int) -> float:
            return now + (us - now_us) / 1_000_000

        return Standing(
            state=record.state,
            generation=record.generation,
            since=at(record.since_us),
            until=at(record.until_us) if record.until_us else None,
            opens=record.opens,
            ramp=record.ramp,
            ramp_since=at(record.ramp_since_us),
            mode=record.mode,
            mode_until=at(record.mode_until_us) if record.mode_until_us else None,
            owner=record.owner,
            reason=record.reason,
        )

    async def _call(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        with _told_away():
            return await scripts.run(self._redis, name, [self._shard.tag, *keys], arguments)


def detail(standing: Standing) -> str:
    """Return what those who wait are told."""
    if standing.state is State.CLOSED:
        return "the vendor is well again, and its calls are let through a few at a time"
    by = f" (opened by {standing.owner})" if standing.mode is Mode.OPEN else ""
    return f"the breaker of its origin is open: {standing.reason}{by}"


@contextmanager
def _told_away() -> Iterator[None]:
    """Let what Redis cannot do be an outage: breakers then decide by what their process knows."""
    try:
        yield
    except PASSING as error:
        raise StoreAwayError from error
    except (ResponseError, msgspec.DecodeError) as error:
        log.exception("breakers.broken")
        raise StoreAwayError from error


def _left_us(at: float | None, now: float) -> int:
    """Return how long it is until then, at least a moment; 0 stands for no end."""
    return 0 if at is None else max(1, int((at - now) * 1_000_000))


def _delta(delta: Delta) -> dict[str, Any]:
    return {
        "key": delta.key,
        "generation": delta.generation,
        "window_us": int(delta.window_s * 1_000_000),
        "counts": [[age, *counts] for age, counts in delta.ages.items()],
        "row": delta.row,
        "broken": delta.broken,
        "successes": delta.successes,
        "release": delta.release,
    }


def _ages(flat: Iterable[int]) -> dict[int, Counts]:
    values = iter(flat)
    ages: dict[int, Counts] = {}
    for age, calls, failures, slow in zip(values, values, values, values, strict=True):
        ages[age] = ages.get(age, Counts()).plus(Counts(calls, failures, slow))
    return ages

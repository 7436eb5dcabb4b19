"""The lanes in Redis: Python's side of the scripts. Every write is idempotent, so a lost reply is simply sent again.

Never decides anything: what to admit, how to end a claim and when to try again comes from outside.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from connectors.exchange import Marked
from gateway.lanes import replies, scripts
from gateway.lanes.batch import Batcher, Load
from gateway.lanes.connect import RefusingError
from gateway.lanes.marks import ANY, Copies, Marks
from gateway.lanes.reckoning import MACHINE, Compared, Reckoning, Steady
from gateway.ports import (
    Admission,
    Answer,
    Claim,
    Claims,
    Known,
    LaneState,
    Mark,
    Plan,
    Refusal,
    Settled,
    Settlement,
)
from gateway.ports.letters import LetterChange
from schemas.lifecycle import HoldReason
from schemas.topics import GROUP, Shard, Topics

log = structlog.get_logger()
T = TypeVar("T")

PASSING = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, OutOfMemoryError, ReadOnlyError, RefusingError)
"""Redis is away, loading, full, refusing or being replaced: worth waiting for, and no script was run in part."""

MISFIT = "MISFIT"
"""How a script says that a key of ours is of another type."""

MEND_S = 1.0
"""Pause before it is tried again."""

SHARE_EVERY_US, CLOCKS_TTL_S = 10_000_000, 7 * 86_400

_TOLD_AT = {"claim": 1, "settle": 0}
"""Where an answer tells the time of Redis."""

_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The bounds of one script call, and the pause between tries while Redis is away."""

    items: int
    size_bytes: int
    wait_s: float
    most_bytes: int
    """What the calls of a tenant may take together."""
    group: str = GROUP
    """Where entries of the bus are acknowledged; empty: on another bus, and their offsets are marked here."""
    copies: Copies = ANY
    steady: Steady = MACHINE

    def load(self, weigh: Callable[[T], int]) -> Load[T]:
        """Return what one flight may carry."""
        return Load(items=self.items, size_bytes=self.size_bytes, weigh=weigh)


class Lanes:
    """One shard's lanes."""

    def __init__(
        self, redis: "Redis", topics: Topics, *, shard: Shard, terms: "Terms", plans: Callable[[], Mapping[str, Plan]]
    ) -> None:
        """One shard of the Redis behind `redis`; `plans` says what the calls of a tool take, by `connector|operation`."""
        self._redis = redis
        self._topics = topics
        self.shard = shard
        self._terms = terms
        self._plans = plans
        self.moved: Callable[[int, int | None], None] = lambda _now_us, _due_us: None
        """Told after settlements what time it is and when there may be something to claim; whoever claims sets it."""
        self._reckoning = Reckoning(shard.tag, terms.steady)
        self._shared_us = -SHARE_EVERY_US
        self._enqueue: Batcher[Admission, Answer] = Batcher(self._send_admissions, terms.load(_weight_in))
        self._marks = Marks(redis, shard, terms.copies)
        self._mark: Batcher[Mark, Marked] = Batcher(self._send_marks, terms.load(lambda _: 64))
        self._settle: Batcher[Settlement, Settled] = Batcher(self._send_settlements, terms.load(_weight_out))

    async def enqueue(self, admissions: Sequence[Admission]) -> list[Answer]:
        """Store calls and acknowledge their sources; answers in the order given."""
        return [answer for part in self._parts(admissions, _weight_in) for answer in await self._send_admissions(part)]

    async def _send_admissions(self, admissions: Sequence[Admission]) -> list[Answer]:
        keys = [self.shard.tag, self._topics.calls, self._topics.results, self._topics.events]
        plans = self._plans()
        offered = {name: plans[name] for name in {_tool(admission) for admission in admissions} if name in plans}
        arguments = [self._terms.group, _pack(admissions), _pack(offered), self._terms.most_bytes]
        return [replies.answer(reply) for reply in await self._insist("enqueue", keys, arguments)]

    async def declare(self) -> None:
        """Make what this process knows of limits the truth: at a start, and when Redis has forgotten."""
        packed: dict[Any, Any] = {name: _pack(plan) for name, plan in self._plans().items()}
        if packed:
            await self._redis.hset(self.shard.key("plans"), mapping=packed)

    async def admit(self, admission: Admission) -> Answer:
        """Store one call together with those that arrive at the same time."""
        return await self._enqueue.submit(admission)

    async def refuse(self, refusals: Sequence[Refusal]) -> list[str]:
        """End events that never reach a lane."""
        topics = self._topics
        keys = [self.shard.tag, topics.calls, topics.results, topics.events, topics.letters]
        parts = self._parts(refusals, _weight_refused)
        group = self._terms.group
        return [
            replies.text(reply) for part in parts for reply in await self._insist("refuse", keys, [group, _pack(part)])
        ]

    async def claim(self, worker: str, sequence: int, *, room: int, grace_us: int, epoch: str = "") -> Claims:
        """Take up to `room` calls; the same sequence after a lost reply gives the same claims; empty `epoch`: any state."""
        arguments = [worker, sequence, min(room, self._terms.items), grace_us, epoch]
        await self._share_clock()
        return replies.claims(await self._paced("claim", [self.shard.tag], arguments, self._reckoning.proven_us))

    async def reap(self, *, most: int, lease_us: int, gap_us: int, hold_us: int) -> tuple[Claim, ...]:
        """Take over claims whose lease ended; after a gap of `gap_us` without reaping nothing is for `hold_us`."""
        return replies.taken(*await self._call("reap", [self.shard.tag], [most, lease_us, gap_us, hold_us]))

    async def overdue(self, *, most: int, lease_us: int) -> tuple[Claim, ...]:
        """Take waiting calls whose deadline has passed, to end them."""
        return replies.taken(*await self._call("overdue", [self.shard.tag], [most, lease_us]))

    async def mark(self, mark: Mark) -> Marked:
        """Tell whether the claim may begin to send."""
        return await self._mark.submit(mark)

    async def settle(self, settlement: Settlement) -> Settled:
        """End or defer a claim; waits for Redis as long as it takes."""
        return await self._settle.submit(settlement)

    async def seize(self, call: str, *, lease_us: int = 10_000_000) -> Claim | Literal["busy", "gone"]:
        """Take one waiting call out of its lane."""
        kind, *rest = await self._call("seize", [self.shard.tag], [call, lease_us])
        if replies.text(kind) == "seized":
            return replies.taken(*rest)[0]
        return "busy" if replies.text(kind) == "busy" else "gone"

    async def inspect(self, call: str) -> Known:
        """Look at one call."""
        return replies.known(await self._call("inspect", [self.shard.tag], [call]))

    async def lanes(self, *, cursor: int = 0, most: int = 1000) -> tuple[int, list[str]]:
        """List some lanes with live calls, and the cursor of the next ones; 0 when there are none."""
        following, found = await self._redis.hscan(self.shard.key("held"), cursor=cursor, count=most)
        return int(following), [replies.text(lane) for lane in found]

    async def survey(self, lanes: Sequence[str]) -> tuple[int, list[LaneState]]:
        """Look at lanes: the time of the look, and how each stands."""
        now, found = await self._call("survey", [self.shard.tag], [_pack(lanes)])
        return now, [replies.lane_state(reply) for reply in found]

    async def close(self, gate: str, reason: HoldReason, *, for_us: int, detail: str, most: int = 0) -> int | None:
        """Close a gate for `for_us`, 0 until it is opened; returns when it opens by itself.

        With a `most` it then lets only so many calls through at once, until it is opened.
        """
        _, until = await self._call("gate", [self.shard.tag], [gate, reason, for_us, detail, most])
        return until or None

    async def hold(self, gate: str, reason: HoldReason, detail: str) -> None:
        """Close a gate until somebody opens it; does not return before it is closed."""
        await self._insist("gate", [self.shard.tag], [gate, reason, 0, detail, 0])

    async def open(self, gate: str, reason: HoldReason) -> None:
        """Open a gate that was closed for this reason; what closed it for another stays."""
        await self._call("gate", [self.shard.tag], [gate, reason, -1, "", 0])

    async def canary(self, gate: str, read: str, *, clean: bool, enough: int) -> bool:
        """Note what a read said of a vendor whose contract is broken; true when the gate is open now because of it."""
        arguments = [gate, HoldReason.CONTRACT_QUARANTINE, read, "clean" if clean else "broken", enough]
        return replies.text(await self._call("canary", [self.shard.tag], arguments)) == "opened"

    async def review(self, arguments: list[Any]) -> list[Any]:
        """Write down a decision about a call that waits for a person; see `review.lua` and `reviews`."""
        return cast("list[Any]", await self._insist("review", [self.shard.tag, self._topics.events], arguments))

    async def letter(self, changes: Sequence[LetterChange]) -> list[Any]:
        """Write down what was decided about letters; see `letter.lua`."""
        items = _pack([dataclasses.asdict(change) for change in changes])
        return cast("list[Any]", await self._insist("letter", [self.shard.tag, self._topics.events], [items]))

    async def forget(self, arguments: list[Any]) -> tuple[int, list[Any]]:
        """Forget letters that are over; see `forget.lua`."""
        looked, gone = await self._call("forget", [self.shard.tag, self._topics.letters], arguments)
        return looked, gone

    async def replay(self, arguments: list[Any]) -> list[Any]:
        """Move a replay on; see `replay.lua`."""
        return cast("list[Any]", await self._insist("replay", [self.shard.tag], arguments))

    async def lead(self, worker: str, lease_ms: int) -> int:
        """Ask to be the one who runs replays; see `lead.lua`."""
        return cast("int", await self._call("lead", [self.shard.tag], [worker, lease_ms]))

    async def epoch(self, expected: str, fresh: str) -> tuple[str, str]:
        """Hold the state's name against the one that is remembered, see `epoch.lua`: what was found, and the name."""
        found, name = await self._call("epoch", [self.shard.tag], [expected, fresh, self._marks.replicas])
        return replies.text(found), replies.text(name)

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
        return {**{replies.text(name): int(count) for name, count in counts.items()}, "live": live}

    def _parts(self, items: Sequence[T], weigh: Callable[[T], int]) -> Iterator[Sequence[T]]:
        load = self._terms.load(weigh)
        while items:
            count = load.fitting(items)
            yield items[:count]
            items = items[count:]

    async def _send_marks(self, marks: Sequence[Mark]) -> list[Marked]:
        items = _pack([msgspec.to_builtins(mark) for mark in marks])
        return await self._until_answered("mark", lambda: self._marks.write(items))

    async def _send_settlements(self, settlements: Sequence[Settlement]) -> list[Settled]:
        topics = self._topics
        keys = [self.shard.tag, topics.results, topics.events, topics.letters]
        items = [_pack(settlements)]
        now, due, told = await self._until_answered("settle", lambda: self._paced("settle", keys, items))
        self.moved(now, due if due >= 0 else None)
        return [cast("Settled", replies.text(reply)) for reply in told]

    async def _insist(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        return await self._until_answered(name, lambda: self._call(name, keys, arguments))

    async def _until_answered(self, name: str, write: Callable[[], Awaitable[T]]) -> T:
        """Send an idempotent write until Redis has answered it: there is nowhere else the work could go."""
        while True:
            try:
                return await write()
            except PASSING:
                await asyncio.sleep(self._terms.wait_s)
            except ResponseError as error:
                if MISFIT not in str(error):
                    raise
                # A key of ours holds something else. Nothing was written; it goes on when somebody has mended it.
                log.error("redis.misfit", script=name, error=str(error))  # noqa: TRY400 - the message is the story
                await asyncio.sleep(MEND_S)

    async def _call(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        return await scripts.run(self._redis, name, keys, arguments)

    async def _share_clock(self) -> None:
        """Let processes of one machine know how its clock stood to Redis': who starts after a step would take the new time for granted."""
        mine, name = self._reckoning.known, self._terms.steady.name
        if not name or (mine is not None and mine.at_us - self._shared_us < SHARE_EVERY_US):
            return
        key: Any = self.shard.key("clocks")
        redis: Any = self._redis
        if mine is None:
            if (told := await redis.hget(key, name)) is not None:
                self._reckoning.begin(Compared(*msgspec.msgpack.decode(told)))
            return
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hset(key, name, _pack(mine))
            pipe.expire(key, CLOCKS_TTL_S)
            await pipe.execute()
        self._shared_us = mine.at_us

    async def _paced(self, name: str, keys: list[str], arguments: list[Any], *more: int) -> list[Any]:
        """Run a script that gives or frees slots: it must know of a clock that was set forward."""
        sent_us = self._reckoning.now_us()
        told: list[Any]
        *told, stepped_us = await self._call(name, keys, [*arguments, *self._reckoning.expected(sent_us), *more])
        self._reckoning.heard(sent_us, told[_TOLD_AT[name]], stepped_us)
        return told


def _weight_in(admission: Admission) -> int:
    return len(admission.body) + len(admission.event)


def _weight_out(settlement: Settlement) -> int:
    told = len(settlement.result or "") + len(settlement.letter or "") + len(settlement.attempts_json)
    return told + sum(map(len, settlement.events))


def _weight_refused(refusal: Refusal) -> int:
    return len(refusal.result or "") + len(refusal.letter or "") + sum(map(len, refusal.events))


def _tool(admission: Admission) -> str:
    connector, _, operation = admission.lane.split("|", 2)
    return f"{connector}|{operation}"

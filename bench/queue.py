"""A queue to measure: lanes under a prefix of their own, filled to a depth and kept there by full cycles.

Several stand on one server side by side, so that their rounds can be interleaved.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from redis.asyncio import Redis

from gateway.lanes.queue import Lanes, Terms
from gateway.ports import Admission, Claim, Need, Plan, Settlement, Slots
from gateway.settings import Settings
from schemas.lifecycle import CallState
from schemas.topics import Shard, Topics

BATCH: int = Settings.model_fields["script_batch"].default
"""Calls of one flight: the default of SLUICE_SCRIPT_BATCH."""
FLIGHT = 1024
"""Calls of one flight while a queue is filled, which is not measured."""

GRACE_US = 600_000_000
"""No lease ends during a run."""
FAR_US = 4_000_000_000_000_000
"""A deadline nobody meets: the year 2096."""
SESSIONS = 8

BODY = "b" * 1024
EVENT = "e" * 640
RESULT = "r" * 640
"""Sizes of what is told of a call of 1 KB; see the measured bytes of `accepted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many lanes, calls and limits a queue has."""

    name: str
    lanes: int = 100
    connectors: int = 10
    queued: int = 10_000
    needs: tuple[Need, ...] = ()
    costs: dict[str, int] | None = None

    def lane(self, number: int) -> str:
        """Return one of the lanes; calls go to them in turn."""
        connection, connector = divmod(number % self.lanes, min(self.connectors, self.lanes))
        return f"c{connector}|v{connection}|call"

    def plans(self) -> dict[str, Plan]:
        """Return what the calls of each connector take."""
        plan = Plan(hold_us=GRACE_US, safe=False, needs=list(self.needs))
        return {f"c{connector}|call": plan for connector in range(min(self.connectors, self.lanes))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What one enqueue, claim and settlement of a batch took: seconds, by the client's clock."""

    calls: int
    wall_s: float
    claim_s: float


class Queue:
    """The lanes of one shape."""

    def __init__(self, redis: "Redis", shape: Shape) -> None:
        plans = shape.plans()
        terms = Terms(items=FLIGHT, size_bytes=8_000_000, wait_s=0.05, most_bytes=10**13)
        prefix = f"{shape.name}-"
        self.shape = shape
        self.topics = Topics(prefix)
        self.lanes = Lanes(redis, self.topics, shard=Shard(prefix), terms=terms, plans=lambda: plans)
        self.redis: Any = redis
        self._numbers, self._sequence = count(), count()

    async def fill(self) -> None:
        """Bring it to its depth; the events of that are thrown away."""
        for start in range(0, self.shape.queued, FLIGHT):
            await self.come(min(FLIGHT, self.shape.queued - start))
        await self.redis.delete(self.topics.events)

    async def come(self, calls: int) -> None:
        await self.lanes.enqueue(self._admissions(calls))

    async def claim(self, room: int) -> tuple[Claim, ...]:
        return (await self.lanes.claim("w", next(self._sequence), room=room, grace_us=GRACE_US)).claims

    async def settle(self, claims: Sequence[Claim], slots: Slots = "answered") -> None:
        await asyncio.gather(*(self.lanes.settle(_ended(claim, slots)) for claim in claims))

    async def cycle(self) -> Cycle:
        """Put a batch in, take one out, end it."""
        admissions = self._admissions(BATCH)
        began = time.perf_counter()
        await self.lanes.enqueue(admissions)
        stored = time.perf_counter()
        claims = await self.claim(BATCH)
        claimed = time.perf_counter()
        await self.settle(claims)
        ended = time.perf_counter()
        if len(claims) < BATCH // 2:
            raise RuntimeError(f"{self.shape.name}: a limit binds that should not: {len(claims)} of {BATCH} claimed")
        wall = (stored - began) / BATCH + (ended - stored) / len(claims)
        return Cycle(calls=len(claims), wall_s=wall, claim_s=claimed - stored)

    def _admissions(self, calls: int) -> list[Admission]:
        return [self._admission(next(self._numbers)) for _ in range(calls)]

    def _admission(self, number: int) -> Admission:
        return Admission(
            id=f"{number:026}",
            lane=self.shape.lane(number),
            scope=f"{number:032x}",
            print="0" * 32,
            body=BODY,
            event=EVENT,
            timeout_us=1_000_000,
            deadline_us=FAR_US,
            limit=10**9,
            flow=f"{number % SESSIONS:016x}",
            weight=4,
            costs=self.shape.costs,
        )


def _ended(claim: Claim, slots: Slots) -> Settlement:
    return Settlement(
        id=claim.id,
        fence=claim.fence,
        state=CallState.COMPLETED,
        seq=3,
        events=[EVENT, EVENT],
        attempts_json="[]",
        answer_ttl_s=86_400,
        scope_ttl_s=86_400,
        slots=slots,
        result=RESULT,
    )

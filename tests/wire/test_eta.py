"""What a waiting call is told: when it will start, what holds it, its place; and a deadline that cannot be met is refused at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from random import Random

import pytest
from redis.asyncio import Redis

from gateway.lanes.queue import Lanes, Terms
from gateway.lanes.signals import Agenda
from gateway.ports import Admission, Admitted, Answer, Claim, Late, Live, Need, Plan
from schemas.lifecycle import HoldReason
from schemas.topics import Shard, Topics
from tests.wire.test_fairness import settled

pytestmark = pytest.mark.timed

TERMS = Terms(items=256, size_bytes=8_000_000, wait_s=0.01, most_bytes=10**9)
FOR_EVER = 10**17
CREATE, GET = "crm|main|create", "crm|main|get"


def need(kind: str = "strict", most: int = 20, window_us: int = 200_000, *, name: str = "core") -> Need:
    return Need(name=name, per="connection", kind=kind, most=most, window_us=window_us, cost=1, weighted=False)


class Desk:
    """Lanes whose limits bind, and a vendor that answers after a while."""

    def __init__(self, redis: "Redis", needs: Sequence[Need], answers_s: Sequence[float] = (0.02,)) -> None:
        plan = Plan(hold_us=3_000_000, needs=list(needs))
        plans = {"crm|create": plan, "crm|get": plan}
        self.lanes = Lanes(redis, Topics(), shard=Shard(), terms=TERMS, plans=lambda: plans)
        self.started: dict[str, int] = {}
        self.agenda = Agenda()
        self._answers_s = answers_s
        self._numbers = count()
        self._dice = Random(7)

    async def come(self, lane: str, calls: int, *, deadline_us: int = FOR_EVER) -> list[Answer]:
        admissions = [
            Admission(
                id=(name := f"c{next(self._numbers):05}"),
                lane=lane,
                scope=name,
                print="p",
                body="{}",
                event="{}",
                timeout_us=1_000_000,
                deadline_us=deadline_us,
                limit=10**6,
                flow="f",
                weight=4,
            )
            for _ in range(calls)
        ]
        return await self.lanes.enqueue(admissions)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        self.lanes.moved = self.agenda.plan
        task = asyncio.create_task(self._work())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self.agenda.clear()
                claims = await self.lanes.claim("w", next(self._numbers), room=64, grace_us=7_000_000)
                for claim in claims.claims:
                    self.started[claim.id] = claims.now_us
                    group.create_task(self._answer(claim))
                self.agenda.plan(claims.now_us, claims.due_us)
                await self.agenda.sleep(1)

    async def _answer(self, claim: Claim) -> None:
        await asyncio.sleep(self._dice.choice(self._answers_s))
        await self.lanes.settle(settled(claim))

    async def waiting(self, call: str) -> Live:
        known = await self.lanes.inspect(call)
        assert isinstance(known, Live)
        return known


CASES = {
    "strict": [need()],
    "soft": [need("soft", 100, 1_000_000)],
    "concurrency": [need("concurrency", 9, 0)],
    "two limits": [need("strict", 20, 200_000), need("strict", 45, 600_000, name="more")],
}


@pytest.mark.parametrize("lanes", [(CREATE,), (CREATE, GET)], ids=["one lane", "two lanes"])
@pytest.mark.parametrize("case", CASES)
async def test_the_time_it_will_start_is_told_within_a_fifth(redis: "Redis", case: str, lanes: tuple[str, ...]) -> None:
    desk = Desk(redis, CASES[case], answers_s=(0.045, 0.06, 0.09))  # long beside what a busy machine adds
    for lane in lanes:
        await desk.come(lane, 300 // len(lanes))
    told: list[tuple[str, int, int]] = []
    async with desk.working():
        await asyncio.sleep(0.5)  # the pace is known once the first have been answered
        dice = Random(1)
        for _ in range(8):
            for call in dice.sample([f"c{n:05}" for n in range(300)], 6):
                known = await desk.lanes.inspect(call)
                if isinstance(known, Live) and known.position is not None and known.eta_us is not None:
                    told.append((call, known.now_us, known.eta_us))
            await asyncio.sleep(0.08)
        while len(desk.started) < 300:  # noqa: ASYNC110 - the workers offer no event
            await asyncio.sleep(0.05)
    # Calls that are about to start anyway are told in milliseconds, and nobody plans by that.
    waits = [(eta - at, desk.started[call] - at) for call, at, eta in told if desk.started[call] - at > 200_000]
    assert len(waits) >= 20
    errors = sorted(abs(eta - real) / real for eta, real in waits)
    assert errors[int(0.95 * len(errors))] < 0.2, [round(error, 3) for error in errors]


async def test_a_call_that_waits_is_told_which_limit_binds_and_its_place(redis: "Redis") -> None:
    desk = Desk(redis, [need(most=2, window_us=60_000_000), need("concurrency", 9, 0, name="inflight")])
    await desk.come(CREATE, 5)
    claims = await desk.lanes.claim("w", 1, room=64, grace_us=7_000_000)
    assert len(claims.claims) == 2
    known = await desk.waiting("c00004")
    assert known.held is not None
    assert (known.held.reason, known.held.limit, known.held.most, known.held.used) == (
        HoldReason.RATE_LIMIT,
        "core",
        2,
        2,
    )
    assert known.position == 2
    assert known.eta_us is not None
    # Two slots a minute: the third that waits starts in the second round.
    assert 110_000_000 < known.eta_us - known.now_us < 200_000_000


async def test_a_deadline_that_the_lane_cannot_meet_is_refused_with_the_time_it_would_start(redis: "Redis") -> None:
    desk = Desk(redis, [need(most=2, window_us=60_000_000)])
    await desk.come(CREATE, 8)
    claims = await desk.lanes.claim("w", 1, room=64, grace_us=7_000_000)
    soon = claims.now_us + 30_000_000
    (answer,) = await desk.come(CREATE, 1, deadline_us=soon)
    assert isinstance(answer, Late)
    assert answer.eta_us > soon
    (later,) = await desk.come(CREATE, 1, deadline_us=answer.eta_us + 130_000_000)
    assert isinstance(later, Admitted)


@pytest.mark.parametrize(
    ("reason", "for_us"), [(HoldReason.PAUSED, 0), (HoldReason.PAUSED, 60_000_000), (HoldReason.BREAKER_OPEN, 0)]
)
async def test_a_pause_or_a_breaker_never_refuses_for_a_deadline(
    redis: "Redis", reason: HoldReason, for_us: int
) -> None:
    desk = Desk(redis, [need()])
    await desk.lanes.close("@crm", reason, for_us=for_us, detail="maintenance by ada")
    await desk.come(CREATE, 1)
    claims = await desk.lanes.claim("w", 1, room=64, grace_us=7_000_000)
    assert claims.claims == ()
    (answer,) = await desk.come(CREATE, 1, deadline_us=claims.now_us + 1_000_000)
    assert isinstance(answer, Admitted)
    known = await desk.waiting("c00000")
    assert known.held is not None
    assert (known.held.reason, known.held.detail) == (reason, "maintenance by ada")
    assert (known.held.until_us is None) == (for_us == 0)


@pytest.mark.parametrize("gate", ["@crm", "@crm|main", "@crm||create", "@crm|main|create"])
async def test_a_gate_holds_its_lanes_until_it_opens_and_no_others(redis: "Redis", gate: str) -> None:
    desk = Desk(redis, [])
    await desk.lanes.close(gate, HoldReason.PAUSED, for_us=0, detail="x")
    await desk.lanes.close("@other", HoldReason.PAUSED, for_us=0, detail="x")
    await desk.come(CREATE, 1)
    await desk.come("crm|spare|get", 1)
    held = await desk.lanes.claim("w", 1, room=9, grace_us=7_000_000)
    assert len(held.claims) == (0 if gate == "@crm" else 1)
    await desk.lanes.open(gate, HoldReason.PAUSED)
    opened = await desk.lanes.claim("w", 2, room=9, grace_us=7_000_000)
    assert len(held.claims) + len(opened.claims) == 2


async def test_a_gate_opens_by_itself(redis: "Redis") -> None:
    desk = Desk(redis, [])
    until = await desk.lanes.close("@crm", HoldReason.PAUSED, for_us=30_000, detail="x")
    await desk.come(CREATE, 1)
    held = await desk.lanes.claim("w", 1, room=9, grace_us=7_000_000)
    assert (held.claims, held.due_us) == ((), until)
    await asyncio.sleep(0.04)
    assert len((await desk.lanes.claim("w", 2, room=9, grace_us=7_000_000)).claims) == 1


async def test_what_is_closed_for_two_reasons_opens_when_both_are_gone(redis: "Redis") -> None:
    desk = Desk(redis, [])
    for reason in (HoldReason.PAUSED, HoldReason.BREAKER_OPEN):
        await desk.lanes.close("@crm", reason, for_us=0, detail="x")
    await desk.come(CREATE, 1)
    for sequence, reason in enumerate((HoldReason.PAUSED, HoldReason.BREAKER_OPEN), 1):
        assert (await desk.lanes.claim("w", sequence, room=9, grace_us=7_000_000)).claims == ()
        await desk.lanes.open("@crm", reason)
    assert len((await desk.lanes.claim("w", 3, room=9, grace_us=7_000_000)).claims) == 1

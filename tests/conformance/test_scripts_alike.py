"""The scripts on the twin against the scripts on Redis: the same random life of the lanes, the same answers, the same keys.

Both run the same sources; what is compared is everything around them: commands, their replies in Lua, packing, numbers as text.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.lanes.queue import Lanes, Terms
from gateway.lanes.reckoning import Steady
from gateway.ports import Admission, Claim, Mark, Need, Plan, Settlement, Slots
from schemas.effect import Effect
from schemas.lifecycle import CallState, HoldReason
from schemas.topics import GROUP, Shard, Topics
from tests.conformance.sides import Side, both

SEEDS, STEPS = 25, 40
START_US = 1_795_000_000_000_000
GRACE_US = 7_000_000
TERMS = Terms(items=128, size_bytes=8_000_000, wait_s=0.01, most_bytes=4000)
LANES = ("crm|-|a", "crm|-|b", "erp|main|a")


def _need(name: str, kind: str, most: int, window_us: int, **changes: Any) -> Need:
    whole = {"per": "connector", "cost": 1, "weighted": False, "hold_us": 9_000_000, **changes}
    return Need(name=name, kind=kind, most=most, window_us=window_us, **whole)


PLANS = {
    "crm|a": Plan(
        hold_us=9_000_000, safe=True, needs=[_need("core", "strict", 3, 1_000_000), _need("inflight", "strict", 2, 0)]
    ),
    "crm|b": Plan(
        hold_us=9_000_000, needs=[_need("core", "strict", 3, 1_000_000), _need("slow", "soft", 5, 2_000_000)]
    ),
    "erp|a": Plan(
        hold_us=9_000_000, needs=[_need("tokens", "strict", 5000, 60_000_000, weighted=True, per="connection")]
    ),
}


class Life:
    """One side, and what was claimed there."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.steady_us = 0
        terms = replace(TERMS, steady=Steady(lambda: self.steady_us / 1_000_000))
        self.lanes = Lanes(side.client, Topics(), shard=Shard(), terms=terms, plans=lambda: PLANS)
        self.claims: list[Claim] = []
        self._us = START_US

    async def begin(self) -> None:
        await self.side.client.xgroup_create("tool-calls", GROUP, id="0", mkstream=True)
        await self.at(START_US)
        await self.lanes.declare()

    async def at(self, us: int, *, steady: bool = True) -> None:
        """Set the time of the server's clock; with `steady` that of the worker's as well."""
        if steady:
            self.steady_us += us - self._us
        self._us = us
        await self.side.client.hset("clock", mapping={"seconds": us // 1_000_000, "us": us % 1_000_000})

    async def arrive(self) -> str:
        """Publish an entry and give it to a reader; returns its id."""
        key = await self.side.send("XADD", "tool-calls", "*", "data", "x")
        await self.side.client.xreadgroup(GROUP, "w1", {"tool-calls": ">"})
        return str(key.decode())

    def take(self, claims: tuple[Claim, ...]) -> list[Any]:
        self.claims += claims
        return [msgspec.to_builtins(claim.run) | {"body": claim.body, "id": claim.id} for claim in claims]


Step = Callable[[Life], Awaitable[Any]]


def _enqueue(dice: Random, now_us: int) -> Step:
    count, told = dice.randint(1, 3), []
    for _ in range(count):
        number = dice.randrange(30)
        told.append(
            Admission(
                id=f"c{number}",
                lane=dice.choice(LANES),
                scope=f"s{number if dice.random() < 0.9 else dice.randrange(30)}",
                print=dice.choice(("p", "p", "p", "q")),
                body="b" * dice.choice((10, 300)),
                event=f'{{"n":{number}}}',
                timeout_us=dice.choice((500_000, 2_000_000)),
                deadline_us=now_us + dice.choice((10**6, 10**7, 10**12)),
                limit=dice.choice((2, 1000)),
                flow=dice.choice(("f", "g")),
                weight=dice.choice((1, 4, 8)),
                costs=dice.choice((None, {"tokens": dice.randint(1, 4000)})),
            )
        )
    by_bus = dice.random() < 0.7

    async def step(life: Life) -> Any:
        entries = [await life.arrive() if by_bus else None for _ in told]
        sent = [msgspec.structs.replace(one, entry=entry) for one, entry in zip(told, entries, strict=True)]
        return life.side.seen("", [msgspec.to_builtins(one) for one in await life.lanes.enqueue(sent)])

    return step


def _claim(dice: Random, sequence: int) -> Step:
    worker, room = dice.choice(("w1", "w2")), dice.randint(1, 5)

    async def step(life: Life) -> Any:
        claims = await life.lanes.claim(worker, sequence, room=room, grace_us=GRACE_US)
        return claims.due_us, life.take(claims.claims)

    return step


def _mark(dice: Random, _: int) -> Step:
    at, off = dice.random(), dice.choice((0, 0, 0, 1))

    async def step(life: Life) -> Any:
        claim = _one(life, at)
        return claim and await life.lanes.mark(Mark(claim.id, claim.fence + off))

    return step


def _settle(dice: Random, now_us: int) -> Step:
    at, ends, off = dice.random(), dice.random() < 0.6, dice.choice((0, 0, 0, 0, 1))
    slots: Slots = dice.choice(("unused", "answered", "doubt", "lost"))
    due_us, lessons = now_us + dice.choice((0, 500_000, 5_000_000)), dice.choice((None, None, "close", "left", "most"))

    async def step(life: Life) -> Any:
        claim = _one(life, at)
        if claim is None:
            return None
        settlement = Settlement(
            id=claim.id,
            fence=claim.fence + off,
            state=CallState.COMPLETED if ends else CallState.RETRYING,
            seq=claim.run.seq + 1,
            events=['{"type":"x"}'],
            attempts_json="[]",
            answer_ttl_s=3600 if ends else 0,
            scope_ttl_s=86_400 if ends else 0,
            slots=slots,
            result='{"r":1}' if ends else None,
            due_us=None if ends else due_us,
            attempts=None if ends else claim.run.attempts + 1,
            tries=None if ends else claim.run.tries + 1,
            crashes=None if ends else 0,
            effect=None if ends else Effect.UNKNOWN,
            first_us=None if ends else 5,
        )
        return await life.lanes.settle(_taught(settlement, claim, lessons))

    return step


def _taught(settlement: Settlement, claim: Claim, lesson: str | None) -> Settlement:
    permits = claim.run.permits or []
    if lesson is None or not permits:
        return settlement
    told: dict[str, Any] = {
        "close": {"close_us": 700_000},
        "left": {"left": 1, "reset_us": 400_000},
        "most": {"most": 2},
    }
    return msgspec.convert(
        msgspec.to_builtins(settlement) | {"lessons": [{"limit": permits[0].key, **told[lesson]}]}, Settlement
    )


def _reap(dice: Random, _: int) -> Step:
    hold_us = dice.choice((0, 0, 1_000_000))

    async def step(life: Life) -> Any:
        return life.take(await life.lanes.reap(most=10, lease_us=1_000_000, gap_us=60_000_000, hold_us=hold_us))

    return step


def _overdue(dice: Random, _: int) -> Step:
    async def step(life: Life) -> Any:
        return life.take(await life.lanes.overdue(most=dice.randint(3, 3), lease_us=1_000_000))

    return step


def _look(dice: Random, _: int) -> Step:
    call = f"c{dice.randrange(30)}"

    async def step(life: Life) -> Any:
        known = await life.lanes.inspect(call)
        return repr(known), repr(await life.lanes.survey(LANES)), await life.lanes.stats()

    return step


def _seize(dice: Random, _: int) -> Step:
    call = f"c{dice.randrange(30)}"

    async def step(life: Life) -> Any:
        found = await life.lanes.seize(call)
        return life.take((found,)) if isinstance(found, Claim) else found

    return step


def _gate(dice: Random, _: int) -> Step:
    gate, for_us, opens = dice.choice(("@crm", "@erp|main", "crm|-|a")), dice.choice((0, 900_000)), dice.random() < 0.5

    async def step(life: Life) -> Any:
        if opens:
            return await life.lanes.open(gate, HoldReason.PAUSED)
        return await life.lanes.close(gate, HoldReason.PAUSED, for_us=for_us, detail="because", most=dice.randint(1, 1))

    return step


DRAWS = (
    _enqueue,
    _enqueue,
    _enqueue,
    _claim,
    _claim,
    _claim,
    _mark,
    _settle,
    _settle,
    _settle,
    _reap,
    _overdue,
    _look,
    _seize,
    _gate,
)


def _one(life: Life, at: float) -> Claim | None:
    return life.claims[int(at * len(life.claims))] if life.claims else None


async def test_a_random_life_of_the_lanes_goes_alike(redis_server: "Redis") -> None:
    for seed in range(SEEDS):
        dice, now_us = Random(seed), START_US
        lives = [Life(side) for side in await both(redis_server)]
        for life in lives:
            await life.begin()
        told = []
        for number in range(STEPS):
            now_us += dice.choice((1, 1000, 300_000, 1_000_000, 9_000_000))
            steady = dice.random() < 0.9
            draw = dice.choice(DRAWS)
            step = draw(
                dice, number if draw is _claim and dice.random() < 0.9 else now_us if draw is not _claim else number - 1
            )
            answers = []
            for life in lives:
                await life.at(now_us, steady=steady)
                answers.append(await step(life))
            told.append(f"{now_us - START_US} {draw.__name__} -> {answers[0]}")
            assert answers[0] == answers[1], "\n".join([f"seed {seed}", *told, f"but the twin: {answers[1]}"])
        kept = [await life.side.dump() for life in lives]
        for key in kept[0].keys() | kept[1].keys():
            assert kept[0].get(key) == kept[1].get(key), "\n".join([f"seed {seed}", *told, key])

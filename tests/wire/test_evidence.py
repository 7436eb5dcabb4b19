"""What attempts have shown, over several processes and in two slices of time; and how limits stand, to the slot."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.lanes import evidence
from gateway.lanes.evidence import Witness
from gateway.policy.makespan import Supply
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.outcome import Outcome
from schemas.topics import Shard

pytestmark = pytest.mark.wire

LANE = "crm|main|echo"
FINE = Outcome(effect=Effect.NOT_EXECUTED, status=200, duration_ms=100)
SICK = Outcome(
    effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_UNAVAILABLE, message="503.", status=503, duration_ms=300
)


async def test_what_several_processes_saw_is_one_evidence(redis: "Redis") -> None:
    one, two = Witness(redis, Shard()), Witness(redis, Shard())
    for _ in range(3):
        one.saw(LANE, FINE)
    await one.flush()
    two.saw(LANE, SICK)
    await two.flush()
    seen = (await one.seen([LANE, "crm|main|other"]))[LANE]
    assert (seen.ok, seen.failed, seen.failing, seen.failure, seen.message) == (3, 1, True, "http.503", "503.")
    assert seen.mean_s == pytest.approx(0.15)
    assert seen.deviation_s == pytest.approx(0.0866, abs=0.001)
    assert seen.age_s is not None
    assert seen.age_s < 5
    one.saw(LANE, FINE)
    await one.flush()
    assert not (await two.seen([LANE]))[LANE].failing
    assert (await one.seen(["crm|main|other"]))["crm|main|other"].age_s is None


@pytest.mark.parametrize(
    ("outcome", "failing"),
    [
        (FINE, False),
        (SICK, True),
        (Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_UNAUTHORIZED), True),
        (Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_BAD_REQUEST), False),
        (Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_TOO_MANY, limited=True), False),
        (Outcome(effect=Effect.EXECUTED, failure=Failure.SCHEMA_BREAKING), False),
    ],
)
async def test_only_what_the_vendor_or_the_credential_did_is_held_against_them(
    redis: "Redis", outcome: Outcome, failing: Any
) -> None:
    witness = Witness(redis, Shard())
    witness.saw(LANE, outcome)
    await witness.flush()
    assert (await witness.seen([LANE]))[LANE].failing is failing


async def test_the_memory_is_bounded(redis: "Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST", 10)
    witness = Witness(redis, Shard())
    for number in range(30):
        witness.saw(f"crm|main|{number}", FINE)
    await witness.flush()
    assert await redis.hlen("{s0}:evidence") == 10


async def test_slices_turn(redis: "Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "SLICE_S", 0.5)
    witness = Witness(redis, Shard())
    witness.saw(LANE, SICK)
    await witness.flush()
    await asyncio.sleep(1.1)
    seen = (await witness.seen([LANE]))[LANE]
    assert (seen.ok, seen.failed, seen.failing) == (0, 0, True)
    assert seen.mean_s == pytest.approx(0.3)
    witness.saw(LANE, FINE)
    await witness.flush()
    seen = (await witness.seen([LANE]))[LANE]
    assert (seen.ok, seen.failed, seen.failing) == (1, 0, False)


async def test_slots_are_told_with_the_time_they_come_back(redis: "Redis") -> None:
    seconds, us = await redis.time()
    now_us = seconds * 1_000_000 + us
    key = "crm|main|core"
    await redis.zadd(f"{{s0}}:slots:{key}", {"1:2": now_us + 30_000_000, "2:1": now_us + 50_000_000})
    await redis.hset(f"{{s0}}:spent:{key}", mapping={"used": 3, "most": 4})
    limits = [
        Supply(key=key, name="core", kind="strict", most=10, window_us=60_000_000),
        Supply(key="crm|main|soft", name="soft", kind="soft", most=10, window_us=1_000_000),
    ]
    core, soft = await Witness(redis, Shard()).supplies(limits)
    assert core.most == 4
    assert [round(at / 10_000_000) for at, _ in core.busy] == [3, 5]
    assert sum(slots for _, slots in core.busy) in {3, 4}
    assert (soft.most, soft.busy, soft.debt_us) == (10, (), 0)


async def test_one_turn_to_probe_for_the_whole_fleet(redis: "Redis") -> None:
    one, two = Witness(redis, Shard()), Witness(redis, Shard())
    origin = "crm|https://crm.example.com"
    assert [await one.may_probe(origin, 30), await two.may_probe(origin, 30)] == [True, False]

"""Pacing where calls of one limit differ: in cost, in how long they may take, in who withdraws them. Each once let one call too many
through, or kept one waiting for ever.
"""

import asyncio

import pytest
from redis.asyncio import Redis

from gateway.ports import Admitted, Claim, Late, Lesson, Need, Plan
from schemas.lifecycle import HoldReason
from tests.wire.test_shared_limits import CORE, LANE, MINUTE, OTHER, Bench

SECOND = 1_000_000


def ids(*claims: Claim) -> list[str]:
    return [claim.id for claim in claims]


async def give(bench: Bench, room: int = 100) -> list[str]:
    return ids(*(await bench.claim(room)).claims)


# ---- what a soft limit gives back


async def test_a_soft_limit_gives_back_no_time_that_has_passed(redis: "Redis") -> None:
    bench = Bench(redis, most=20, window_us=200_000, kind="soft")
    await bench.come(LANE, 9)
    (idle,) = (await bench.claim(1)).claims
    await asyncio.sleep(0.1)
    burst = (await bench.claim()).claims
    assert len(burst) == 2
    await bench.settle(idle, slots="unused")
    assert await give(bench) == [], "its share was used by the time that passed, not by the burst"


async def test_a_soft_limit_gives_back_what_still_lies_ahead(redis: "Redis") -> None:
    bench = Bench(redis, most=20, window_us=60 * MINUTE, kind="soft")
    await bench.come(LANE, 9)
    first, _ = (await bench.claim()).claims
    await bench.settle(first, slots="unused")
    assert len(await give(bench)) == 1


async def test_a_lower_limit_that_was_learned_meanwhile_gives_back_no_more_than_was_taken(redis: "Redis") -> None:
    bench = Bench(redis, most=20, window_us=60 * MINUTE, kind="soft")
    await bench.come(LANE, 9)
    first, second = (await bench.claim()).claims
    await bench.settle(first, Lesson(limit=CORE, most=5))
    before = float(await bench.redis.hget(f"{{s0}}:spent:{CORE}", "tat"))
    await bench.settle(second, slots="unused")
    after = float(await bench.redis.hget(f"{{s0}}:spent:{CORE}", "tat"))
    assert 0 < before - after <= 60 * MINUTE / 19 + 1


# ---- another call goes first


async def test_when_a_dear_call_is_withdrawn_the_cheap_one_behind_it_starts(redis: "Redis") -> None:
    bench = Bench(redis, weighted=True)
    await bench.come(LANE, cost=5)
    await bench.come(LANE, cost=9)
    await bench.come(LANE, cost=1)
    assert await give(bench) == ["c00000"]
    assert not isinstance(await bench.lanes.seize("c00002"), str)
    assert not isinstance(await bench.lanes.seize("c00001"), str)
    await bench.come(LANE, cost=2)
    (cheap,) = await give(bench)
    assert cheap.startswith("c0000")


@pytest.mark.parametrize("how", ["withdrawn", "late"])
async def test_a_head_that_leaves_its_lane_leaves_its_wait_behind(redis: "Redis", how: str) -> None:
    bench = Bench(redis, weighted=True)
    await bench.come(LANE, cost=5)
    assert len(await give(bench)) == 1
    await bench.come(LANE, cost=9)
    await bench.come(LANE, cost=1)
    assert await give(bench) == []
    dear, cheap = (name.decode() for name in await bench.redis.zrange(f"{{s0}}:lane:{LANE}", 0, -1))
    if how == "late":
        await bench.redis.zadd("{s0}:deadlines", {dear: 1})
        assert len(await bench.lanes.overdue(most=9, lease_us=SECOND)) == 1
    else:
        await bench.lanes.seize(dear)
    assert await give(bench) == [cheap]


async def test_a_call_that_overtakes_a_dear_one_does_not_inherit_its_wait(redis: "Redis") -> None:
    bench = Bench(redis, weighted=True)
    await bench.come(LANE, 2, cost=2, flow="busy")
    assert len(await give(bench)) == 2
    await bench.come(LANE, cost=9, flow="busy")
    assert await give(bench) == []
    (answer,) = await bench.come(LANE, cost=1, flow="another", weight=8)
    assert isinstance(answer, Admitted)
    assert await give(bench) == [answer.call]


async def test_a_lane_whose_last_call_left_keeps_no_other_waiting(redis: "Redis") -> None:
    bench = Bench(redis, weighted=True)
    await bench.come(LANE, cost=5)
    assert len(await give(bench)) == 1
    (dear,) = await bench.come(LANE, cost=9)
    assert await give(bench) == []
    (cheap,) = await bench.come(OTHER, cost=1)
    assert await give(bench) == [], "the limit is the dear one's first"
    assert isinstance(dear, Admitted)
    assert isinstance(cheap, Admitted)
    await bench.lanes.seize(dear.call)
    assert await give(bench) == [cheap.call]


# ---- a dear call beside cheap ones


async def test_cheap_calls_of_another_lane_do_not_starve_a_dear_one(redis: "Redis") -> None:
    bench = Bench(redis, most=10, window_us=0, kind="concurrency", weighted=True)
    await bench.come(OTHER, 4, cost=1)
    under_way = list((await bench.claim()).claims)
    assert len(under_way) == 4
    (dear,) = await bench.come(LANE, cost=8)
    assert isinstance(dear, Admitted)
    assert await give(bench) == []
    started: list[str] = []
    for _ in range(40):
        await bench.come(OTHER, 2, cost=1)
        if under_way:
            await bench.settle(under_way.pop(0))
        claims = (await bench.claim()).claims
        started += ids(*claims)
        under_way += claims
        if dear.call in started:
            break
    assert dear.call in started[:1], "no cheap call went before it"


async def test_lanes_that_wait_for_two_limits_in_turn_all_get_through(redis: "Redis") -> None:
    needs = [
        Need(name="core", per="connection", kind="concurrency", most=10, window_us=0, cost=1, weighted=True),
        Need(name="more", per="connector", kind="concurrency", most=6, window_us=0, cost=1, weighted=False),
    ]
    bench = Bench(redis)
    plan = Plan(hold_us=MINUTE, needs=needs)
    plans = {"crm|create": plan, "crm|get": plan, "crm|put": Plan(hold_us=MINUTE, needs=needs[1:])}
    bench.lanes._plans = lambda: plans
    for cost in (1, 7, 2, 9, 3):
        await bench.come(LANE, 4, cost=cost)
        await bench.come(OTHER, 4, cost=cost)
        await bench.come("crm|main|put", 4)
    done, idle = 0, 0
    while done < 60 and idle < 20:
        claims = (await bench.claim(3)).claims
        idle = 0 if claims else idle + 1
        for claim in claims:
            await bench.settle(claim)
        done += len(claims)
    assert done == 60


async def test_a_lane_that_needs_two_limits_is_not_sent_from_one_queue_to_the_other_for_ever(redis: "Redis") -> None:
    core, more = (
        Need(name=name, per="connector", kind="concurrency", most=2, window_us=0, cost=1, weighted=False)
        for name in ("core", "more")
    )
    plans = {
        f"crm|{name}": Plan(hold_us=MINUTE, needs=needs)
        for name, needs in (("create", [core, more]), ("put", [core]), ("get", [more]))
    }
    bench = Bench(redis)
    bench.lanes._plans = lambda: plans
    await bench.come("crm|main|put", 40)
    await bench.come(OTHER, 40)
    assert len(await give(bench, 2)) == 2
    await bench.come(LANE, 4)
    both = 0
    for _ in range(30):
        for claim in (await bench.claim()).claims:
            both += claim.run.lane == LANE
            await bench.settle(claim)
    assert both == 4


# ---- after a loss


async def test_after_a_loss_a_limit_waits_for_the_slowest_operation_that_takes_of_it(redis: "Redis") -> None:
    bench = Bench(redis, window_us=100_000)
    need = Need(
        name="core", per="connection", kind="strict", most=9, window_us=100_000, cost=1, weighted=False, hold_us=MINUTE
    )
    plan = Plan(hold_us=SECOND, needs=[need])
    bench.lanes._plans = lambda: {"crm|create": plan}
    seconds, micros = await bench.redis.time()
    await bench.redis.set("{s0}:forgot", f"{seconds * SECOND + micros}|x")
    await bench.come(LANE)
    held = await bench.claim()
    assert held.claims == ()
    assert held.due_us is not None
    assert held.due_us - held.now_us > 59 * SECOND


# ---- what the vendor says is left


async def test_what_is_left_until_a_reset_beyond_the_window_is_all_there_is(redis: "Redis") -> None:
    bench = Bench(redis, most=10, window_us=40_000)
    await bench.come(LANE, 30)
    claims = (await bench.claim(5)).claims
    await bench.settle(claims[0], Lesson(limit=CORE, left=4, reset_us=MINUTE))
    for claim in claims[1:]:
        await bench.settle(claim, Lesson(limit=CORE, left=4, reset_us=MINUTE))
    await asyncio.sleep(0.06)
    assert len(await give(bench)) == 4, "our own slots have come back, the vendor's have not"


async def test_a_later_word_about_a_far_reset_adds_to_the_one_before(redis: "Redis") -> None:
    bench = Bench(redis, most=10, window_us=40_000)
    await bench.come(LANE, 30)
    one, two, three = (await bench.claim(3)).claims
    await bench.settle(one, Lesson(limit=CORE, left=5, reset_us=MINUTE))
    await bench.settle(two, Lesson(limit=CORE, left=3, reset_us=MINUTE))
    await bench.settle(three, Lesson(limit=CORE, left=8, reset_us=MINUTE))
    await asyncio.sleep(0.06)
    assert len(await give(bench)) == 3


async def test_the_usage_of_others_on_a_large_limit_takes_no_more_room_than_its_buckets(redis: "Redis") -> None:
    bench = Bench(redis, most=20_000)
    await bench.come(LANE, 60)
    for left, claim in enumerate((await bench.claim(60)).claims):
        await bench.settle(claim, Lesson(limit=CORE, left=19_000 - 10 * left, reset_us=MINUTE))
    assert await bench.redis.zcard(f"{{s0}}:slots:{CORE}") <= 5
    assert await bench.used() == 20_000 - (19_000 - 590)


# ---- a vendor that refuses and says nothing useful


async def refuse_once(bench: Bench) -> tuple[int, int]:
    """Claim when it opens, refuse all that come, and return how many those were and for how long it is closed then."""
    held = await bench.claim(30)
    while not held.claims:
        assert held.due_us is not None
        await asyncio.sleep(max(0, held.due_us - held.now_us) / SECOND + 0.001)
        held = await bench.claim(30)
    for claim in held.claims:
        await bench.settle(claim, Lesson(limit=CORE, close_us=10_000))
    after = await bench.claim()
    assert after.claims == ()
    assert after.due_us is not None
    return len(held.claims), after.due_us - after.now_us


@pytest.mark.timed
async def test_after_a_refusal_one_call_at_a_time_finds_out_and_each_refusal_doubles_the_wait(redis: "Redis") -> None:
    bench = Bench(redis, most=300)
    await bench.come(LANE, 100)
    await bench.come(OTHER, 100)
    rounds = [await refuse_once(bench) for _ in range(5)]
    assert [calls for calls, _ in rounds] == [30, 1, 1, 1, 1]
    waits = [wait_us / 10_000 for _, wait_us in rounds]
    assert waits == [pytest.approx(expected, abs=0.9) for expected in (1, 2, 4, 8, 16)]


@pytest.mark.timed
async def test_the_first_answer_ends_the_probing_and_forgets_the_refusals(redis: "Redis") -> None:
    bench = Bench(redis, most=300)
    await bench.come(LANE, 100)
    for _ in range(3):
        await refuse_once(bench)
    await asyncio.sleep(0.05)
    (probe,) = (await bench.claim()).claims
    assert await give(bench) == []
    await bench.settle(probe)
    assert len(await give(bench, 20)) == 20
    assert await bench.redis.hget("{s0}:gates", CORE) is None


@pytest.mark.timed
async def test_the_wait_grows_to_the_window_and_no_further(redis: "Redis") -> None:
    bench = Bench(redis, most=30, window_us=SECOND)
    await bench.come(LANE, 60)
    (first,) = (await bench.claim(1)).claims
    await bench.settle(first, Lesson(limit=CORE, close_us=600_000))
    await asyncio.sleep(0.61)
    assert 900_000 < (await refuse_once(bench))[1] <= SECOND


async def test_a_probe_that_was_not_sent_proves_nothing(redis: "Redis") -> None:
    bench = Bench(redis, most=300)
    await bench.come(LANE, 60)
    await refuse_once(bench)
    await asyncio.sleep(0.02)
    (probe,) = (await bench.claim()).claims
    await bench.settle(probe, slots="unused")
    assert len(await give(bench)) == 1


# ---- turns that were not used


async def test_calls_that_are_withdrawn_give_their_session_its_turn_back(redis: "Redis") -> None:
    bench = Bench(redis)
    answers = await bench.come(LANE, 50, flow="hasty")
    await bench.come(LANE, 50, flow="patient")
    for answer in answers:
        assert isinstance(answer, Admitted)
        claim = await bench.lanes.seize(answer.call)
        assert not isinstance(claim, str)
        await bench.settle(claim, slots="unused", flow="hasty", weight=4)
    (again,) = await bench.come(LANE, 1, flow="hasty")
    assert isinstance(again, Admitted)
    assert again.call in await give(bench, 3)


async def test_sessions_whose_calls_all_end_unserved_leave_nothing_behind(redis: "Redis") -> None:
    bench = Bench(redis)
    await bench.lanes.close("@crm", HoldReason.PAUSED, for_us=0, detail="x")
    await bench.come(LANE, 1, flow="patient")
    for number in range(30):
        for answer in await bench.come(LANE, 2, flow=f"s{number}"):
            assert isinstance(answer, Admitted)
            claim = await bench.lanes.seize(answer.call)
            assert not isinstance(claim, str)
            await bench.settle(claim, slots="unused", flow=f"s{number}", weight=4)
    assert await bench.redis.zcard(f"{{s0}}:flows:{LANE}") == 1


# ---- what a waiting call is told


async def test_a_cheap_call_behind_a_dear_one_is_told_the_limit_that_holds_the_dear_one(redis: "Redis") -> None:
    bench = Bench(redis, weighted=True)
    await bench.come(LANE, cost=5)
    assert len(await give(bench)) == 1
    await bench.come(LANE, cost=9)
    (cheap,) = await bench.come(LANE, cost=1)
    (other,) = await bench.come(OTHER, cost=1)
    assert await give(bench) == []
    for answer in (cheap, other):
        assert isinstance(answer, Admitted)
        known = await bench.hold(answer.call)
        assert known.held is not None
        assert (known.held.reason, known.held.limit, known.held.used) == (HoldReason.RATE_LIMIT, "core", 5)


async def test_cheap_calls_before_a_dear_one_do_not_count_as_dear(redis: "Redis") -> None:
    bench = Bench(redis, most=100, weighted=True)
    await bench.come(LANE, cost=100)
    now_us = (await bench.claim()).now_us
    await bench.come(LANE, 20, cost=1)
    assert await give(bench) == []
    (answer,) = await bench.come(LANE, 1, cost=60, deadline_us=now_us + 2 * MINUTE)
    assert isinstance(answer, Admitted), "all of them fit into the next window"
    (late,) = await bench.come(LANE, 1, cost=60, deadline_us=now_us + MINUTE // 2)
    assert isinstance(late, Late)


async def test_one_slow_answer_refuses_no_deadline_that_the_others_would_meet(redis: "Redis") -> None:
    bench = Bench(redis, most=1, window_us=0, kind="concurrency")
    await bench.come(LANE, 12)
    for number in range(6):
        (claim,) = (await bench.claim(1)).claims
        await asyncio.sleep(1.0 if number == 4 else 0.01)
        await bench.settle(claim)
    held = await bench.claim()
    assert len(held.claims) == 1
    assert await give(bench) == []
    (answer,) = await bench.come(LANE, 1, deadline_us=held.now_us + 800_000)
    assert isinstance(answer, Admitted), "it took a tenth of a second before, and will again"

"""The lanes' scripts on a real Redis: each verb, its idempotency, and what a crash between verbs leaves behind."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.lanes.queue import Lanes, Terms
from gateway.ports import Admission, Admitted, Claim, Conflict, Duplicate, Ended, Full, Live, Mark, Refusal, Settlement
from schemas.effect import Effect
from schemas.lifecycle import CallState
from schemas.topics import GROUP, Shard, Topics

TOPICS = Topics()
TERMS = Terms(items=128, size_bytes=8_000_000, wait_s=0.01, most_bytes=10**9)
GRACE_US = 7_000_000
NEVER = 10**17
"""A gap without reaping that no test waits for, microseconds."""


@pytest.fixture
async def lanes(redis: "Redis") -> Lanes:
    await redis.xgroup_create(TOPICS.calls, GROUP, id="0", mkstream=True)
    return Lanes(redis, TOPICS, shard=Shard(), terms=TERMS, plans=dict)


async def bodies(redis: "Redis", stream: str) -> list[bytes]:
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(stream))
    return [fields[b"data"] for _, fields in entries]


async def keys(redis: "Redis", stream: str) -> list[bytes]:
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(stream))
    return [key for key, _ in entries]


async def deliver(redis: "Redis") -> str:
    """Publish an entry and take it from the group, as a consumer does."""
    entry = cast("bytes", await redis.xadd(TOPICS.calls, {"data": "x"}))
    await redis.xreadgroup(GROUP, "w1", {TOPICS.calls: ">"})
    return entry.decode()


def admission(name: str = "c1", **changes: object) -> Admission:
    whole = Admission(
        id=name,
        lane="crm|-|echo",
        scope=f"scope-{name}",
        print="p1",
        body='{"id":"c1"}',
        event='{"type":"accepted"}',
        timeout_us=1_000_000,
        deadline_us=9_000_000_000_000_000,
        limit=1000,
        flow="f",
        weight=4,
    )
    return msgspec.structs.replace(whole, **changes)


def ending(claim: Claim, state: CallState = CallState.COMPLETED) -> Settlement:
    return Settlement(
        id=claim.id,
        fence=claim.fence,
        state=state,
        seq=2,
        events=['{"type":"settled"}'],
        attempts_json="[]",
        answer_ttl_s=60,
        scope_ttl_s=60,
        slots="answered",
        result=f'{{"id":"{claim.id}.result"}}',
    )


def deferral(claim: Claim, due_us: int) -> Settlement:
    return Settlement(
        id=claim.id,
        fence=claim.fence,
        state=CallState.RETRYING,
        seq=2,
        events=[],
        attempts_json="[]",
        slots="answered",
        due_us=due_us,
        attempts=1,
        tries=1,
        crashes=0,
        effect=Effect.UNKNOWN,
        first_us=5,
    )


async def claim_one(lanes: Lanes, sequence: int = 1, worker: str = "w1") -> Claim:
    (claim,) = (await lanes.claim(worker, sequence, room=1, grace_us=GRACE_US)).claims
    return claim


async def test_a_call_is_stored_claimed_settled_and_answered(lanes: Lanes, redis: "Redis") -> None:
    assert await lanes.enqueue([admission()]) == [Admitted("c1")]
    claim = await claim_one(lanes)
    assert (claim.body, claim.run.state, claim.run.attempts) == (b'{"id":"c1"}', CallState.PROCESSING, 0)
    assert await lanes.settle(ending(claim)) == "settled"
    assert await lanes.inspect("c1") == Ended(event=b'{"id":"c1.result"}', attempts=b"[]")
    assert await lanes.stats() == {"received": 1, "accepted": 1, "completed": 1, "live": 0}
    assert await bodies(redis, TOPICS.results) == [b'{"id":"c1.result"}']
    assert await redis.xlen(TOPICS.events) == 2


async def test_the_same_key_and_payload_is_a_duplicate_and_another_payload_a_conflict(lanes: Lanes) -> None:
    answers = await lanes.enqueue(
        [admission(), admission("c2", scope="scope-c1"), admission("c3", scope="scope-c1", print="p2")]
    )
    assert answers == [Admitted("c1"), Duplicate("c1"), Conflict("c1")]
    assert await lanes.stats() == {"received": 2, "accepted": 1, "duplicates": 1, "live": 1}


async def test_a_duplicate_from_the_bus_publishes_the_stored_result_again_only_after_the_end(
    lanes: Lanes, redis: "Redis"
) -> None:
    async def from_bus(name: str) -> str:
        entry = await deliver(redis)
        await lanes.enqueue([admission(name, scope="scope", entry=entry)])
        return entry

    await from_bus("c1")
    await from_bus("c2")
    assert await redis.xlen(TOPICS.results) == 0
    await lanes.settle(ending(await claim_one(lanes)))
    await from_bus("c3")
    assert await bodies(redis, TOPICS.results) == [b'{"id":"c1.result"}'] * 2
    assert (await redis.xpending(TOPICS.calls, GROUP))["pending"] == 0


async def test_an_entry_that_was_dealt_with_is_not_counted_again(lanes: Lanes, redis: "Redis") -> None:
    entry = await deliver(redis)
    first = admission(entry=entry)
    await lanes.enqueue([first])
    await lanes.enqueue([first])
    await lanes.enqueue([admission("c9", scope="other", entry=entry)])
    refusal = Refusal(entry=entry, counts=["received", "undecodable"], events=[], letter="{}")
    assert await lanes.refuse([refusal]) == ["seen"]
    assert await lanes.stats() == {"received": 1, "accepted": 1, "live": 1}


async def test_a_full_lane_refuses_and_leaves_the_entry_pending(lanes: Lanes, redis: "Redis") -> None:
    entry = await deliver(redis)
    answers = await lanes.enqueue([admission(), admission("c2", limit=1, entry=entry)])
    assert answers == [Admitted("c1"), Full(1)]
    assert (await redis.xpending(TOPICS.calls, GROUP))["pending"] == 1


async def test_the_same_claim_asked_twice_gives_the_same_leases(lanes: Lanes) -> None:
    await lanes.enqueue([admission("c1"), admission("c2")])
    first = await lanes.claim("w1", 7, room=10, grace_us=GRACE_US)
    again = await lanes.claim("w1", 7, room=10, grace_us=GRACE_US)
    assert [(c.id, c.fence) for c in again.claims] == [(c.id, c.fence) for c in first.claims]
    assert len(first.claims) == 2
    assert (await lanes.claim("w1", 8, room=10, grace_us=GRACE_US)).claims == ()


async def test_a_large_claim_gives_every_call_its_own_body_and_fence(redis: "Redis") -> None:
    many = Terms(items=3_000, size_bytes=10_000_000, wait_s=0.01, most_bytes=10**9)
    lanes = Lanes(redis, TOPICS, shard=Shard(), terms=many, plans=dict)
    calls = [
        admission(f"c{n}", lane=f"crm|-|{n % 7 if n % 2 else 'echo'}", body=f"body {n}", limit=9_999)
        for n in range(2_500)
    ]
    await lanes.enqueue(calls)
    claims = (await lanes.claim("w1", 1, room=3_000, grace_us=GRACE_US)).claims
    assert {claim.id: claim.body.decode() for claim in claims} == {call.id: call.body for call in calls}
    assert sorted(claim.fence for claim in claims) == list(range(1, 2_501))
    assert {claim.run.fence - claim.fence for claim in claims} == {0}
    again = (await lanes.claim("w1", 1, room=3_000, grace_us=GRACE_US)).claims
    assert [(claim.id, claim.fence, claim.body) for claim in again] == [(one.id, one.fence, one.body) for one in claims]
    assert (await lanes.claim("w1", 2, room=3_000, grace_us=GRACE_US)).claims == ()
    assert await lanes.mark(Mark(claims[-1].id, claims[-1].fence)) == "marked"


async def test_what_was_taken_before_a_claim_failed_is_leased_and_found_again(lanes: Lanes, redis: "Redis") -> None:
    await lanes.enqueue([admission("c1", lane="a|-|x"), admission("c2", lane="b|-|x")])
    await redis.delete(Shard().key("lane:b|-|x"))
    await redis.set(Shard().key("lane:b|-|x"), "of somebody else")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await lanes.claim("w1", 1, room=10, grace_us=GRACE_US)
    assert await redis.zrange(Shard().key("leases"), 0, -1) == [b"c1"]
    await redis.zadd(Shard().key("leases"), {"c1": 1})
    (found,) = await lanes.reap(most=10, lease_us=1_000_000, gap_us=NEVER, hold_us=0)
    assert (found.id, found.fence, found.run.state) == ("c1", 2, CallState.PROCESSING)
    assert await lanes.settle(ending(found)) == "settled"


async def test_lanes_take_turns(lanes: Lanes) -> None:
    noisy = [admission(f"n{i}", lane="crm|-|noisy") for i in range(50)]
    await lanes.enqueue([*noisy, admission("q1", lane="crm|-|quiet")])
    claims = (await lanes.claim("w1", 1, room=4, grace_us=GRACE_US)).claims
    assert "q1" in [claim.id for claim in claims]
    assert len(claims) == 4


async def test_a_deferred_call_comes_back_when_it_is_due_and_not_before(lanes: Lanes) -> None:
    await lanes.enqueue([admission()])
    claim = await claim_one(lanes)
    due = claim.claimed_us + 150_000
    assert await lanes.settle(deferral(claim, due)) == "settled"
    empty = await lanes.claim("w1", 2, room=1, grace_us=GRACE_US)
    assert (empty.claims, empty.due_us) == ((), due)
    live = await lanes.inspect("c1")
    assert isinstance(live, Live)
    assert live.due_us == due
    await asyncio.sleep(0.2)
    again = await claim_one(lanes, 3)
    assert (again.run.attempts, again.run.effect, again.run.first_us) == (1, Effect.UNKNOWN, 5)


@pytest.mark.parametrize("settlement", [ending, lambda claim: deferral(claim, 0)])
async def test_a_lost_reply_to_settle_changes_nothing_the_second_time(
    lanes: Lanes, redis: "Redis", settlement: Callable[[Claim], Settlement]
) -> None:
    await lanes.enqueue([admission()])
    item = settlement(await claim_one(lanes))
    first = await lanes.settle(item)
    before = (await lanes.stats(), await redis.xlen(TOPICS.results), await redis.xlen(TOPICS.events))
    assert (first, await lanes.settle(item)) in [("settled", "gone"), ("settled", "stale")]
    assert (await lanes.stats(), await redis.xlen(TOPICS.results), await redis.xlen(TOPICS.events)) == before


async def test_a_zombie_with_an_old_fence_can_neither_mark_nor_settle(lanes: Lanes) -> None:
    await lanes.enqueue([admission(timeout_us=1)])
    zombie = (await lanes.claim("w1", 1, room=1, grace_us=1)).claims[0]
    await asyncio.sleep(0.01)
    (heir,) = await lanes.reap(most=10, lease_us=10_000_000, gap_us=NEVER, hold_us=0)
    assert heir.fence > zombie.fence
    assert await lanes.mark(Mark(zombie.id, zombie.fence)) == "lost"
    assert await lanes.settle(ending(zombie)) == "stale"
    assert await lanes.settle(ending(heir)) == "settled"


async def test_a_mark_survives_the_reaper_and_is_refused_when_the_lease_is_too_short(lanes: Lanes) -> None:
    await lanes.enqueue([admission(timeout_us=50_000)])
    claim = (await lanes.claim("w1", 1, room=1, grace_us=30_000)).claims[0]
    assert await lanes.mark(Mark(claim.id, claim.fence)) == "marked"
    await asyncio.sleep(0.04)
    assert await lanes.mark(Mark(claim.id, claim.fence)) == "lost"
    await asyncio.sleep(0.06)
    (heir,) = await lanes.reap(most=10, lease_us=1, gap_us=NEVER, hold_us=0)
    await asyncio.sleep(0.01)
    (second,) = await lanes.reap(most=10, lease_us=1, gap_us=NEVER, hold_us=0)
    assert heir.run.marked == second.run.marked == claim.fence


async def test_a_waiting_call_can_be_seized_once_and_a_running_one_not(lanes: Lanes) -> None:
    await lanes.enqueue([admission()])
    claim = await lanes.seize("c1")
    assert isinstance(claim, Claim)
    assert await lanes.seize("c1") == "busy"
    await lanes.settle(ending(claim, CallState.CANCELLED))
    assert await lanes.seize("c1") == "gone"
    assert (await lanes.claim("w1", 1, room=5, grace_us=GRACE_US)).claims == ()


async def test_trimming_stops_at_what_a_group_has_not_finished(lanes: Lanes, redis: "Redis") -> None:
    added = [await redis.xadd(TOPICS.calls, {"data": str(i)}) for i in range(5)]
    await redis.xreadgroup(GROUP, "w1", {TOPICS.calls: ">"}, count=3)
    await redis.xack(TOPICS.calls, GROUP, added[0])
    await lanes.trim(TOPICS.calls, GROUP, keep_us=0, wait_us=0)
    assert await keys(redis, TOPICS.calls) == added[1:]
    await redis.xgroup_create(TOPICS.calls, "foreign", id="0")
    await redis.xack(TOPICS.calls, GROUP, *added[1:3])
    await lanes.trim(TOPICS.calls, GROUP, keep_us=0, wait_us=60_000_000)
    assert await redis.xlen(TOPICS.calls) == 4
    await lanes.trim(TOPICS.calls, GROUP, keep_us=0, wait_us=0)
    assert await keys(redis, TOPICS.calls) == added[3:]


async def test_nothing_is_trimmed_while_our_group_is_missing(lanes: Lanes, redis: "Redis") -> None:
    await redis.flushall()
    await redis.xadd(TOPICS.calls, {"data": "published before anybody listened"})
    assert await lanes.trim(TOPICS.calls, GROUP, keep_us=0, wait_us=0) == 0
    assert await redis.xlen(TOPICS.calls) == 1


async def test_a_consumer_that_was_given_something_meanwhile_is_not_forgotten(lanes: Lanes, redis: "Redis") -> None:
    entry = await deliver(redis)
    assert await lanes.retire(TOPICS.calls, "w1") is False
    assert (await redis.xpending(TOPICS.calls, GROUP))["pending"] == 1
    await redis.xack(TOPICS.calls, GROUP, entry)
    assert await lanes.retire(TOPICS.calls, "w1") is True
    assert await redis.xinfo_consumers(TOPICS.calls, GROUP) == []


async def test_after_an_outage_live_workers_settle_first_and_only_then_are_leases_taken_over(lanes: Lanes) -> None:
    await lanes.enqueue([admission("c1", timeout_us=1), admission("c2", timeout_us=1)])
    first, second = (await lanes.claim("w1", 1, room=2, grace_us=1)).claims
    await asyncio.sleep(0.01)
    assert await lanes.reap(most=10, lease_us=1, gap_us=2_000_000, hold_us=100_000) == ()
    assert await lanes.settle(ending(first)) == "settled"
    await asyncio.sleep(0.12)
    (heir,) = await lanes.reap(most=10, lease_us=10_000_000, gap_us=2_000_000, hold_us=100_000)
    assert heir.id == second.id


async def test_a_key_of_another_type_stops_a_script_before_its_first_write(lanes: Lanes, redis: "Redis") -> None:
    await redis.set(TOPICS.events, "not a stream")
    waiting = asyncio.create_task(lanes.enqueue([admission()]))
    await asyncio.sleep(0.05)
    assert await lanes.stats() == {"live": 0}
    assert await redis.exists("{s0}:calls", "{s0}:idem:scope-c1") == 0
    await redis.delete(TOPICS.events)
    assert await waiting == [Admitted("c1")]


async def test_calls_in_back_off_and_in_hand_count_against_the_bound_of_their_lane(lanes: Lanes) -> None:
    await lanes.enqueue([admission("c1"), admission("c2")])
    claims = (await lanes.claim("w1", 1, room=2, grace_us=GRACE_US)).claims
    await lanes.settle(deferral(claims[0], claims[0].claimed_us + 60_000_000))
    assert await lanes.enqueue([admission("c3", limit=2)]) == [Full(2)]
    await lanes.settle(ending(claims[1]))
    assert await lanes.enqueue([admission("c4", limit=2)]) == [Admitted("c4")]


async def test_two_installations_on_one_redis_share_nothing_but_the_server(redis: "Redis") -> None:
    one = Lanes(redis, Topics("a-"), shard=Shard("a-"), terms=TERMS, plans=dict)
    other = Lanes(redis, Topics("b-"), shard=Shard("b-"), terms=TERMS, plans=dict)
    await one.enqueue([admission()])
    assert (await other.claim("w1", 1, room=1, grace_us=GRACE_US)).claims == ()
    assert (await other.stats(), (await one.stats())["live"]) == ({"live": 0}, 1)


async def test_a_large_batch_flies_in_parts_and_the_answers_keep_their_order(redis: "Redis") -> None:
    small = Lanes(redis, TOPICS, shard=Shard(), terms=replace(TERMS, items=3, size_bytes=50_000), plans=dict)
    sizes = [10, 60_000, 10, 10, 30_000, 30_000, 10]
    calls = [admission(f"c{n}", body="x" * size) for n, size in enumerate(sizes)]
    assert await small.enqueue(calls) == [Admitted(f"c{n}") for n in range(len(sizes))]

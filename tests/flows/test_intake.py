"""Intake: every event has exactly one fate, however it comes, however often, and whoever else comes at the same time."""

import asyncio
import random
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from dlq.redaction import Sealer
from gateway.policy.admission import Refuse
from gateway.ports import Admitted, Duplicate
from schemas import trace
from schemas.failure import Failure
from schemas.moment import stamp
from schemas.tool_call import ToolCallData
from tests.flows.stage import CREATE, GET, TOPICS, TRACEPARENT, Stage, event, open_stage
from tests.flows.test_bad_input import RESULT

KEY = "run-42/step-3"
PAST = "2020-01-01T00:00:00Z"


async def everything(stage: Stage) -> Any:
    """Return all that intake may have changed."""
    streams = (TOPICS.results, TOPICS.events, TOPICS.letters)
    return await stage.books(), [await stage.topic(stream) for stream in streams], await stage.unacknowledged()


async def test_an_event_becomes_a_call_that_is_told_once(stage: Stage) -> None:
    await stage.take_in(event(session="run-42", confidence=0.82, priority="batch", idempotency_key=KEY))
    (accepted,) = await stage.events()
    data = accepted["data"]
    assert (accepted["type"], accepted["id"]) == ("tool.call.accepted", f"{data['call']}.1")
    assert (accepted["subject"], accepted["traceparent"]) == (CREATE, TRACEPARENT)
    assert (data["seq"], data["state"], data["agent"], data["session"]) == (1, "pending", "research-7", "run-42")
    assert (data["idempotency_key"], data["confidence"], data["priority"]) == (KEY, 0.82, "batch")
    assert data["request"] == {"source": "agent/research-7", "id": "e-1"}
    assert await stage.books() == {"received": 1, "accepted": 1, "live": 1}
    assert await stage.unacknowledged() == 0


async def test_an_event_without_a_lawful_trace_gets_one_that_stays(stage: Stage) -> None:
    await stage.take_in(event().replace(TRACEPARENT.encode(), b"00-nonsense"))
    await stage.run()
    (accepted, *_), (result,) = await stage.events(), await stage.results()
    assert trace.valid(accepted["traceparent"])
    assert result["traceparent"] == accepted["traceparent"] != TRACEPARENT


async def test_a_duplicate_is_silent_while_the_first_is_live_and_answered_afterwards(stage: Stage) -> None:
    first, second = (event(idempotency_key=KEY, at=("agent/a", f"e-{n}")) for n in (1, 2))
    await stage.take_in(first, second)
    assert await stage.results() == []
    await stage.run()
    await stage.take_in(second)
    results = await stage.results()
    assert len(results) == 2
    assert results[0] == results[1]
    assert len(stage.vendor.seen) == 1
    assert await stage.books() == {"received": 3, "accepted": 1, "completed": 1, "duplicates": 2, "live": 0}


async def test_a_late_duplicate_of_a_finished_call_is_still_answered(stage: Stage) -> None:
    soon = stamp(stage.clock.now + timedelta(seconds=60))
    await stage.take_in(event(deadline=soon))
    await stage.run()
    stage.clock.forward(3600)
    await stage.take_in(event(deadline=soon))
    assert [result["data"]["state"] for result in await stage.results()] == ["completed"] * 2
    assert (await stage.books())["duplicates"] == 1


async def test_a_duplicate_finds_its_call_in_a_full_lane(stage: Stage) -> None:
    narrow = stage.intake_with(queue_limit=1)
    await narrow.from_bus(await stage.publish(event(), event()))
    assert await stage.books() == {"received": 2, "accepted": 1, "duplicates": 1, "live": 1}


async def test_another_payload_under_the_same_key_is_a_conflict_and_nothing_else(stage: Stage) -> None:
    await stage.take_in(event(idempotency_key=KEY))
    events = await stage.events()
    await stage.take_in(event(CREATE, {"email": "x@y.z"}, idempotency_key=KEY, at=("agent/b", "e-9")))
    (result,) = await stage.results()
    data = result["data"]
    assert (result["type"], data["error"]["class"]) == ("tool.call.rejected", "ingest.duplicate_conflict")
    assert set(data) == RESULT
    assert (data["request"], data["idempotency_key"]) == ({"source": "agent/b", "id": "e-9"}, KEY)
    assert data["call"] != events[0]["data"]["call"]
    assert await stage.books() == {"received": 2, "accepted": 1, "conflicts": 1, "live": 1}
    assert (await stage.events(), await stage.letters(), await stage.unacknowledged()) == (events, [], 0)


async def test_over_http_a_conflict_is_refused_and_a_duplicate_leads_to_the_first(stage: Stage) -> None:
    async def ask(email: str) -> Admitted | Duplicate | Refuse:
        data = ToolCallData(tool=CREATE, arguments={"email": email}, idempotency_key=KEY)
        return await stage.intake.from_http(data, agent="a", key=None, traceparent=None)

    first, again, other = await ask("a@b.c"), await ask("a@b.c"), await ask("x@y.z")
    assert isinstance(first, Admitted)
    assert again == Duplicate(first.call)
    assert isinstance(other, Refuse)
    assert other.failure is Failure.INGEST_DUPLICATE_CONFLICT
    assert first.call in other.message
    assert await stage.books() == {"received": 2, "accepted": 1, "duplicates": 1, "live": 1}
    assert await stage.results() == []


async def test_a_hundred_at_once_under_one_key_are_one_call_and_one_answer(stage: Stage) -> None:
    published = await stage.publish(*(event(idempotency_key=KEY, at=("agent/a", f"e-{n}")) for n in range(50)))
    data = ToolCallData(tool=CREATE, arguments={"email": "a@b.c"}, idempotency_key=KEY)
    ways: list[Coroutine[Any, Any, Any]] = [stage.intake.from_bus([entry]) for entry in published]
    ways += [stage.intake.from_http(data, agent="a", key=None, traceparent=None) for _ in range(50)]
    random.Random(7).shuffle(ways)
    told = await asyncio.gather(*ways)
    assert [answer for answer in told if isinstance(answer, list)] == [[]] * 50  # of the bus, nothing is left waiting
    answers = [answer for answer in told if not isinstance(answer, list)]
    (accepted,) = await stage.events()
    assert {answer.call for answer in answers} == {accepted["data"]["call"]}
    assert sum(isinstance(answer, Admitted) for answer in answers) <= 1
    assert await stage.books() == {"received": 100, "accepted": 1, "duplicates": 99, "live": 1}
    await stage.run()
    assert len(stage.vendor.seen) == 1
    assert (await stage.result())["call"] == accepted["data"]["call"]


async def test_a_hundred_at_once_under_one_key_with_two_payloads_are_one_call(stage: Stage) -> None:
    bodies = [event(CREATE, {"email": f"{n % 2}"}, idempotency_key=KEY, at=("agent/a", f"e-{n}")) for n in range(100)]
    await asyncio.gather(*(stage.intake.from_bus([entry]) for entry in await stage.publish(*bodies)))
    assert await stage.books() == {"received": 100, "accepted": 1, "duplicates": 49, "conflicts": 50, "live": 1}
    assert len(await stage.results()) == 50
    assert await stage.unacknowledged() == 0


async def test_an_event_that_kills_its_readers_is_dead_lettered_without_being_read(stage: Stage) -> None:
    (entry,) = await stage.publish(event())
    await stage.intake.poison(entry)
    (letter,) = await stage.letters()
    assert letter["data"]["failure"]["class"] == "poison.crash_loop"
    assert letter["data"]["raw"]["bytes"]["size"] == len(entry.raw)
    assert await stage.books() == {"received": 1, "undecodable": 1, "live": 0}
    assert await stage.unacknowledged() == 0


async def test_a_death_between_the_two_scripts_of_a_batch_leaves_nothing_undone_and_nothing_done_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    conflict = event(CREATE, {"email": "x"}, idempotency_key=KEY, at=("agent/b", "e-2"))
    entries = await stage.publish(event(idempotency_key=KEY), conflict, event("no.such"), b"{")

    async def die(*_: object) -> list[str]:
        raise RedisConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(stage.lanes, "refuse", die)
        with pytest.raises(RedisConnectionError):
            await stage.intake.from_bus(entries)
    assert await stage.unacknowledged() == 3
    await stage.intake.from_bus(entries)
    assert await stage.books() == {
        "received": 4,
        "accepted": 2,
        "rejected": 1,
        "conflicts": 1,
        "undecodable": 1,
        "live": 1,
    }
    assert await stage.unacknowledged() == 0


requests = st.builds(
    event,
    st.sampled_from([CREATE, GET, GET, "no.such", "bank.pay"]),
    st.sampled_from([{}, {"email": "a"}, {"email": "b"}]),
    at=st.tuples(st.sampled_from(["agent/a", "agent/b"]), st.sampled_from(["1", "2", "3"])),
    idempotency_key=st.sampled_from([None, "k1", "k2"]),
    deadline=st.sampled_from([None, None, None, PAST]),
    priority=st.sampled_from(["normal", "normal", "urgent"]),
)
cut = st.builds(lambda raw, length: raw[:length], requests, st.integers(0, 200))
bodies = st.lists(st.binary(max_size=40) | requests | requests | cut, max_size=10)


@settings(max_examples=20, deadline=None)
@given(bodies, st.randoms(use_true_random=False))
def test_any_bytes_have_one_fate_and_redelivery_changes_nothing(
    redis_url: str, sealer: Sealer, events: list[bytes], dice: random.Random
) -> None:
    asyncio.run(_one_fate(redis_url, sealer, events, dice))


async def _one_fate(redis_url: str, sealer: Sealer, events: list[bytes], dice: random.Random) -> None:
    async with open_stage(redis_url, sealer) as stage:
        narrow = stage.intake_with(queue_limit=3)
        entries = await stage.publish(*events)
        await narrow.from_bus(entries)
        before = await everything(stage)
        books, (results, _, letters), pending = before
        assert (books.get("received", 0), pending) == (len(events), 0)
        refused = [result["data"]["error"]["class"] for result in results]
        assert len(letters) == books.get("undecodable", 0)
        assert refused.count("ingest.duplicate_conflict") == books.get("conflicts", 0)
        assert len(refused) == books.get("conflicts", 0) + books.get("rejected", 0)
        dice.shuffle(entries)
        await narrow.from_bus(entries)
        for entry in entries[:3]:
            await stage.intake.from_bus([entry, entry])
        assert await everything(stage) == before

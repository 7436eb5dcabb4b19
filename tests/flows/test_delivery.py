"""Delivery: one claim, one attempt, one decision; retries that keep every bound, and ends that tell the truth."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlq.redaction import Sealer
from schemas.effect import REPEATABLE, Effect, OperationClass
from schemas.failure import FACTS, Failure
from schemas.lifecycle import DEAD_LETTERED
from schemas.moment import microseconds, stamp
from schemas.outcome import Outcome
from tests.flows.stage import (
    BACKOFF,
    BY_CLASS,
    CREATE,
    GET,
    MAX_ATTEMPTS,
    PUT,
    SEND,
    SHARD,
    TRACEPARENT,
    WINDOW_S,
    Stage,
    done,
    event,
    fails,
    open_stage,
)
from tests.flows.test_bad_input import ENVELOPE, ERROR, RESULT

TOO_MANY = fails(Failure.HTTP_TOO_MANY)
REFUSED = fails(Failure.CONNECT_REFUSED)
RESET = fails(Failure.RECEIVE_RESET)


async def through(stage: Stage, tool: str, *script: Any, **data: Any) -> dict[str, Any]:
    """Take one call in, let the vendor play its script, and return the result."""
    stage.vendor.script = list(script)
    await stage.take_in(event(tool, **data))
    await stage.run()
    return await stage.result()


def waits_s(stage: Stage, started: datetime) -> list[float]:
    """Return how long each retry was put off, in seconds after the one before."""
    due = [microseconds(started), *(one.due_us for one in stage.lanes.settlements if one.due_us is not None)]
    return [(after - before) / 1_000_000 for before, after in pairwise(due)]


async def test_a_call_that_succeeds_is_told_in_the_stable_shape(stage: Stage) -> None:
    stage.clock.now = stage.clock.now.replace(microsecond=0)
    await stage.take_in(event(session="run-42", idempotency_key="k1"))
    stage.clock.forward(0.412)
    await stage.run()
    (result,) = await stage.results()
    data = result["data"]
    assert set(result) - {"datacontenttype"} == ENVELOPE
    assert (result["type"], result["id"]) == ("tool.call.completed", f"{data['call']}.result")
    assert set(data) == RESULT
    assert (data["state"], data["effect"], data["http_status"], data["result"]) == (
        "completed",
        "executed",
        201,
        {"id": "c1"},
    )
    assert (data["attempts"], data["queued_ms"], data["duration_ms"]) == (1, 412, 7)
    assert (data["session"], data["idempotency_key"], data["error"]) == ("run-42", "k1", None)
    assert data["summary"] == "Done on the first attempt."
    assert await stage.letters() == []


async def test_being_told_to_wait_spends_no_attempt_and_is_obeyed(stage: Stage) -> None:
    started = stage.clock.now
    data = await through(stage, SEND, *[fails(Failure.HTTP_TOO_MANY, retry_after_s=30.0)] * (MAX_ATTEMPTS + 2))
    assert (data["state"], data["attempts"]) == ("completed", MAX_ATTEMPTS + 3)
    assert all(30 <= wait <= 33.001 for wait in waits_s(stage, started))
    assert [one.attempts for one in stage.lanes.settlements[:-1]] == [0] * (MAX_ATTEMPTS + 2)


async def test_attempts_are_spent_and_then_the_call_is_given_up(stage: Stage) -> None:
    started = stage.clock.now
    data = await through(stage, SEND, *[REFUSED] * 9)
    assert (data["state"], data["effect"], data["attempts"]) == ("failed", "not_executed", MAX_ATTEMPTS)
    assert len(stage.vendor.seen) == MAX_ATTEMPTS
    assert [round(wait, 3) for wait in waits_s(stage, started)] == [0.5, 1.0]
    assert set(data["error"]) - {"errors"} == ERROR
    assert (data["error"]["class"], data["error"]["retryable"]) == ("connect.refused", True)
    (letter,) = await stage.letters()
    assert letter["data"]["failure"]["retry_verdict"] == "max_attempts"
    assert (letter["id"], letter["data"]["attempts"]["total"]) == (data["error"]["dead_letter"], MAX_ATTEMPTS)


async def test_an_answer_that_no_repeat_can_change_ends_the_call_at_once(stage: Stage) -> None:
    data = await through(stage, SEND, fails(Failure.HTTP_BAD_REQUEST, status=400))
    assert (data["state"], data["effect"], data["http_status"], data["attempts"]) == ("failed", "not_executed", 400, 1)


async def test_what_ran_but_cannot_be_read_is_never_sent_again(stage: Stage) -> None:
    data = await through(stage, PUT, fails(Failure.SCHEMA_UNDECODABLE, status=200))
    assert (data["state"], data["effect"], len(stage.vendor.seen)) == ("failed", "executed", 1)


@pytest.mark.parametrize("op_class", OperationClass)
async def test_a_lost_answer_is_asked_for_again_or_left_to_a_person_by_class(
    op_class: OperationClass, stage: Stage
) -> None:
    lost = fails(Failure.RECEIVE_TIMEOUT)
    if op_class is OperationClass.SAFE:
        lost = fails(Failure.RECEIVE_TIMEOUT, effect=Effect.NOT_EXECUTED)
    data = await through(stage, BY_CLASS[op_class], lost)
    assert {call.vendor_key for call in stage.vendor.seen} == {stage.vendor.seen[0].vendor_key}
    if op_class in REPEATABLE:
        assert (data["state"], len(stage.vendor.seen)) == ("completed", 2)
    else:
        assert (data["state"], data["effect"], len(stage.vendor.seen)) == ("escalated", "unknown", 1)
        assert data["error"]["action"].endswith("--done | --not-done")


async def test_a_key_in_doubt_is_used_again_inside_its_window(stage: Stage) -> None:
    data = await through(stage, CREATE, RESET, RESET)
    assert (data["state"], data["effect"], len(stage.vendor.seen)) == ("completed", "executed", 3)


async def test_a_key_in_doubt_is_never_used_again_once_the_vendor_may_have_forgotten_it(stage: Stage) -> None:
    stage.vendor.script = [RESET]
    await stage.take_in(event(CREATE))
    await stage.deliver(await stage.claim_one())
    stage.clock.forward(WINDOW_S)  # nobody claimed for so long
    await stage.run()
    data = await stage.result()
    assert (data["state"], data["effect"], len(stage.vendor.seen)) == ("escalated", "unknown", 1)
    assert len(await stage.letters()) == 1


async def test_a_retry_that_would_come_after_the_window_is_not_even_scheduled(stage: Stage) -> None:
    data = await through(stage, CREATE, fails(Failure.HTTP_UNAVAILABLE, retry_after_s=2 * WINDOW_S))
    assert (data["state"], data["effect"], len(stage.vendor.seen)) == ("escalated", "unknown", 1)


async def test_a_key_that_was_never_in_doubt_outlives_its_window(stage: Stage) -> None:
    data = await through(stage, CREATE, fails(Failure.HTTP_TOO_MANY, retry_after_s=2 * WINDOW_S))
    assert (data["state"], len(stage.vendor.seen)) == ("completed", 2)


async def test_a_claim_that_was_held_too_long_is_given_back_untouched(stage: Stage) -> None:
    await stage.take_in(event(SEND))
    claim, held_s = await stage.claim_one(), stage.ambient.monotonic()
    stage.clock.forward(2.1)
    assert await stage.delivery.deliver(claim, held_s) == "settled"
    assert stage.vendor.seen == []
    assert [one["type"] for one in await stage.events()] == ["tool.call.accepted"]
    again = await stage.claim_one()
    assert (again.run.attempts, again.run.tries, again.run.crashes, again.run.seq) == (0, 0, 0, 1)
    await stage.deliver(again)
    assert (await stage.result())["attempts"] == 1


@pytest.mark.parametrize("changes", [{"operations": {}}, {"connections": {}}])
async def test_a_call_whose_manifest_is_not_loaded_waits_for_who_has_it(changes: dict[str, Any], stage: Stage) -> None:
    await stage.take_in(event("bank.pay", connection="main"))
    whole, stage.catalog = stage.catalog, replace(stage.catalog, **changes)
    await stage.deliver(await stage.claim_one())
    given_back = stage.lanes.settlements[-1]
    assert (given_back.state, given_back.attempts, given_back.events) == ("pending", 0, [])
    assert given_back.due_us is not None
    assert given_back.due_us > microseconds(stage.clock.now)
    stage.catalog = whole
    await stage.run()
    data = await stage.result()
    assert (data["state"], data["attempts"], len(stage.vendor.seen)) == ("completed", 1, 1)


@pytest.mark.parametrize("changes", [{"operations": {}}, {"connections": {}}])
async def test_a_call_whose_manifest_never_comes_back_expires(changes: dict[str, Any], stage: Stage) -> None:
    deadline = stamp(stage.clock.now + timedelta(seconds=60))
    await stage.take_in(event("bank.pay", connection="main", deadline=deadline))
    stage.catalog = replace(stage.catalog, **changes)
    await stage.run()
    data = await stage.result()
    assert (data["state"], data["effect"], data["attempts"]) == ("expired", "not_executed", 0)
    assert (stage.vendor.seen, await stage.letters()) == ([], [])


async def test_a_call_that_did_not_start_in_time_expires(stage: Stage) -> None:
    await stage.take_in(event(deadline=stamp(stage.clock.now + timedelta(seconds=60))))
    stage.clock.forward(60.001)
    await stage.run()
    data = await stage.result()
    assert (data["state"], data["effect"], data["attempts"]) == ("expired", "not_executed", 0)
    assert (data["error"]["class"], data["error"]["dead_letter"]) == ("deadline.passed", None)
    assert (stage.vendor.seen, await stage.letters()) == ([], [])


@pytest.mark.parametrize(
    ("lost", "state", "effect"), [(REFUSED, "expired", "not_executed"), (RESET, "failed", "unknown")]
)
async def test_a_retry_that_would_start_too_late_is_not_scheduled(
    lost: Outcome, state: str, effect: str, stage: Stage
) -> None:
    soon = stamp(stage.clock.now + timedelta(seconds=0.4))
    data = await through(stage, PUT, lost, deadline=soon)
    assert (data["state"], data["effect"], len(stage.vendor.seen)) == (state, effect, 1)
    assert len(await stage.letters()) == (state == "failed")


async def test_an_exhausted_budget_delays_retries_and_buries_none(stage: Stage) -> None:
    stage.vendor.script = [TOO_MANY] * 60
    started = stage.clock.now
    await stage.take_in(*(event(GET, at=("agent/a", f"e-{n}")) for n in range(60)))
    for claim in await stage.claim():
        await stage.deliver(claim)
    due_s = sorted(((one.due_us or 0) - microseconds(started)) / 1_000_000 for one in stage.lanes.settlements)
    assert due_s[-1] == pytest.approx((60 - 3 - 60 * 0.2) / 3, abs=0.1)
    assert due_s[0] == pytest.approx(0.5)
    await stage.run()
    assert (await stage.books())["completed"] == 60


async def test_a_retry_that_does_not_happen_draws_nothing_from_the_budget(stage: Stage) -> None:
    stage.vendor.script = [fails(Failure.HTTP_TOO_MANY, retry_after_s=86_400.0)] * 50 + [REFUSED]
    await stage.take_in(*(event(GET, at=("agent/a", f"e-{n}")) for n in range(51)))
    started = stage.clock.now
    for claim in await stage.claim():
        await stage.deliver(claim)
    assert (await stage.books())["expired"] == 50
    assert waits_s(stage, started)[0] <= BACKOFF.base_s


async def test_a_long_history_keeps_its_newest_lines_and_its_true_length(stage: Stage) -> None:
    await through(stage, SEND, *[TOO_MANY] * 25, fails(Failure.HTTP_BAD_REQUEST))
    data = await stage.result()
    (letter,) = await stage.letters()
    attempts = letter["data"]["attempts"]
    assert data["attempts"] == attempts["total"] == 26
    assert [one["n"] for one in attempts["newest"]] == list(range(7, 27))
    assert attempts["newest"][-1]["outcome"] == "http.400"
    kept = [json.loads(one.attempts_json) for one in stage.lanes.settlements]
    assert [len(history) for history in kept] == [*range(1, 21), *[20] * 6]


@pytest.mark.parametrize(("outcome", "kept"), [(fails(Failure.HTTP_BAD_REQUEST), True), (done(), False)])
async def test_a_key_is_remembered_as_long_as_its_letter_is_open(outcome: Outcome, kept: bool, stage: Stage) -> None:  # noqa: FBT001
    await through(stage, SEND, outcome)
    (scope,) = await stage.redis.keys(SHARD.key("idem:*").replace("{", "[{]"))
    lasts_s = await stage.redis.ttl(scope)
    assert (lasts_s == -1) == kept
    assert lasts_s <= 86_400


async def test_the_trace_of_the_event_is_the_trace_of_all_that_follows(stage: Stage) -> None:
    await through(stage, SEND, TOO_MANY, RESET)
    (letter,), (result,), events = await stage.letters(), await stage.results(), await stage.events()
    assert {call.traceparent for call in stage.vendor.seen} == {TRACEPARENT}
    assert {one["traceparent"] for one in [letter, result, *events]} == {TRACEPARENT}
    assert letter["data"]["identity"]["traceparent"] == TRACEPARENT


async def test_the_story_of_a_call_is_told_in_order(stage: Stage) -> None:
    await through(stage, GET, TOO_MANY, fails(Failure.CONNECT_REFUSED))
    events = await stage.events()
    kinds = [one["type"].removeprefix("tool.call.") for one in events]
    assert kinds == ["accepted", "attempted", "attempted", "attempted", "settled"]
    assert [one["data"]["state"] for one in events][-1] == "completed"
    assert [one["data"]["attempt"]["n"] for one in events[1:4]] == [1, 2, 3]
    assert_in_order(events)


def assert_in_order(events: list[dict[str, Any]]) -> None:
    """Hold the lifecycle events against their law: unique ids, and for each call a strictly rising `seq`."""
    assert max(Counter(one["id"] for one in events).values()) == 1
    told: dict[str, int] = {}
    for one in events:
        data = one["data"]
        assert one["id"] == f"{data['call']}.{data['seq']}"
        assert data["seq"] > told.get(data["call"], 0)
        told[data["call"]] = data["seq"]


vendors = st.lists(
    st.builds(
        lambda failure, wait: fails(failure, retry_after_s=wait), st.sampled_from(Failure), st.sampled_from([None, 2.0])
    ).filter(lambda outcome: outcome.failure not in {Failure.DEADLINE_PASSED, Failure.CANCELLED}),
    max_size=4,
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(OperationClass), vendors), min_size=1, max_size=4))
def test_whatever_the_vendor_does_every_call_comes_to_one_truthful_end(
    redis_url: str, sealer: Sealer, plots: list[tuple[OperationClass, list[Outcome]]]
) -> None:
    asyncio.run(_truthful_ends(redis_url, sealer, plots))


async def _truthful_ends(redis_url: str, sealer: Sealer, plots: list[tuple[OperationClass, list[Outcome]]]) -> None:
    async with open_stage(redis_url, sealer) as stage:
        for number, (op_class, script) in enumerate(plots):
            stage.vendor.script = [_seen_by(op_class, outcome) for outcome in script]
            await stage.take_in(event(BY_CLASS[op_class], at=("agent/a", f"e-{number}")))
            await stage.run()
            _assert_truthful((await stage.results())[-1]["data"], op_class, script)
        assert len(await stage.results()) == len(plots)
        ends = [one["data"]["call"] for one in await stage.results() if one["data"]["state"] in DEAD_LETTERED]
        assert [one["data"]["identity"]["call"] for one in await stage.letters()] == ends
        assert_in_order(await stage.events())
        assert (await stage.books())["live"] == 0


def _seen_by(op_class: OperationClass, outcome: Outcome) -> Outcome:
    """Return the outcome as classify sees it: reading never changes anything."""
    return (
        fails(outcome.failure or Failure.INTERNAL_BUG, effect=Effect.NOT_EXECUTED)
        if op_class is OperationClass.SAFE
        else outcome
    )


def _assert_truthful(data: dict[str, Any], op_class: OperationClass, script: list[Outcome]) -> None:
    played = script[: data["attempts"]]
    effects = [FACTS[outcome.failure].effect for outcome in played if outcome.failure]
    completed = data["attempts"] > len(script)
    assert (data["state"] == "completed") == completed
    assert (data["error"] is None) == completed
    assert (data["state"] in DEAD_LETTERED) == bool(data["error"] and data["error"]["dead_letter"])
    if op_class not in REPEATABLE:
        assert Effect.UNKNOWN not in effects[: data["attempts"] - 1]
    if data["state"] in {"expired", "cancelled"}:
        assert data["effect"] == "not_executed"
    if op_class is not OperationClass.SAFE and Effect.EXECUTED in effects:
        assert data["effect"] == "executed"

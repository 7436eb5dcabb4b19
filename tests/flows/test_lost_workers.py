"""A worker dies with a call in its hands: what may have been sent is in doubt, the rest goes on as if nothing had happened."""

from typing import Any

import pytest

from gateway.ports import Claim, Mark
from schemas.effect import REPEATABLE, OperationClass
from schemas.failure import Failure
from schemas.outcome import Outcome
from tests.flows.stage import (
    BY_CLASS,
    CREATE,
    GET,
    MAX_CRASHES,
    PUT,
    SEND,
    WINDOW_S,
    Stage,
    done,
    event,
    fails,
)

FAR_US = 10**16
"""Later than anything a test does, microseconds since 1970."""
MARKED = sorted(set(OperationClass) - REPEATABLE)


async def lost(stage: Stage, tool: str, *, marked: bool = False) -> Claim:
    """Let a worker claim one call, perhaps begin to send it, and die."""
    await stage.take_in(event(tool))
    claim = await stage.claim_one()
    if marked:
        assert await stage.lanes.mark(Mark(claim.id, claim.fence)) == "marked"
    await stage.recover()
    return claim


async def end(stage: Stage) -> tuple[Any, ...]:
    """Return the state, the effect, the class and how often the vendor saw the call."""
    data = await stage.result()
    return data["state"], data["effect"], data["error"] and data["error"]["class"], len(stage.vendor.seen)


@pytest.mark.parametrize("op_class", sorted(REPEATABLE))
async def test_what_may_be_repeated_is_repeated_with_the_same_key(op_class: OperationClass, stage: Stage) -> None:
    claim = await lost(stage, BY_CLASS[op_class])
    (again,) = await stage.claim()
    assert again.body == claim.body
    assert again.run.effect == ("not_executed" if op_class is OperationClass.SAFE else "unknown")
    await stage.deliver(again)
    assert (await end(stage))[0] == "completed"


@pytest.mark.parametrize("op_class", MARKED)
async def test_without_a_mark_nothing_was_sent_and_the_call_waits_again(op_class: OperationClass, stage: Stage) -> None:
    await lost(stage, BY_CLASS[op_class])
    again = await stage.claim_one()
    assert (again.run.effect, again.run.tries, again.run.crashes) == ("not_executed", 0, 1)
    await stage.deliver(again)
    assert await end(stage) == ("completed", "executed", None, 1)
    assert (await stage.result())["attempts"] == 1


@pytest.mark.parametrize("op_class", MARKED)
async def test_with_a_mark_a_person_must_decide(op_class: OperationClass, stage: Stage) -> None:
    await lost(stage, BY_CLASS[op_class], marked=True)
    await stage.run()
    assert await end(stage) == ("escalated", "unknown", "send.worker_lost", 0)
    (letter,) = await stage.letters()
    assert letter["data"]["effect"]["evidence"] == "worker_lost_after_intent"
    assert letter["data"]["attempts"]["total"] == 1


async def test_a_mark_of_an_attempt_that_ended_proves_nothing_about_the_next(stage: Stage) -> None:
    stage.vendor.script = [fails(Failure.CONNECT_REFUSED)]
    await stage.take_in(event(SEND))
    await stage.deliver(await stage.claim_one())
    await stage.claim_one()
    await stage.recover()
    await stage.run()
    assert await end(stage) == ("completed", "executed", None, 2)


async def test_a_key_whose_window_closed_while_nobody_worked_is_left_to_a_person(stage: Stage) -> None:
    await stage.take_in(event(CREATE))
    await stage.claim_one()
    stage.clock.forward(WINDOW_S + 60)
    await stage.recover()
    await stage.run()
    assert await end(stage) == ("escalated", "unknown", "send.worker_lost", 0)


@pytest.mark.parametrize(
    ("tool", "state", "effect"),
    [(GET, "failed", "not_executed"), (PUT, "failed", "unknown"), (SEND, "failed", "not_executed")],
)
async def test_a_call_that_kills_worker_after_worker_is_taken_out(
    tool: str, state: str, effect: str, stage: Stage
) -> None:
    await lost(stage, tool)
    for _ in range(MAX_CRASHES - 1):
        assert await stage.results() == []
        await stage.claim_one()
        await stage.recover()
    assert await end(stage) == (state, effect, "poison.crash_loop", 0)
    (letter,) = await stage.letters()
    assert letter["data"]["failure"]["retry_verdict"] == "crash_loop"
    assert await stage.claim() == ()


async def test_a_lost_worker_that_comes_back_changes_nothing(stage: Stage) -> None:
    zombie = await lost(stage, SEND)
    heir = await stage.claim_one()
    assert await stage.deliver(zombie) == "stale"
    assert stage.vendor.seen == []  # its mark was refused
    assert await stage.deliver(heir) == "settled"
    assert await stage.deliver(zombie) == "gone"
    assert await end(stage) == ("completed", "executed", None, 1)


async def test_a_reply_that_comes_after_the_lease_is_not_believed_twice(stage: Stage) -> None:
    async def slow() -> Outcome:
        await stage.recover()
        return done()

    stage.vendor.script = [slow]
    await stage.take_in(event(SEND))
    assert await stage.deliver(await stage.claim_one()) == "gone"
    assert await end(stage) == ("escalated", "unknown", "send.worker_lost", 1)


async def test_a_lease_that_ends_after_the_deadline_expires_what_was_never_sent(stage: Stage) -> None:
    await stage.take_in(event(SEND))
    await stage.claim_one()
    stage.clock.forward(86_401)
    await stage.recover()
    assert await end(stage) == ("expired", "not_executed", "deadline.passed", 0)


async def test_a_lost_worker_spends_no_attempt_and_draws_no_budget(stage: Stage) -> None:
    for number in range(MAX_CRASHES - 1):
        if number == 0:
            await stage.take_in(event(PUT))
        await stage.claim_one()
        await stage.recover()
    stage.vendor.script = [fails(Failure.CONNECT_REFUSED)]
    await stage.run()
    assert (await end(stage))[:2] == ("completed", "executed")


async def test_whoever_dies_while_cancelling_has_sent_nothing(stage: Stage) -> None:
    await stage.take_in(event(PUT))
    call = (await stage.events())[0]["data"]["call"]
    assert isinstance(await stage.lanes.seize(call), Claim)
    await stage.recover()
    again = await stage.claim_one()
    assert (again.run.effect, again.run.tries) == ("not_executed", 0)


@pytest.mark.parametrize("op_class", MARKED)
async def test_what_a_replica_that_took_over_cannot_know_is_left_to_a_person(
    op_class: OperationClass, stage: Stage
) -> None:
    await stage.take_in(event(BY_CLASS[op_class]))
    await stage.redis.set("{s0}:doubt", FAR_US)
    await stage.run()
    assert await end(stage) == ("escalated", "unknown", "send.worker_lost", 0)


@pytest.mark.parametrize("op_class", sorted(REPEATABLE))
async def test_what_may_be_repeated_goes_on_after_a_replica_took_over(op_class: OperationClass, stage: Stage) -> None:
    await stage.take_in(event(BY_CLASS[op_class]))
    await stage.redis.set("{s0}:doubt", FAR_US)
    await stage.run()
    assert (await end(stage))[0] == "completed"

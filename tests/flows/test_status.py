"""Status: where a call is, why it waits, how it ended; waiting for it and withdrawing it."""

import pytest

from gateway.flow.status import Finale
from gateway.ports import Admitted
from schemas.effect import OperationClass
from schemas.failure import Failure
from schemas.lifecycle import CallState, HoldReason
from schemas.result import CallStatus
from schemas.tool_call import ToolCallData
from tests.flows.stage import BY_CLASS, CREATE, GET, PUT, SEND, SHARD, WINDOW_S, Stage, event, fails

REFUSED = fails(Failure.CONNECT_REFUSED)
RESET = fails(Failure.RECEIVE_RESET)


async def waiting(stage: Stage, tool: str = GET) -> str:
    """Take a call in and return its id."""
    data = ToolCallData(tool=tool, arguments={"email": "a@b.c"})
    answer = await stage.intake.from_http(data, agent="research-7", key=None, traceparent=None)
    assert isinstance(answer, Admitted)
    return answer.call


async def live(stage: Stage, call: str) -> CallStatus:
    view, agent = await stage.status.look(call)
    assert isinstance(view, CallStatus)
    assert (view.call, agent) == (call, "research-7")
    return view


async def ended(stage: Stage, call: str) -> Finale:
    view, agent = await stage.status.look(call)
    assert isinstance(view, Finale)
    assert (view.data["call"], agent) == (call, "research-7")
    return view


async def test_a_call_that_nobody_knows_belongs_to_nobody(stage: Stage) -> None:
    assert await stage.status.look("01NOSUCH") == (None, None)
    assert await stage.status.cancel("01NOSUCH") == "gone"


async def test_a_waiting_call_knows_its_place(stage: Stage) -> None:
    calls = [await waiting(stage) for _ in range(3)]
    views = [await live(stage, call) for call in calls]
    assert [view.hold.position for view in views] == [0, 1, 2]
    assert {view.state for view in views} == {CallState.PENDING}


async def test_a_call_with_a_worker_waits_for_nothing(stage: Stage) -> None:
    call = await waiting(stage)
    await stage.claim_one()
    view = await live(stage, call)
    assert (view.state, view.hold.reason, view.hold.position) == (CallState.PROCESSING, None, None)


async def test_a_call_that_will_be_tried_again_says_when_and_what_happened(stage: Stage) -> None:
    stage.vendor.script = [fails(Failure.HTTP_TOO_MANY, retry_after_s=3600)]
    call = await waiting(stage)
    await stage.deliver(await stage.claim_one())
    view = await live(stage, call)
    assert (view.state, view.hold.reason) == (CallState.RETRYING, HoldReason.BACKOFF)
    assert view.hold.eta_s == pytest.approx(3960, abs=5)
    assert [(one.n, one.outcome) for one in view.attempts] == [(1, "http.429")]


async def test_an_ended_call_shows_its_result_and_its_attempts(stage: Stage) -> None:
    stage.vendor.script = [REFUSED]
    call = await waiting(stage, CREATE)
    await stage.run()
    view = await ended(stage, call)
    assert view.data == await stage.result()
    assert [one["outcome"] for one in view.attempts] == ["connect.refused", "completed"]


async def test_whoever_waits_hears_of_the_end(stage: Stage) -> None:
    call = await waiting(stage)
    view, agent = await stage.status.wait(call, 60)
    assert isinstance(view, Finale)
    assert (view.data["state"], agent) == ("completed", "research-7")


async def test_whoever_waits_gives_up_when_the_time_is_over(stage: Stage) -> None:
    call = await waiting(stage)
    await stage.claim_one()  # and nothing comes of it
    before = stage.ambient.monotonic()
    view, _ = await stage.status.wait(call, 5)
    assert isinstance(view, CallStatus)
    assert stage.ambient.monotonic() - before == pytest.approx(5)


async def test_not_waiting_is_looking_once(stage: Stage) -> None:
    call = await waiting(stage)
    assert (await stage.status.wait(call, 0))[0] == (await stage.status.look(call))[0]
    assert stage.vendor.seen == []


@pytest.mark.parametrize("op_class", OperationClass)
async def test_what_has_not_started_can_be_withdrawn(op_class: OperationClass, stage: Stage) -> None:
    call = await waiting(stage, BY_CLASS[op_class])
    assert await stage.status.cancel(call) == "cancelled"
    data = (await ended(stage, call)).data
    assert (data["state"], data["effect"], data["attempts"]) == ("cancelled", "not_executed", 0)
    assert (data["error"]["class"], data["error"]["dead_letter"]) == ("cancelled.by_caller", None)
    assert [one["type"] for one in await stage.results()] == ["tool.call.cancelled"]
    assert await stage.status.cancel(call) == "gone"
    await stage.run()
    assert (stage.vendor.seen, await stage.letters()) == ([], [])
    assert (await stage.books())["cancelled"] == 1


async def test_what_was_withdrawn_or_came_too_late_has_taken_no_turn(stage: Stage) -> None:
    patient = await waiting(stage)
    flows = SHARD.key("flows:crm|-|contacts.get")
    before = await stage.redis.zrange(flows, 0, -1, withscores=True)
    call = await waiting(stage)
    assert await stage.status.cancel(call) == "cancelled"
    assert await stage.redis.zrange(flows, 0, -1, withscores=True) == before
    assert (await live(stage, patient)).hold.position == 0


async def test_what_is_with_a_worker_cannot(stage: Stage) -> None:
    call = await waiting(stage)
    claim = await stage.claim_one()
    assert await stage.status.cancel(call) == "busy"
    assert await stage.deliver(claim) == "settled"
    assert (await ended(stage, call)).data["state"] == "completed"


async def test_what_failed_without_a_trace_can_be_withdrawn_between_two_attempts(stage: Stage) -> None:
    stage.vendor.script = [REFUSED]
    call = await waiting(stage, SEND)
    await stage.deliver(await stage.claim_one())
    assert await stage.status.cancel(call) == "cancelled"
    data = (await ended(stage, call)).data
    assert (data["state"], data["attempts"]) == ("cancelled", 1)
    assert await stage.letters() == []


async def test_withdrawing_what_may_have_run_says_so_instead_of_cancelled(stage: Stage) -> None:
    stage.vendor.script = [RESET]
    call = await waiting(stage, PUT)
    await stage.deliver(await stage.claim_one())
    await stage.status.cancel(call)
    data = (await ended(stage, call)).data
    assert (data["state"], data["effect"]) == ("failed", "unknown")
    assert len(await stage.letters()) == 1


async def test_withdrawing_a_key_in_doubt_past_its_window_is_for_a_person(stage: Stage) -> None:
    stage.vendor.script = [RESET]
    call = await waiting(stage, CREATE)
    await stage.deliver(await stage.claim_one())
    stage.clock.forward(WINDOW_S)
    await stage.status.cancel(call)
    assert (await ended(stage, call)).data["state"] == "escalated"


async def test_a_rejected_event_can_be_looked_up_too(stage: Stage) -> None:
    await stage.take_in(event("no.such"))
    data = await stage.result()
    assert (await ended(stage, data["call"])).data == data

"""A bound that refuses is told when it begins and when it has stopped, and every refusal is counted."""

import pytest
import structlog

from gateway.flow.bounds import QUIET_S, Bounds
from gateway.flow.intake import Intake
from gateway.policy.admission import Refuse
from gateway.ports import Admitted, Answer, Full, Heavy
from schemas.failure import Failure
from schemas.tool_call import ToolCallData
from tests.flows.stage import GET, Stage, event

LANE = "crm|-|contacts.get"


class Hand:
    """A clock that the test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("answer", "bound", "lane"), [(Full(waiting=7), "calls", LANE), (Heavy(waiting_bytes=7), "bytes", None)]
)
def test_a_bound_that_is_met_again_and_again_is_told_twice(answer: Answer, bound: str, lane: str | None) -> None:
    clock = Hand()
    bounds = Bounds(clock)
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            bounds.note(answer, LANE)
            bounds.note(Admitted("01J"), LANE)  # it hovers: a place is free and taken at once
            clock.now_s += QUIET_S / 2
        clock.now_s += QUIET_S
        for _ in range(3):
            bounds.note(Admitted("01J"), LANE)
    first, last = lines
    assert (first["event"], first["bound"], first["lane"], first["waiting"]) == ("queue.full", bound, lane, 7)
    assert (last["event"], last["bound"], last["lane"], last["refused"]) == ("queue.room", bound, lane, 100)
    with structlog.testing.capture_logs() as again:
        bounds.note(answer, LANE)
    assert [line["event"] for line in again] == ["queue.full"]


async def ask(intake: Intake, tool: str) -> object:
    data = ToolCallData(tool=tool, arguments={"email": "a@b.c"})
    return await intake.from_http(data, agent="a", key=None, traceparent=None)


async def test_refusals_are_counted_by_failure_on_the_bus_and_over_http(stage: Stage) -> None:
    intake = stage.intake_with(queue_limit=1)
    counted: list[Failure] = []
    intake.refused = counted.append
    with structlog.testing.capture_logs() as lines:
        await intake.from_bus(await stage.publish(*(event(GET, at=("agent/a", f"e-{n}")) for n in range(3))))
        await intake.from_bus(await stage.publish(event("crm.nothing", at=("agent/a", "e-9"))))
        assert isinstance(await ask(intake, GET), Refuse)
        assert isinstance(await ask(intake, "crm.nothing"), Refuse)
    full, unknown = Failure.ADMISSION_QUEUE_FULL, Failure.INGEST_UNKNOWN_TOOL
    assert counted == [full, full, unknown, full, unknown]
    assert [line["event"] for line in lines] == ["queue.full"]
    assert (await stage.books())["rejected"] == 3

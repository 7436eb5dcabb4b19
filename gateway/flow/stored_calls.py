"""A stored call is read; where it cannot be, something stands in for it, so that it is ended and told like any other. Pure.

What stands in is taken from the run, which is kept apart from it and still knows the lane.
"""

from gateway.ports import Claim, Live
from schemas.effect import OperationClass
from schemas.tool_call import Origin, Request, ToolCall, restored

UNKNOWN = "unknown"
"""Stands where the bytes would have told: the agent, and the door the call came in by."""


def tool_of(lane: str) -> str:
    """Return the tool whose calls wait in a lane."""
    connector, _, operation = lane.split("|", 2)
    return f"{connector}.{operation}"


def read(call: str, held: Claim | Live, op_class: OperationClass) -> tuple[ToolCall, str | None]:
    """Return what was accepted; or what stands in for it, of `op_class`, and why it cannot be read."""
    try:
        return restored(held.body), None
    except ValueError as error:
        return _stand_in(call, held, op_class), str(error)


def _stand_in(call: str, held: Claim | Live, op_class: OperationClass) -> ToolCall:
    """Return a call whose arguments are the bytes as they were found: its letter seals them, and nobody sends them."""
    run = held.run
    connector, connection, _ = run.home.split("|", 2)
    return ToolCall(
        id=call,
        tool=tool_of(run.home),
        connector=connector,
        connection=None if connection == "-" else connection,
        op_class=op_class,
        arguments={"stored": held.body.decode(errors="replace")},
        agent=UNKNOWN,
        session=None,
        priority="normal",
        key="",
        vendor_key="",
        accepted_us=run.since,
        deadline_us=run.deadline_us,
        timeout_us=run.timeout_us,
        request=Request(source=f"agent/{UNKNOWN}", id=""),
        origin=Origin(engine=UNKNOWN),
    )

"""What a letter becomes when it is replayed: an incoming request like any other, and a call that knows its letter. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from gateway.policy.admission import Incoming
from schemas.effect import Effect
from schemas.letter import Taking
from schemas.tool_call import Origin, Ran, Replayed, Request, ToolCall, replay_key

ENGINE = "replay"
"""The door, in the origin of a replayed call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One letter that is to be replayed now."""

    letter: str
    replay: str
    by: str
    """The operator who started the replay."""
    call: str
    """The call that left the letter."""
    tool: str
    connection: str | None
    arguments: dict[str, Any]
    agent: str
    session: str | None
    event: str
    """The id of the producer's event, echoed in the result."""
    vendor_key: str
    root: str
    generation: int
    """Of the call."""
    count: int
    """The how-manieth replay of the letter this is."""
    effect: Effect
    first_us: int
    patched: bool
    ran: Ran | None
    deadline: str | None = None
    override: str | None = None
    """Why it is replayed although it was often enough."""


def incoming(order: Order, *, call: str, now: datetime, traceparent: str) -> Incoming:
    """Return the letter as a request: under its own agent and session, since whoever asked must still be allowed to."""
    data = {"tool": order.tool, "arguments": order.arguments, "priority": "batch"}
    named = {"connection": order.connection, "session": order.session, "deadline": order.deadline}
    return Incoming(
        call=call,
        data=data | {name: value for name, value in named.items() if value is not None},
        agent=order.agent,
        request=Request(source=f"agent/{order.agent}", id=order.event),
        key=replay_key(order.letter, order.count),
        traceparent=traceparent,
        origin=Origin(engine=ENGINE, stream=f"operator/{order.by}"),
        now=now,
        ran=order.ran is not None,
    )


def of_letter(call: ToolCall, order: Order) -> ToolCall:
    """Return the call with what it has from its letter; only what was patched gets a vendor key of its own."""
    told = Replayed(
        replay=order.replay,
        by=order.by,
        call=order.call,
        effect=order.effect,
        first_us=order.first_us,
        patched=order.patched,
        ran=order.ran,
        override=order.override,
    )
    return msgspec.structs.replace(
        call,
        vendor_key=call.vendor_key if order.patched else order.vendor_key,
        replay_of=order.letter,
        root=order.root,
        generation=order.generation,
        replayed=told,
    )


def taking(order: Order, event: str) -> Taking:
    """Return what the queue must check and change when it stores the call; `event` tells of it."""
    return Taking(
        letter=order.letter,
        replay=order.replay,
        by=order.by,
        effect=order.effect,
        first_us=order.first_us,
        event=event,
    )


def only_judged(call: ToolCall) -> bool:
    """Tell whether a call only has an answer judged and delivered again; nothing of it may ever be sent."""
    return call.replayed is not None and call.replayed.ran is not None

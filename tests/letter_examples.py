"""Cases for the tests of letters: an unread event, a call, its attempts and its end."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from dlq.letter import (
    Arrival,
    Ended,
    Unread,
    as_event,
)
from schemas.cloudevent import publishable
from schemas.codec import Undecodable
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.lifecycle import CallState
from schemas.outcome import Attempt, Outcome
from schemas.tool_call import Origin, Request, ToolCall

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ID = "01JD3QZ8W4M5N6P7R8S9T0V1X2"
CANARY = "CANARY-9f2c1d"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def unread(raw: bytes, verdict: Undecodable | None = None, entry: str | None = "1763629200000-0") -> Unread:
    return Unread(
        raw=raw,
        source=Arrival(engine="redis", stream="tool-calls", entry=entry, deliveries=2),
        verdict=verdict or Undecodable(Failure.DECODE_JSON, "JSON is malformed (byte 3)"),
        worker="w1",
        at=NOW,
    )


def call(**changes: Any) -> ToolCall:
    made = ToolCall(
        id="01JD3QZ8W4M5N6P7R8S9T0V1C0",
        tool="crm.contacts.create",
        connector="crm",
        connection="crm-main",
        op_class=OperationClass.UNSAFE,
        arguments={"email": "a@b.c", "note": CANARY},
        agent="research-7",
        session="run-42",
        priority="normal",
        key="run-42/step-3",
        vendor_key="v" * 32,
        accepted_us=1_763_629_200_000_000,
        deadline_us=1_763_629_500_000_000,
        timeout_us=10_000_000,
        traceparent=TRACE,
        request=Request(source="agent/research-7", id="e-1"),
        origin=Origin(engine="redis", stream="tool-calls", entry="1763629200000-0"),
        replay_of="01JD3QZ8W4M5N6P7R8S9T0V1B0",
        root="01JD3QZ8W4M5N6P7R8S9T0V1A0",
        generation=2,
    )
    return msgspec.structs.replace(made, **changes)


def attempt(number: int, message: str = "") -> Attempt:
    return Attempt(
        n=number,
        started=f"2026-11-20T08:{number:02}:00Z",
        duration_ms=7,
        worker="w1",
        fence=number,
        status=None,
        outcome="receive.reset",
        effect=Effect.UNKNOWN,
        message=message,
    )


def ended(outcome: Outcome | None = None, **changes: Any) -> Ended:
    made = outcome or Outcome(
        effect=Effect.UNKNOWN, failure=Failure.RECEIVE_RESET, message="The vendor closed the connection."
    )
    facts: dict[str, Any] = {
        "call": call(),
        "outcome": made,
        "effect": made.effect,
        "attempts": [attempt(1), attempt(2)],
        "total": 2,
        "state": CallState.ESCALATED,
        "worker": "w1",
        "at": NOW,
        "verdict": "in_doubt",
    }
    return Ended(**facts | changes)


def published(letter: DeadLetter) -> dict[str, Any]:
    event = json.loads(publishable(as_event(letter, NOW)))
    assert isinstance(event, dict)
    return event

"""Calls as the topics tell of them, rendered by the code that tells: for tests of the journal and for its benchmark."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from dlq import letter as dead_letter
from gateway.flow import reports
from gateway.journal.query import id_from
from schemas.cloudevent import CloudEvent, publishable
from schemas.dead_letter import GroupingPart, Sealed
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.lifecycle import CallState
from schemas.moment import EPOCH, stamp
from schemas.outcome import Attempt, Outcome
from schemas.result import CallResult, ErrorInfo
from schemas.tool_call import Request, ToolCall
from tests import letter_examples
from tests.examples import tool_call

START_US = 1_763_600_000_000_000
TRACE = "00-{:032x}-00f067aa0ba902b7-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The raw entries of one call."""

    call: ToolCall
    events: list[bytes]
    result: bytes
    ended: CallResult

    def entries(self) -> Iterator[bytes]:
        yield from self.events
        yield self.result


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens to a call."""

    number: int
    tool: str = "crm.contacts.create"
    agent: str = "research-7"
    session: str | None = "run-42"
    confidence: float | None = 0.82
    tries: int = 1
    failure: Failure | None = None
    message: str = "The vendor closed the connection."
    result: Any = field(default_factory=lambda: {"id": "c1"})
    letter: str | None = None

    @property
    def at(self) -> datetime:
        return EPOCH + timedelta(microseconds=START_US + self.number * 2000)


def call_id(number: int) -> str:
    """Return an id in the order of time."""
    return id_from(START_US + number * 2000)[:10] + f"{number:016d}"


def told(story: Story) -> Told:
    """Render everything that is told of a call that has ended."""
    call = msgspec.structs.replace(
        tool_call(),
        id=call_id(story.number),
        tool=story.tool,
        connector=story.tool.partition(".")[0],
        agent=story.agent,
        session=story.session,
        confidence=story.confidence,
        key=f"key-{story.number}",
        traceparent=TRACE.format(story.number + 1),
        request=Request(source=f"agent/{story.agent}", id=f"e-{story.number}"),
    )
    state = CallState.COMPLETED if story.failure is None else CallState.FAILED
    effect = Effect.EXECUTED if story.failure is None else Effect.NOT_EXECUTED
    error = None if story.failure is None else _error(story, story.failure, effect)
    ended = CallResult(
        call=call.id,
        request=call.request,
        idempotency_key=call.key,
        tool=call.tool,
        connection=call.connection,
        session=call.session,
        state=state,
        result=None if story.failure else story.result,
        http_status=None if story.failure else 201,
        effect=effect,
        attempts=story.tries,
        queued_ms=3,
        duration_ms=9,
        summary="Done on the first attempt." if story.failure is None else f"Given up after 1 attempt. {story.message}",
        error=error,
    )
    events = [reports.accepted(call, story.at, reviewed=False)]
    events += [_attempted(call, story, number) for number in range(1, story.tries + 1)]
    facts = {"state": state, "effect": effect, "attempts": story.tries, "error": error}
    end = story.at + timedelta(milliseconds=10 * (story.tries + 1))
    events.append(reports.lifecycle(call, reports.SETTLED, story.tries + 2, end, facts))
    result = reports.result_event(ended, end, call.traceparent)
    return Told(call=call, events=[event.encode() for event in events], result=result.encode(), ended=ended)


def changed(letter: str, status: str, at: datetime, **more: Any) -> bytes:
    """Render a change of a letter."""
    data = {"letter": letter, "call": None, "status": status, "at": stamp(at), "by": "night-shift", **more}
    return publishable(CloudEvent(type="letter.changed", id=f"{letter}.{status}", time=stamp(at), data=data)).encode()


def _error(story: Story, failure: Failure, effect: Effect) -> ErrorInfo:
    return ErrorInfo(
        failure=failure,
        message=story.message,
        effect=effect,
        retryable=False,
        fingerprint=f"v1:{story.number % 7:016x}",
        dead_letter=story.letter,
        action="Look.",
    )


def _attempted(call: ToolCall, story: Story, number: int) -> str:
    last = number == story.tries
    at = story.at + timedelta(milliseconds=10 * number)
    failed = story.failure if last else Failure.SEND_RESET
    attempt = Attempt(
        n=number,
        started=stamp(at),
        duration_ms=9,
        worker="w",
        fence=number,
        status=201 if failed is None else None,
        outcome=failed or CallState.COMPLETED,
        effect=Effect.EXECUTED if failed is None else Effect.NOT_EXECUTED,
        message="" if failed is None else story.message,
    )
    facts = {
        "state": CallState.PROCESSING if last else CallState.RETRYING,
        "attempt": attempt,
        "due": None if last else stamp(at + timedelta(seconds=1)),
    }
    return reports.lifecycle(call, reports.ATTEMPTED, number + 1, at, facts)


def letter(identity: str, at: datetime, *, group: str = "v1:00000000000000aa", **call: Any) -> bytes:
    """Render a letter of a call that failed."""
    outcome = Outcome(effect=Effect.UNKNOWN, failure=Failure.SEND_RESET, message="The vendor closed the connection.")
    record = dead_letter.for_call(
        letter_examples.ended(outcome, call=letter_examples.call(**call), at=at), identity, _sealed
    )
    record = msgspec.structs.replace(record, grouping=GroupingPart(fingerprint=group))
    return publishable(dead_letter.as_event(record, at)).encode()


def _sealed(letter_id: str, name: str, value: bytes) -> Sealed:
    return Sealed(key_id="k", inline="AAAA", size=len(value), sha256="0" * 64)

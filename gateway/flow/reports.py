"""What is told about a call: lifecycle events, results and refusals, rendered for their topics. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import UNSET

from dlq.evidence import action
from dlq.grouping import fingerprint
from gateway.policy.admission import Incoming, Refuse
from gateway.policy.replays import only_judged
from gateway.policy.summary import Story, summarise
from schemas.cloudevent import CloudEvent, publishable
from schemas.effect import Effect
from schemas.failure import FACTS, Failure
from schemas.lifecycle import CallState
from schemas.moment import moment, stamp
from schemas.outcome import Attempt, Outcome
from schemas.result import CallResult, ErrorInfo
from schemas.tool_call import ToolCall

ECHOED = 512
"""Characters of a refused event's own words that are told again; the rest would be kept in several places."""

ACCEPTED, HELD, REVIEWED, ATTEMPTED, READ_BACK, SETTLED = (
    f"tool.call.{verb}" for verb in ("accepted", "held", "reviewed", "attempted", "read_back", "settled")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A call's end, with everything its result and its letter tell."""

    call: ToolCall
    outcome: Outcome
    state: CallState
    effect: Effect
    failure: Failure | None
    attempts: list[Attempt]
    tries: int
    started_us: int
    letter: str | None


def lifecycle(call: ToolCall, kind: str, seq: int, now: datetime, facts: Mapping[str, Any]) -> str:
    """Render one event of `tool-events`; its id is unique and `seq` orders the events of a call."""
    data = {
        "call": call.id,
        "seq": seq,
        "tool": call.tool,
        "connection": call.connection,
        "agent": call.agent,
        "session": call.session,
        "idempotency_key": call.key,
        "confidence": call.confidence,
        "replay_of": call.replay_of,
        "root": call.root,
        **facts,
    }
    event = CloudEvent(
        type=kind, id=f"{call.id}.{seq}", time=stamp(now), subject=call.tool, traceparent=call.traceparent, data=data
    )
    return publishable(event)


def accepted(call: ToolCall, now: datetime, *, reviewed: bool) -> str:
    """Render `tool.call.accepted`; `reviewed` calls wait for a person first."""
    facts = {
        "state": CallState.WAITING_FOR_REVIEW if reviewed else CallState.PENDING,
        "class": call.op_class,
        "deadline": stamp(moment(call.deadline_us)),
        "priority": call.priority,
        "generation": call.generation,
        "request": call.request,
        "origin": call.origin,
    }
    return lifecycle(call, ACCEPTED, 1, now, facts)


def _error(finished: Finished, failure: Failure) -> ErrorInfo:
    outcome, effect = finished.outcome, finished.effect
    return ErrorInfo(
        failure=failure,
        message=outcome.message,
        effect=effect,
        retryable=FACTS[failure].retryable and effect is Effect.NOT_EXECUTED,
        fingerprint=fingerprint_of(finished),
        dead_letter=finished.letter,
        action=action(failure, finished.state, effect, finished.letter or "", finished.call.tool),
    )


def result(finished: Finished) -> CallResult:
    """Gather the `data` of a call's result."""
    call, outcome, failure = finished.call, finished.outcome, finished.failure
    told = None if failure is None else outcome.message
    return CallResult(
        call=call.id,
        request=call.request,
        idempotency_key=call.key,
        tool=call.tool,
        connection=call.connection,
        session=call.session,
        state=finished.state,
        result=outcome.result,
        http_status=outcome.status,
        effect=finished.effect,
        attempts=finished.tries,
        queued_ms=max(0, (finished.started_us - call.accepted_us) // 1000),
        duration_ms=outcome.duration_ms,
        contract=outcome.contract,
        replay_of=call.replay_of,
        summary=_summary(finished, told),
        error=None if failure is None else _error(finished, failure),
        evidence=UNSET if not outcome.read_back or finished.effect is Effect.UNKNOWN else "read_back",
    )


def fingerprint_of(finished: Finished) -> str:
    """Return what makes a call's failure like others; its letter has the same."""
    call, outcome = finished.call, finished.outcome
    return fingerprint(
        connector=call.connector,
        operation=call.tool.removeprefix(call.connector + "."),
        failure=finished.failure or outcome.failure or Failure.INTERNAL_BUG,
        code=outcome.status,
        message=outcome.message,
    )


def _summary(finished: Finished, told: str | None) -> str:
    if only_judged(finished.call) and finished.failure is None:
        return "Its answer was judged again and delivered; nothing was sent."
    if finished.outcome.read_back and finished.failure is None:
        return finished.outcome.message
    return summarise(Story(finished.state, finished.tries, finished.effect), finished.attempts[:-1], told)


def result_event(ended: CallResult, now: datetime, traceparent: str | None) -> str:
    """Render a result for `tool-results`."""
    return publishable(
        CloudEvent(
            type=f"tool.call.{ended.state}",
            id=f"{ended.call}.result",
            time=stamp(now),
            subject=ended.tool,
            traceparent=traceparent,
            data=ended,
        )
    )


def result_again(data: Mapping[str, Any], ended: datetime, traceparent: str | None) -> str:
    """Render a result that was told before: the same id, type and `data`."""
    return publishable(
        CloudEvent(
            type=f"tool.call.{data['state']}",
            id=f"{data['call']}.result",
            time=stamp(ended),
            subject=data["tool"],
            traceparent=traceparent,
            data=data,
        )
    )


def rejection(incoming: Incoming, refuse: Refuse) -> CallResult:
    """Gather the result of an event that was refused before it became a call."""
    data = incoming.data
    tool = data["tool"][:ECHOED]
    group = fingerprint(
        connector=tool.partition(".")[0],
        operation=tool.partition(".")[2],
        failure=refuse.failure,
        code=None,
        message=refuse.message,
    )
    error = ErrorInfo(
        failure=refuse.failure,
        message=refuse.message,
        effect=Effect.NOT_EXECUTED,
        retryable=FACTS[refuse.failure].retryable,
        fingerprint=group,
        dead_letter=None,
        action=FACTS[refuse.failure].action.replace("{tool}", tool),
        errors=refuse.errors,
    )
    return CallResult(
        call=incoming.call,
        request=incoming.request,
        idempotency_key=_optional_text(data.get("idempotency_key")) or incoming.key,
        tool=tool,
        connection=_optional_text(data.get("connection")),
        session=_optional_text(data.get("session")),
        state=CallState.REJECTED,
        result=None,
        http_status=None,
        effect=Effect.NOT_EXECUTED,
        attempts=0,
        queued_ms=0,
        duration_ms=0,
        summary=summarise(Story(CallState.REJECTED, 0, Effect.NOT_EXECUTED), [], refuse.message),
        error=error,
    )


def rejected_events(incoming: Incoming, ended: CallResult) -> list[str]:
    """Render the two lifecycle events of a refused event, so that the journal's sums come out."""
    base = {"call": ended.call, "tool": ended.tool, "connection": ended.connection, "agent": incoming.agent}
    common = {**base, "session": ended.session, "idempotency_key": ended.idempotency_key, "request": ended.request}
    facts: list[dict[str, Any]] = [
        {**common, "seq": 1, "state": CallState.PENDING},
        {**common, "seq": 2, "state": ended.state, "effect": ended.effect, "error": ended.error},
    ]
    return [
        publishable(
            CloudEvent(
                type=kind,
                id=f"{ended.call}.{data['seq']}",
                time=stamp(incoming.now),
                subject=ended.tool,
                traceparent=incoming.traceparent,
                data=data,
            )
        )
        for kind, data in zip((ACCEPTED, SETTLED), facts, strict=True)
    ]


def _optional_text(value: object) -> str | None:
    return value[:ECHOED] if isinstance(value, str) else None

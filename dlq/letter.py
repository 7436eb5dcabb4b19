"""A call or an event that could not be finished, as a complete case file. Pure: facts and a `seal` in, a record out.

Total: any bytes and any outcome make exactly one letter; only a full blob store stops it, which must stop intake too.
Never puts arguments, bodies or raw bytes in clear, and never a secret anywhere (see redaction).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import msgspec

from dlq import redaction
from dlq.evidence import Evidence, action, evidence, stage, unread_action
from dlq.grouping import fingerprint
from dlq.redaction import Seal
from schemas.cloudevent import REQUESTED, CloudEvent
from schemas.codec import Undecodable, canonical
from schemas.dead_letter import (
    DEAD_LETTERED,
    AttemptsPart,
    DeadLetter,
    EffectPart,
    EnvironmentPart,
    FailurePart,
    GroupingPart,
    IdempotencyPart,
    Identity,
    IntegrityPart,
    LifecyclePart,
    OperationPart,
    PrivacyPart,
    RawPart,
    RenderedPart,
    Sealed,
    SourcePart,
    UpstreamPart,
)
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.lifecycle import CallState
from schemas.moment import moment, stamp
from schemas.outcome import Attempt, Outcome
from schemas.tool_call import TENANT, ToolCall
from schemas.topics import GROUP

RAW, ARGUMENTS, BODY = "raw.bytes", "rendered.arguments", "upstream.body"
"""The sealed fields, by the names under which they open."""

NEWEST_ATTEMPTS = 20
"""Attempts a letter keeps; the total is counted beside them."""

_VERSION = version("sluice")
_ATTEMPT_MESSAGE_MOST = 256
_NAME_MOST = 1024
_UNREAD = "unread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Where an event lay in the bus."""

    engine: str
    stream: str | None
    entry: str | None
    deliveries: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """An event that could not be read, or that was not read because reading it kills."""

    raw: bytes
    source: Arrival
    verdict: Undecodable
    worker: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the call was going; `host` without credentials, `path_template` without arguments."""

    method: str
    host: str
    path_template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that is over and did not complete."""

    call: ToolCall
    outcome: Outcome
    """Of the last attempt."""
    effect: Effect
    """Joined over all attempts."""
    attempts: list[Attempt]
    total: int
    state: CallState
    worker: str
    at: datetime
    verdict: str
    """Why it is not tried again."""
    failure: Failure | None = None
    """What buried it, where that is not the last outcome's own failure."""
    target: Target | None = None
    secrets: tuple[str, ...] = ()
    """The connection's secrets, to be taken out of what came back."""

    def __repr__(self) -> str:
        return f"<Ended {self.call.id} {self.state} {self.why} {self.effect}>"

    @property
    def why(self) -> Failure:
        """The failure of the letter; a letter without one means that the gateway is broken."""
        return self.failure or self.outcome.failure or Failure.INTERNAL_BUG


def undecodable(unread: Unread, letter_id: str, seal: Seal) -> DeadLetter:
    """Write the letter of an event that could not be read; needs nothing but its bytes and where they lay."""
    failure, at = unread.verdict.failure, stamp(unread.at)
    poison = failure is Failure.POISON_CRASH_LOOP
    told = redaction.message(unread.verdict.message)
    raw = seal(letter_id, RAW, unread.raw)
    return _with_integrity(
        DeadLetter(
            identity=_unread_identity(letter_id),
            operation=_NO_OPERATION,
            idempotency=IdempotencyPart(key=None, request_fingerprint=None, vendor_key=None),
            source=_source(unread.source),
            raw=RawPart(bytes=raw, decode_error=None if poison else told),
            rendered=RenderedPart(method=None, host=None, path_template=None, arguments=None),
            failure=FailurePart(
                failure=failure,
                stage=stage(failure),
                message=told,
                retry_verdict="crash_loop" if poison else "non_retryable",
                action=unread_action(failure, letter_id),
                first_at=at,
                last_at=at,
            ),
            upstream=None,
            effect=_effect(Effect.NOT_EXECUTED, Evidence.NEVER_DECODED, at),
            attempts=AttemptsPart(total=0, newest=[]),
            environment=EnvironmentPart(deadline=None, worker=unread.worker),
            cost=None,
            grouping=GroupingPart(fingerprint=fingerprint(None, None, failure, None, unread.verdict.message)),
            lifecycle=LifecyclePart(root_id=None, parent_id=None, generation=0),
            privacy=_privacy({RAW: raw}, {"failure.message": told}),
            integrity=_UNWRITTEN,
        )
    )


def for_call(ended: Ended, letter_id: str, seal: Seal) -> DeadLetter:
    """Write the letter of a call."""
    call, outcome, at = ended.call, ended.outcome, stamp(ended.at)
    failure, upstream = _failure(ended, letter_id, at), _upstream(ended, letter_id, seal)
    attempts = _attempts(ended)
    arguments = seal(letter_id, ARGUMENTS, canonical(call.arguments))
    origin = Arrival(engine=call.origin.engine, stream=call.origin.stream, entry=call.origin.entry, deliveries=None)
    sealed = {ARGUMENTS: arguments} | ({BODY: upstream.body} if upstream and upstream.body else {})
    shown = {"failure.message": failure.message, "upstream.headers": str(upstream and upstream.headers)}
    return _with_integrity(
        DeadLetter(
            identity=_identity(call, letter_id),
            operation=_operation(call),
            idempotency=IdempotencyPart(key=call.key, request_fingerprint=call.fingerprint, vendor_key=call.vendor_key),
            source=_source(origin),
            raw=RawPart(bytes=None),
            rendered=_rendered(ended.target, arguments),
            failure=failure,
            upstream=upstream,
            effect=_effect(ended.effect, evidence(call.op_class, ended.effect, outcome, ended.why), at),
            attempts=attempts,
            environment=EnvironmentPart(deadline=_stamped(call.deadline_us), worker=ended.worker),
            cost=None,
            grouping=GroupingPart(
                fingerprint=fingerprint(call.connector, _name(call), failure.failure, outcome.status, outcome.message)
            ),
            lifecycle=_lifecycle(call, ended.secrets),
            privacy=_privacy(sealed, shown | {"attempts.newest": " ".join(one.message for one in attempts.newest)}),
            integrity=_UNWRITTEN,
        )
    )


def _lifecycle(call: ToolCall, secrets: tuple[str, ...]) -> LifecyclePart:
    why = call.replayed.override if call.replayed else None
    return LifecyclePart(
        root_id=call.root,
        parent_id=call.replay_of,
        generation=call.generation,
        override=msgspec.UNSET if why is None else redaction.message(why, secrets),
    )


def as_event(letter: DeadLetter, now: datetime) -> CloudEvent:
    """Return the event of a letter, for `dead-letters`."""
    return CloudEvent(
        type=DEAD_LETTERED,
        id=letter.identity.dl_id,
        time=stamp(now),
        subject=letter.operation.tool,
        traceparent=letter.identity.traceparent,
        data=letter,
    )


def record_sha256(record: Mapping[str, Any]) -> str:
    """Hash a letter as it is read from its topic: sorted keys, everything but `integrity`."""
    return hashlib.sha256(canonical({name: part for name, part in record.items() if name != "integrity"})).hexdigest()


_NO_OPERATION = OperationPart(
    tool=None,
    connector=None,
    operation=None,
    connection=None,
    op_class=None,
    connector_rev=None,
    gateway_version=_VERSION,
)
_UNWRITTEN = IntegrityPart(record_sha256="", written_by=f"sluice/{_VERSION}")


def _unread_identity(letter_id: str) -> Identity:
    return Identity(
        dl_id=letter_id,
        tenant_id=TENANT,
        agent_id=None,
        session_id=None,
        event_id=None,
        event_type=_UNREAD,
        call=None,
        traceparent=None,
    )


def _identity(call: ToolCall, letter_id: str) -> Identity:
    return Identity(
        dl_id=letter_id,
        tenant_id=call.tenant,
        agent_id=_bounded(call.agent),
        session_id=call.session,
        event_id=_bounded(call.request.id),
        event_type=REQUESTED,
        call=call.id,
        traceparent=call.traceparent and _bounded(call.traceparent),
    )


def _operation(call: ToolCall) -> OperationPart:
    return OperationPart(
        tool=call.tool,
        connector=call.connector,
        operation=_name(call),
        connection=call.connection,
        op_class=call.op_class,
        connector_rev=None,
        gateway_version=_VERSION,
    )


def _name(call: ToolCall) -> str:
    return call.tool.removeprefix(call.connector + ".")


def _source(arrival: Arrival) -> SourcePart:
    return SourcePart(
        engine=_bounded(arrival.engine),
        stream=None if arrival.stream is None else _bounded(arrival.stream),
        offset_or_id=None if arrival.entry is None else _bounded(arrival.entry),
        group=GROUP,
        published_at=_published(arrival),
        delivery_count=arrival.deliveries,
    )


def _published(arrival: Arrival) -> str | None:
    """Read the time in a Redis entry id; a producer may have chosen one that is no time."""
    milliseconds, dash, _ = (arrival.entry or "").partition("-")
    if arrival.engine != "redis" or not dash or len(milliseconds) > 20 or not milliseconds.isdecimal():
        return None
    return _stamped(int(milliseconds) * 1000)


def _rendered(target: Target | None, arguments: Sealed) -> RenderedPart:
    return RenderedPart(
        method=target.method if target else None,
        host=target.host if target else None,
        path_template=target.path_template if target else None,
        arguments=arguments,
    )


def _failure(ended: Ended, letter_id: str, at: str) -> FailurePart:
    return FailurePart(
        failure=ended.why,
        stage=stage(ended.why),
        message=redaction.message(ended.outcome.message, ended.secrets),
        retry_verdict=ended.verdict,
        action=action(ended.why, ended.state, ended.effect, letter_id, ended.call.tool),
        first_at=ended.attempts[0].started if ended.attempts else at,
        last_at=at,
        findings=[msgspec.to_builtins(one) for one in ended.outcome.findings],
    )


def _upstream(ended: Ended, letter_id: str, seal: Seal) -> UpstreamPart | None:
    outcome, reply = ended.outcome, ended.outcome.reply
    if reply is None:
        if outcome.status is None:
            return None
        return UpstreamPart(http_status=outcome.status, headers={}, body=None, size=0, truncated=False)
    sealed = seal(letter_id, BODY, redaction.scrub_bytes(reply.body, ended.secrets))
    return UpstreamPart(
        http_status=reply.status,
        headers=redaction.headers(reply.headers, ended.secrets),
        body=msgspec.structs.replace(sealed, truncated=reply.truncated),
        size=len(reply.body),
        truncated=reply.truncated,
    )


def _attempts(ended: Ended) -> AttemptsPart:
    newest = [
        msgspec.structs.replace(one, message=redaction.message(one.message, ended.secrets, _ATTEMPT_MESSAGE_MOST))
        for one in ended.attempts[-NEWEST_ATTEMPTS:]
    ]
    return AttemptsPart(total=ended.total, newest=newest)


def _effect(state: Effect, proof: Evidence, at: str) -> EffectPart:
    return EffectPart(state=state, evidence=proof, decided_at=at, decided_by="rule")


def _privacy(sealed: Mapping[str, Sealed], shown: Mapping[str, str]) -> PrivacyPart:
    changed = [path for path, text in shown.items() if redaction.REMOVED in text]
    return PrivacyPart(
        redaction_policy_id=redaction.POLICY,
        redacted_paths=sorted([*sealed, *changed]),
        enc_key_id=next(part.key_id for part in sealed.values()),
    )


def _with_integrity(letter: DeadLetter) -> DeadLetter:
    digest = record_sha256(msgspec.to_builtins(letter))
    return msgspec.structs.replace(letter, integrity=msgspec.structs.replace(letter.integrity, record_sha256=digest))


def _bounded(text: str) -> str:
    return redaction.clean(text, _NAME_MOST)


def _stamped(us: int) -> str | None:
    """Render microseconds since the epoch; a number that no calendar holds is None."""
    try:
        return stamp(moment(us))
    except OverflowError:
        return None

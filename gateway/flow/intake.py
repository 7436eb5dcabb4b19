"""Intake: bytes from any door become calls in their lanes, refusals, or letters; nothing is dropped, nothing is left unacknowledged.

One use-case for the bus and for HTTP. It never raises for what an event contains; only the queue's absence stops it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import structlog

from connectors.catalog import Catalog
from gateway.flow import letter_moves, reports
from gateway.flow.bounds import Bounds
from gateway.flow.recall import Asked, nobody
from gateway.policy import replays
from gateway.policy.admission import Admit, Incoming, Refuse, admit
from gateway.policy.plans import WEIGHTS, flow_of, reserved
from gateway.policy.replays import Order
from gateway.policy.reviews import asked
from gateway.policy.scope import agent_of
from gateway.ports import (
    Admission,
    Admitted,
    Ambient,
    Answer,
    Conflict,
    Duplicate,
    Flooded,
    Full,
    Heavy,
    IntakeQueue,
    Journalled,
    Late,
    Refusal,
)
from schemas import cloudevent, trace
from schemas.codec import Undecodable
from schemas.effect import needs_mark
from schemas.failure import Failure
from schemas.letter import Opened
from schemas.moment import moment, stamp
from schemas.tool_call import Origin, Request, ToolCallData, derived_key, stored

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One delivery from the bus."""

    stream: str
    id: str
    raw: bytes
    deliveries: int = 1
    engine: str = "redis"
    flaw: Undecodable | None = None
    """What is wrong with it beside its bytes: something the bus carries with them cannot be read."""
    again: "Again | None" = None
    """It is read again because the state that had taken it in was lost."""


@dataclass(frozen=True, slots=True)
class Again:
    """What is known of an event that a lost state had taken in."""

    since_us: int
    """When it was first there."""
    covered: bool
    """Each `sending` mark of then would be here: without one, nothing that needs one was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Intake's limits and time spans."""

    max_event_bytes: int
    deadline_s: float
    queue_limit: int
    answer_ttl_s: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event on its way into its lane."""

    incoming: Incoming
    verdict: Admit
    admission: Admission


WriteLetter = Callable[[Entry, Undecodable], Awaitable[tuple[Opened, str]]]
"""Renders the letter of an event that could not be read, and says how it stands."""


class Intake:
    """The use-case; one instance a process."""

    def __init__(
        self, queue: IntakeQueue, catalog: Callable[[], Catalog], *, ambient: Ambient, terms: Terms, letter: WriteLetter
    ) -> None:
        """`catalog` is asked for each batch, so that a reloaded one is used at once."""
        self.recall: Callable[[Sequence[Asked]], Awaitable[list[Refusal]]] = nobody
        """Ends duplicates whose answer only the journal has; whoever can ask it sets it."""
        self._queue = queue
        self._catalog = catalog
        self._ambient = ambient
        self._terms = terms
        self._letter = letter
        self._bounds = Bounds(ambient.monotonic)
        self.refused: Callable[[Failure], None] = lambda _: None
        """Told of each refusal; whoever counts them sets it."""

    def for_catalog(self, catalog: Callable[[], Catalog]) -> "Intake":
        """Return the same for calls that are held against another catalog."""
        return Intake(self._queue, catalog, ambient=self._ambient, terms=self._terms, letter=self._letter)

    async def from_bus(self, entries: Sequence[Entry]) -> list[str]:
        """Take in a batch; when this returns, every entry is dealt with, but those returned: they wait for the journal."""
        left: list[str] = []
        admissions: list[_Waiting] = []
        refusals: list[Refusal] = []
        for entry in entries:
            match self._sorted(entry):
                case Undecodable() as verdict:
                    refusals.append(await self._undecodable(entry, verdict))
                case Refusal() as refusal:
                    refusals.append(refusal)
                case waiting:
                    admissions.append(waiting)
        if admissions:
            refused, left = await self._enqueue(admissions)
            refusals += refused
        if refusals:
            await self._queue.refuse(refusals)
        return left

    async def poison(self, entry: Entry) -> None:
        """Dead-letter an event that kills whoever decodes it, without decoding it."""
        message = f"delivered alone {entry.deliveries} times, and the worker died each time"
        verdict = Undecodable(Failure.POISON_CRASH_LOOP, message)
        await self._queue.refuse([await self._undecodable(entry, verdict)])

    async def from_http(
        self, data: ToolCallData, *, agent: str, key: str | None, traceparent: str | None, engine: str = "http"
    ) -> Admitted | Duplicate | Refuse:
        """Take in one request whose caller is known, over HTTP or in this process; a refusal is answered, not counted."""
        ambient = self._ambient
        call = ambient.id_for(data.tool)
        if key is not None:
            data = msgspec.structs.replace(data, idempotency_key=key)
        incoming = Incoming(
            call=call,
            data=_builtins(data),
            agent=agent,
            request=Request(source=f"agent/{agent}", id=key or call),
            key=call,
            traceparent=trace.valid(traceparent) or ambient.new_trace(),
            origin=Origin(engine=engine),
            now=ambient.now(),
        )
        verdict = admit(incoming, self._catalog(), deadline_s=self._terms.deadline_s)
        if isinstance(verdict, Refuse):
            self.refused(verdict.failure)
            return verdict
        answer = await self._queue.admit(self._admission(incoming, verdict))
        refuse = self._refused_by_queue(answer, verdict)
        if refuse is not None:
            self.refused(refuse.failure)
            return refuse
        return answer if isinstance(answer, Duplicate) else Admitted(call)

    async def from_replay(self, order: Order) -> Answer | Refuse:
        """Take in a letter again; doing so twice attaches to the first, and a letter that is not open is barred."""
        ambient = self._ambient
        now = ambient.now()
        incoming = replays.incoming(order, call=ambient.id_for(order.tool), now=now, traceparent=ambient.new_trace())
        verdict = admit(incoming, self._catalog(), deadline_s=self._terms.deadline_s)
        if isinstance(verdict, Refuse):
            self.refused(verdict.failure)
            return verdict
        verdict = replace(verdict, call=replays.of_letter(verdict.call, order))
        takes = replays.taking(order, letter_moves.begun(order, verdict.call, now))
        admission = msgspec.structs.replace(self._admission(incoming, verdict), takes=takes)
        answer = await self._queue.admit(admission)
        return self._refused_by_queue(answer, verdict) or answer

    async def _enqueue(self, admissions: list[_Waiting]) -> tuple[list[Refusal], list[str]]:
        """Store what may wait; what the lanes will not take comes back as refusals, and what waits for the journal by its entry."""
        answers = await self._queue.enqueue([waiting.admission for waiting in admissions])
        refused = []
        repeats = []
        for waiting, answer in zip(admissions, answers, strict=True):
            if isinstance(answer, Journalled):
                repeats.append(Asked(waiting.admission.entry or "", answer.call))
            refuse = self._refused_by_queue(answer, waiting.verdict)
            if refuse is not None:
                refused.append(self._refusal(waiting.incoming, refuse))
        if not repeats:
            return refused, []
        endings = await self.recall(repeats)
        ended = {ending.entry for ending in endings}
        return refused + endings, [repeat.entry for repeat in repeats if repeat.entry not in ended]

    def _refused_by_queue(self, answer: Answer, verdict: Admit) -> Refuse | None:
        """Turn the lanes' no into a refusal; a bound that begins to refuse is told."""
        refuse = refused_by_queue(answer, verdict)
        if refuse is None or refuse.failure is Failure.ADMISSION_QUEUE_FULL:
            self._bounds.note(answer, verdict.call.lane)
        return refuse

    def _sorted(self, entry: Entry) -> Undecodable | Refusal | _Waiting:
        """Judge one entry; whatever goes wrong with it is its own, and never its batch's."""
        try:
            judged = self._judge(entry)
            if isinstance(judged, Undecodable):
                return judged
            incoming, verdict = judged
            if isinstance(verdict, Refuse):
                return self._refusal(incoming, verdict)
            admission = self._admission(incoming, verdict)
            if entry.again is not None:
                admission = msgspec.structs.replace(admission, sent_us=_sent_us(entry.again, verdict))
            return _Waiting(incoming, verdict, admission)
        except Exception as error:
            log.exception("intake.broken", entry=entry.id)
            return Undecodable(Failure.INTERNAL_BUG, f"the gateway could not judge it: {type(error).__name__}")

    def _judge(self, entry: Entry) -> Undecodable | tuple[Incoming, Admit | Refuse]:
        if entry.flaw is not None:
            return entry.flaw
        try:
            event = cloudevent.read(entry.raw, max_bytes=self._terms.max_event_bytes)
        except Undecodable as verdict:
            return verdict
        incoming = Incoming(
            call=self._ambient.id_for(event.data["tool"]),
            data=event.data,
            agent=agent_of(event.source),
            request=Request(source=event.source, id=event.id),
            key=derived_key(event.source, event.id),
            traceparent=event.traceparent or self._ambient.new_trace(),
            origin=Origin(engine=entry.engine, stream=entry.stream, entry=entry.id),
            now=self._ambient.now(),
        )
        return incoming, admit(incoming, self._catalog(), deadline_s=self._terms.deadline_s)

    def _admission(self, incoming: Incoming, verdict: Admit) -> Admission:
        call = verdict.call
        return Admission(
            id=call.id,
            lane=call.lane,
            scope=call.scope,
            print=call.fingerprint,
            body=stored(call),
            event=reports.accepted(call, incoming.now, reviewed=verdict.operation.approval_required),
            timeout_us=call.timeout_us,
            deadline_us=call.deadline_us,
            # A late call may only find its earlier self: an empty lane's bound of 0 refuses it otherwise.
            limit=0
            if verdict.late
            else min(self._terms.queue_limit, verdict.operation.queue_limit or self._terms.queue_limit),
            flow=flow_of(call),
            weight=WEIGHTS[call.priority],
            costs=reserved(verdict.operation, call.arguments),
            entry=incoming.origin.entry,
            review=asked(call, verdict.operation),
        )

    def _refusal(self, incoming: Incoming, refuse: Refuse) -> Refusal:
        self.refused(refuse.failure)
        ended = reports.rejection(incoming, refuse)
        conflict = refuse.failure is Failure.INGEST_DUPLICATE_CONFLICT
        return Refusal(
            entry=incoming.origin.entry or "",
            counts=["received", "conflicts"] if conflict else ["received", "accepted", "rejected"],
            events=[] if conflict else reports.rejected_events(incoming, ended),
            result=reports.result_event(ended, incoming.now, incoming.traceparent),
            id=incoming.call,
            answer_ttl_s=self._terms.answer_ttl_s,
        )

    async def _undecodable(self, entry: Entry, verdict: Undecodable) -> Refusal:
        opens, letter = await self._letter(entry, verdict)
        return Refusal(entry=entry.id, counts=["received", "undecodable"], events=[], letter=letter, opens=opens)


def _sent_us(again: Again, verdict: Admit) -> int | None:
    """Say since when it may have been sent, if a lost state may have sent it."""
    if again.covered and needs_mark(verdict.operation.op_class):
        return None
    return again.since_us


def refused_by_queue(answer: Answer, verdict: Admit) -> Refuse | None:
    """Turn the lanes' no into a refusal; anything else is None."""
    if isinstance(answer, Admitted | Duplicate):
        return None
    lane, deadline = verdict.call.lane, stamp(moment(verdict.call.deadline_us))
    match answer:
        case Conflict(call=earlier):
            failure = Failure.INGEST_DUPLICATE_CONFLICT
            message = f"this idempotency key belongs to call {earlier} with another payload"
        case Full() if verdict.late:
            failure, message = Failure.ADMISSION_DEADLINE, f"the deadline {deadline} has passed"
        case Late(eta_us=eta_us):
            failure = Failure.ADMISSION_DEADLINE
            message = (
                f"at the pace of lane {lane} it would start at {stamp(moment(eta_us))}, after its deadline {deadline}"
            )
        case Full(waiting=waiting):
            failure = Failure.ADMISSION_QUEUE_FULL
            message = f"{waiting} calls wait in lane {lane}, as many as it may hold (SLUICE_QUEUE_LIMIT)"
        case Heavy(waiting_bytes=waiting):
            failure = Failure.ADMISSION_QUEUE_FULL
            message = f"the calls that wait take {waiting} bytes; this one would go beyond SLUICE_QUEUE_BYTES"
        case Flooded():
            failure = Failure.ADMISSION_QUEUE_FULL
            message = "the queue's Redis is above its high watermark (SLUICE_MEMORY_HIGH); calls that wait go first"
        case _:
            return None
    return Refuse(failure=failure, message=message)


def _builtins(data: ToolCallData) -> Mapping[str, Any]:
    return {name: getattr(data, name) for name in data.__struct_fields__}

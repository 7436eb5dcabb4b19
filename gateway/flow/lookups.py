"""Lookups: a call whose effect nobody knows goes to the lane of a read, and the vendor's answer there decides what becomes of it.

A look is a request like any other: through the limits, gates, token, breaker and contract of the read's own lane. It changes nothing at
the vendor, so a worker that dies with one leaves nothing behind; what was learned so far is kept with the call.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from connectors.catalog import Catalog, Unknown
from connectors.declared import Connection, Operation, Readback
from connectors.exchange import Lease
from connectors.rates.bodies import pointed
from connectors.readback import Question, Seen, Unclear, judge, question
from gateway.flow import settlements
from gateway.flow.contract_watch import ContractWatch
from gateway.flow.quarantine import Quarantine
from gateway.flow.settlements import Tried
from gateway.policy import lookups
from gateway.policy.learning import lessons
from gateway.policy.lookups import Again, Conclusion, DidNotRun, Ran, Undecided
from gateway.policy.plans import actual, reserved
from gateway.policy.slots import fate
from gateway.ports import Ambient, Claim, Doubt, Way
from schemas import tool_call
from schemas.codec import encode
from schemas.effect import Effect, OperationClass
from schemas.failure import FACTS, Failure
from schemas.lifecycle import CallState
from schemas.moment import microseconds
from schemas.outcome import Outcome
from schemas.tool_call import ToolCall

AGAIN_S = 1.0
"""Pause after a vendor or a guard asked to wait without saying how long."""


class Vendor(Protocol):
    """What a look needs of a vendor."""

    async def attempt(
        self, call: ToolCall, operation: Operation, connection: Connection | None, lease: Lease
    ) -> Outcome:
        """Send a read once."""

    def judge(self, ran: tool_call.Ran, operation: Operation) -> Outcome:
        """Judge an answer that is here already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a look works with."""

    vendor: Vendor
    catalog: Callable[[], Catalog]
    contracts: ContractWatch
    quarantine: Quarantine
    observe: Callable[[Tried, CallState | None], None]
    ambient: Ambient


@dataclass(frozen=True, slots=True)
class Waiting:
    """It goes on in the lane of the read, from this time on."""

    tried: Tried
    due_us: int
    way: Way
    note: str
    """What was seen so far, for the journal."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """Everything one look needs, as it is declared now."""

    operation: Operation
    readback: Readback
    target: Operation
    connection: Connection | None
    question: Question


class Lookups:
    """The use-case; one instance a process."""

    def __init__(self, parts: Parts) -> None:
        """See `Parts`."""
        self._parts = parts

    def begin(self, tried: Tried) -> Waiting | Tried:
        """Send a call to the lane of its read; back comes the call itself, with the reason, where it cannot be looked for."""
        asking = self._asking(tried.call)
        if isinstance(asking, Unclear):
            told = f"{tried.outcome.message} It cannot be looked for: {asking.why}."
            return replace(tried, outcome=msgspec.structs.replace(tried.outcome, message=told, read_back=True))
        run = tried.claim.run
        doubt = Doubt(
            since_us=0, lane=run.lane, timeout_us=run.timeout_us, deadline_us=run.deadline_us, costs=run.costs
        )
        due_us = self._now_us() + lookups.first_us(asking.readback.settle_s)
        return Waiting(tried, due_us, self._way(tried.call, asking, doubt), "")

    async def look(self, claim: Claim, call: ToolCall, lease: Callable[[int], Lease]) -> Waiting | Tried:
        """Ask the vendor once; `lease` gives the right to, for so many microseconds."""
        started_us, doubt = self._now_us(), claim.run.doubt
        assert doubt is not None  # noqa: S101 - it waited in the lane of a read
        asking = self._asking(call)
        if isinstance(asking, Unclear) or claim.claimed_us > claim.run.deadline_us:
            why = asking.why if isinstance(asking, Unclear) else "the vendor could not be asked in time"
            return self.undecided(claim, call, why, started_us)
        outcome = await self._asked(claim, call, asking, lease, started_us)
        tried = self._tried(claim, call, outcome, started_us)
        taught = lessons(_read(call, asking), asking.target.uses, outcome, self._parts.ambient.uniform)
        costs = actual(asking.target, outcome.result)
        tried = replace(tried, slots=fate(outcome), costs=costs, lessons=taught or None)
        if not outcome.spends_attempt:
            wait_us = int((AGAIN_S if outcome.retry_after_s is None else outcome.retry_after_s) * 1_000_000)
            return Waiting(tried, self._now_us() + wait_us, self._way(call, asking, doubt), outcome.message)
        seen = judge(outcome, asking.question, asking.readback)
        verdict = lookups.conclude(seen, doubt, asking.readback.settle_s, claim.claimed_us)
        return self._concluded(tried, asking, verdict, seen)

    def lost(self, claim: Claim, call: ToolCall) -> Waiting | Tried:
        """Go on with a call whose worker died while it asked: nothing was changed by that."""
        doubt, asking = claim.run.doubt, self._asking(call)
        assert doubt is not None  # noqa: S101 - it waited in the lane of a read
        if isinstance(asking, Unclear):
            return self.undecided(claim, call, asking.why, self._now_us())
        tried = self._tried(claim, call, _of_before(claim, Effect.UNKNOWN, ""), self._now_us())
        tried = replace(tried, crashed=True, slots="lost")
        return Waiting(tried, self._now_us(), self._way(call, asking, doubt), "The worker that asked died.")

    def undecided(self, claim: Claim, call: ToolCall, why: str, started_us: int) -> Tried:
        """Leave it to a person."""
        told = f"Reading back did not tell whether it ran: {why}."
        return self._tried(claim, call, _of_before(claim, Effect.UNKNOWN, told), started_us)

    def _concluded(self, tried: Tried, asking: _Asking, verdict: Conclusion, seen: Seen) -> Waiting | Tried:
        claim, call, tool = tried.claim, tried.call, asking.target.tool
        match verdict:
            case Ran(item=item):
                return replace(tried, outcome=self._ran(asking, item))
            case DidNotRun():
                told = f"{tool} shows that it did not run."
                return replace(tried, outcome=_of_before(claim, Effect.NOT_EXECUTED, told))
            case Again(wait_us=wait_us, doubt=doubt):
                note = seen.why if isinstance(seen, Unclear) else "nothing there yet"
                return Waiting(tried, self._now_us() + wait_us, self._way(call, asking, doubt), f"{tool}: {note}")
            case Undecided(why=why):
                told = f"Reading back ({tool}) did not tell whether it ran: {why}."
                return replace(tried, outcome=_of_before(claim, Effect.UNKNOWN, told))

    def _ran(self, asking: _Asking, item: object) -> Outcome:
        """Return the end of a call that was found: with the result that the manifest takes from there, held against its contract."""
        told = f"It ran: its answer was lost, and {asking.target.tool} shows it."
        pointer = asking.readback.result
        if pointer is None:
            return Outcome(effect=Effect.EXECUTED, message=told, read_back=True)
        answer = tool_call.Ran(
            status=200, headers={"content-type": "application/json"}, body=encode(pointed(item, pointer))
        )
        outcome = self._parts.vendor.judge(answer, asking.operation)
        return msgspec.structs.replace(outcome, message=outcome.message or told, status=None, read_back=True)

    async def _asked(
        self, claim: Claim, call: ToolCall, asking: _Asking, lease: Callable[[int], Lease], started_us: int
    ) -> Outcome:
        read, parts = _read(call, asking), self._parts
        outcome = await parts.vendor.attempt(read, asking.target, asking.connection, lease(read.timeout_us))
        if outcome.findings:
            await parts.contracts.met(read.tool, call.id, outcome.findings)
        await parts.quarantine.heed(read, asking.target, outcome)
        if not outcome.held:
            parts.observe(self._tried(claim, read, outcome, started_us, tried=True), None)
        return outcome

    def _asking(self, call: ToolCall) -> _Asking | Unclear:
        catalog = self._parts.catalog()
        operation = catalog.operation(call.tool)
        readback = operation.readback if operation else None
        target = catalog.operation(readback.tool) if readback else None
        if operation is None or readback is None or target is None:
            return Unclear("no read-back is declared for it any more", passing=False)
        connection = catalog.connection_for(target, call.connection)
        if isinstance(connection, Unknown):
            return Unclear("its connection was removed", passing=False)
        asked = question(call, operation, readback)
        if isinstance(asked, Unclear):
            return asked
        if target.op_class is not OperationClass.SAFE or target.argument_errors(asked.arguments):
            return Unclear(f"{target.tool} does not take what its read-back asks", passing=False)
        return _Asking(operation, readback, target, connection, asked)

    def _way(self, call: ToolCall, asking: _Asking, doubt: Doubt) -> Way:
        target = asking.target
        try:
            costs = reserved(target, asking.question.arguments)
        except ValueError:
            costs = None  # the lanes then take it for all there is
        return Way(
            lane=_read(call, asking).lane,
            timeout_us=_timeout_us(target),
            deadline_us=max(doubt.deadline_us, self._now_us() + lookups.WITHIN_US),
            costs=costs,
            doubt=doubt,
        )

    def _tried(self, claim: Claim, call: ToolCall, outcome: Outcome, started_us: int, *, tried: bool = False) -> Tried:
        worker = self._parts.ambient.worker
        return Tried(claim=claim, call=call, outcome=outcome, started_us=started_us, worker=worker, tried=tried)

    def _now_us(self) -> int:
        return microseconds(self._parts.ambient.now())


def home(claim: Claim) -> Way | None:
    """Return the way back to its own lane of a call that waited in that of a read."""
    doubt = claim.run.doubt
    if doubt is None:
        return None
    return Way(lane=doubt.lane, timeout_us=doubt.timeout_us, deadline_us=doubt.deadline_us, costs=doubt.costs)


def unknown_before() -> Outcome:
    """Return how a call stands that may have run before it came to its lane, as the replay of a letter may."""
    told = "Nobody knows whether it ran before."
    return Outcome(effect=Effect.UNKNOWN, failure=Failure.READBACK_UNDECIDED, message=told, spends_attempt=False)


def _of_before(claim: Claim, effect: Effect, told: str) -> Outcome:
    """Return how the attempt ended that is in doubt, with what is known of its effect now."""
    earlier = settlements.history(claim)
    if not earlier:
        return msgspec.structs.replace(unknown_before(), effect=effect, message=told, read_back=True)
    last = earlier[-1]
    failure = Failure(last.outcome) if last.outcome in FACTS else Failure.READBACK_UNDECIDED
    return Outcome(
        effect=effect,
        failure=failure,
        message=f"{last.message} {told}".strip(),
        status=last.status,
        spends_attempt=failure is not Failure.SEND_WORKER_LOST,
        read_back=True,
    )


def _read(call: ToolCall, asking: _Asking) -> ToolCall:
    """Return the look as a call of the read; it has an id of its own, since its answer is not that of the call."""
    target = asking.target
    return msgspec.structs.replace(
        call,
        id=f"{call.id}.read",
        tool=target.tool,
        op_class=OperationClass.SAFE,
        arguments=asking.question.arguments,
        timeout_us=_timeout_us(target),
        replayed=None,
    )


def _timeout_us(target: Operation) -> int:
    return int(target.timeout_s * 1_000_000)

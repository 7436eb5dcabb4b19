"""Delivery: one claim becomes one attempt, one outcome, one decision and one settlement. Decide, then act.

Never repeats a call by itself: a retry goes back to the lane. An exception below means that the gateway is broken.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from connectors.catalog import Catalog, Unknown
from connectors.declared import Connection, Operation
from connectors.exchange import Lease, Marked
from gateway.flow import lookups, settlements, stored_calls
from gateway.flow.absences import Absences
from gateway.flow.contract_watch import ContractWatch
from gateway.flow.lookups import Lookups, Waiting
from gateway.flow.quarantine import Quarantine
from gateway.flow.reports import Finished
from gateway.flow.settlements import Tried
from gateway.policy.backoff import Backoff
from gateway.policy.budget import BudgetTerms, RetryBudget
from gateway.policy.disposition import Case, Disposition, End, RetryAt, dispose
from gateway.policy.learning import lessons
from gateway.policy.plans import actual
from gateway.policy.replays import only_judged
from gateway.policy.reviews import against, asked, covered, decided_against
from gateway.policy.slots import fate
from gateway.policy.windows import window_open
from gateway.ports import Ambient, Claim, DeliveryQueue, Mark, Settled, Settlement
from schemas.effect import REPEATABLE, Effect, OperationClass, needs_mark
from schemas.failure import Failure
from schemas.lifecycle import DEAD_LETTERED, CallState
from schemas.moment import microseconds
from schemas.outcome import Outcome, Reply
from schemas.review import Decision
from schemas.tool_call import Ran, ToolCall


class Vendor(Protocol):
    """One attempt at a vendor; returns an outcome for whatever the vendor does."""

    async def attempt(
        self,
        call: ToolCall,
        operation: Operation,
        connection: Connection | None,
        lease: Lease,
    ) -> Outcome:
        """Send the call once."""

    def judge(self, ran: Ran, operation: Operation) -> Outcome:
        """Judge an answer that is here already; sends nothing."""


WriteLetter = Callable[[Finished, str], Awaitable[str]]
"""Renders the letter of a finished call; the second argument is the retry verdict."""


Observe = Callable[[Tried, CallState | None], None]
"""Is told of each attempt that was made, and with a state when the call ended; counts, and does nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Delivery's limits and time spans."""

    start_within_s: float
    max_crashes: int
    answer_ttl_s: int
    scope_ttl_s: int
    backoff: Backoff
    budget: BudgetTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What delivery works with."""

    queue: DeliveryQueue
    vendor: Vendor
    catalog: Callable[[], Catalog]
    """Asked for each call, so that a reloaded one is used at once."""
    letter: WriteLetter
    contracts: ContractWatch
    quarantine: Quarantine
    observe: Observe


class Delivery:
    """The use-case; one instance a process."""

    def __init__(self, parts: Parts, *, ambient: Ambient, terms: Terms) -> None:
        """Join the parts; see `Parts`."""
        self._parts = parts
        self._ambient = ambient
        self._terms = terms
        self._budgets: dict[str, RetryBudget] = {}
        self._absences = Absences(parts.catalog, ambient)
        self._lookups = Lookups(
            lookups.Parts(
                vendor=parts.vendor,
                catalog=parts.catalog,
                contracts=parts.contracts,
                quarantine=parts.quarantine,
                observe=parts.observe,
                ambient=ambient,
            )
        )

    async def deliver(self, claim: Claim, held_since_s: float) -> Settled:
        """Attempt a claimed call; `held_since_s` is when the claim was asked for, on the monotonic clock."""
        if self._ambient.monotonic() - held_since_s > self._terms.start_within_s:
            return await self._parts.queue.settle(settlements.give_back(claim))
        (call, flaw), started_us = self._read(claim), self._now_us()
        if claim.run.doubt is not None:
            return await self._look(claim, call, held_since_s)
        if (back := None if flaw else self._absences.given_back(claim, call, started_us)) is not None:
            return await self._parts.queue.settle(back)
        operation = self._parts.catalog().operation(call.tool)
        obstacle = _unreadable(flaw) if flaw else _obstacle(claim, call, operation, started_us)
        if obstacle is not None:
            return await self._settle(self._tried(claim, call, obstacle, started_us, tried=False))
        assert operation is not None  # noqa: S101 - else it was given back, or is late
        outcome = await self._attempt(claim, call, operation, held_since_s)
        if only_judged(call):
            return await self._settle(self._tried(claim, call, outcome, started_us, tried=True))
        if claim.run.tries == 0 and not outcome.held:
            self._budgets[call.connector] = self._budget(call.connector).earn(self._terms.budget)
        if outcome.findings:
            await self._parts.contracts.met(call.tool, call.id, outcome.findings)
        # After it is listed: whoever finds the gate closed finds what to judge.
        await self._parts.quarantine.heed(call, operation, outcome)
        tried = self._tried(claim, call, outcome, started_us, tried=not outcome.held)
        return await self._settle(self._counted(tried, operation))

    async def _look(self, claim: Claim, call: ToolCall, held_since_s: float) -> Settled:
        """Ask the vendor whether the call ran, in the lane of the read that tells."""

        def lease(timeout_us: int) -> Lease:
            return self._lease(claim, held_since_s, timeout_us)

        return await self._go_on(await self._lookups.look(claim, call, lease))

    async def _go_on(self, looked: Waiting | Tried) -> Settled:
        if isinstance(looked, Tried):
            return await self._settle(looked)
        return await self._parts.queue.settle(settlements.detour(looked.tried, looked.due_us, looked.way, looked.note))

    async def recover(self, claim: Claim) -> Settled:
        """Settle a claim whose worker was lost: what may have been sent is in doubt, the rest goes back to its lane."""
        if decided_against(claim.run.review):
            return await self.reviewed(claim)
        call, _ = self._read(claim)
        if claim.run.doubt is not None and claim.run.crashes + 1 < self._terms.max_crashes:
            return await self._go_on(self._lookups.lost(claim, call))
        # A claim of a repeatable class is its own intent: it leaves no mark, so it counts as sent.
        sent = claim.run.marked > 0 or (claim.run.marked == 0 and call.op_class in REPEATABLE)
        sent = sent and not only_judged(call)
        outcome = Outcome(
            effect=Effect.UNKNOWN if sent and call.op_class is not OperationClass.SAFE else Effect.NOT_EXECUTED,
            failure=Failure.SEND_WORKER_LOST,
            message="The worker died while it held the call"
            + ("; it may have been sent." if sent else "; nothing was sent."),
            spends_attempt=False,
        )
        # It may have been sent as early as it was claimed: the vendor's memory of our key is counted from there.
        tried = self._tried(claim, call, outcome, claim.run.since, tried=sent)
        return await self._settle(replace(tried, crashed=True, slots="lost"))

    async def reviewed(self, claim: Claim) -> Settled:
        """Settle a call that a person, or the time for one, decided against."""
        (call, _), review = self._read(claim), claim.run.review
        assert review is not None  # noqa: S101 - it was taken because of its review
        late = review.decision is Decision.EXPIRED
        failure = Failure.APPROVAL_EXPIRED if late else Failure.APPROVAL_DENIED
        tried = self._tried(claim, call, _nothing(failure, against(review)), self._now_us(), tried=False)
        if late and review.on_timeout == "escalate":
            end = End(CallState.ESCALATED, Effect.NOT_EXECUTED, "timeout", failure)
            self._parts.observe(tried, end.state)
            return await self._parts.queue.settle(await self._ending(tried, end))
        return await self._settle(tried)

    async def expire(self, claim: Claim) -> Settled:
        """Settle a waiting call whose deadline has passed."""
        call, _ = self._read(claim)
        if claim.run.doubt is not None:
            late = self._lookups.undecided(claim, call, "the vendor could not be asked in time", self._now_us())
            return await self._settle(late)
        return await self._settle(self._tried(claim, call, _LATE, self._now_us(), tried=False))

    async def cancel(self, claim: Claim) -> Settled:
        """Settle a claim that its caller withdrew before it started."""
        call, _ = self._read(claim)
        outcome = _nothing(Failure.CANCELLED, "The caller cancelled the call before it started.")
        return await self._settle(self._tried(claim, call, outcome, self._now_us(), tried=False))

    def _read(self, claim: Claim) -> tuple[ToolCall, str | None]:
        """Return the call, or what stands in for it and why; without a catalog entry it counts as what may not be repeated."""
        operation = self._parts.catalog().operation(stored_calls.tool_of(claim.run.home))
        return stored_calls.read(claim.id, claim, operation.op_class if operation else OperationClass.UNSAFE)

    async def _attempt(self, claim: Claim, call: ToolCall, operation: Operation, held_since_s: float) -> Outcome:
        if call.replayed is not None and call.replayed.ran is not None:
            return self._parts.vendor.judge(call.replayed.ran, operation)
        connection = self._parts.catalog().connection_for(operation, call.connection)
        assert not isinstance(connection, Unknown)  # noqa: S101 - as above
        lease = self._lease(claim, held_since_s, call.timeout_us)
        return await self._parts.vendor.attempt(call, operation, connection, lease)

    def _lease(self, claim: Claim, held_since_s: float, timeout_us: int) -> Lease:
        async def mark() -> Marked:
            return await self._parts.queue.mark(Mark(claim.id, claim.fence))

        # What is sent later could arrive after the lease, when its slots are somebody else's: the guard is for the way.
        latest_s = held_since_s + self._terms.start_within_s + timeout_us / 1_000_000
        return Lease(mark=mark, holds=lambda: self._ambient.monotonic() < latest_s)

    def _tried(self, claim: Claim, call: ToolCall, outcome: Outcome, started_us: int, *, tried: bool) -> Tried:
        worker, outcome = self._ambient.worker, _with_answer(call, outcome)
        return Tried(claim=claim, call=call, outcome=outcome, started_us=started_us, worker=worker, tried=tried)

    def _counted(self, tried: Tried, operation: Operation) -> Tried:
        """Add what becomes of the claim's slots, and what the vendor's answer taught about its limits."""
        taught = lessons(tried.call, operation.uses, tried.outcome, self._ambient.uniform)
        costs = actual(operation, tried.outcome.result)
        return replace(tried, slots=fate(tried.outcome), costs=costs, lessons=taught or None)

    async def _settle(self, tried: Tried) -> Settled:
        disposition = self._dispose(tried)
        if _in_doubt(tried, disposition):
            looked = self._lookups.begin(tried)
            if isinstance(looked, Waiting):
                self._parts.observe(tried, None)
                return await self._go_on(looked)
            tried = looked
        self._parts.observe(tried, disposition.state if isinstance(disposition, End) else None)
        if isinstance(disposition, RetryAt):
            deferral = settlements.deferral(tried, disposition)
            return await self._parts.queue.settle(msgspec.structs.replace(deferral, way=lookups.home(tried.claim)))
        return await self._parts.queue.settle(await self._ending(tried, disposition))

    def _dispose(self, tried: Tried) -> Disposition:
        lost = tried.outcome.failure is Failure.SEND_WORKER_LOST
        decision = dispose(self._case(tried, self._now_us() + (0 if lost else self._wait_us(tried))))
        if not isinstance(decision, RetryAt) or lost or tried.outcome.held:
            return decision
        return replace(decision, due_us=max(decision.due_us, self._budgeted_us(tried.call)))

    def _case(self, tried: Tried, retry_at_us: int) -> Case:
        call, run = tried.call, tried.claim.run
        operation = self._parts.catalog().operation(call.tool)
        return Case(
            outcome=tried.outcome,
            op_class=call.op_class,
            attempts=tried.spent,
            max_attempts=operation.max_attempts if operation else 1,
            # What was read back is proof, and decides what was not known before.
            effect_before=Effect.NOT_EXECUTED if tried.outcome.read_back else run.effect,
            crashes=tried.crashes,
            max_crashes=self._terms.max_crashes,
            window_open=window_open(operation, tried.first_us, retry_at_us),
            deadline_us=call.deadline_us,
            retry_at_us=retry_at_us,
        )

    def _wait_us(self, tried: Tried) -> int:
        if tried.outcome.read_back:
            return 0  # it was waited for long enough that its effect would show
        if tried.outcome.held:
            # A guard knows when it is worth to look again; nobody has failed.
            return int((tried.outcome.retry_after_s or 0.0) * 1_000_000)
        wait_s = self._terms.backoff.wait_s(tried.tries, tried.outcome.retry_after_s, self._ambient.uniform)
        return int(wait_s * 1_000_000)

    def _budgeted_us(self, call: ToolCall) -> int:
        """Draw a retry that will happen from the budget; it delays within the deadline and never ends a call."""
        budget, delay_s = self._budget(call.connector).spend(self._ambient.monotonic(), self._terms.budget)
        self._budgets[call.connector] = budget
        return min(self._now_us() + int(delay_s * 1_000_000), call.deadline_us)

    def _budget(self, connector: str) -> RetryBudget:
        return self._budgets.get(connector) or RetryBudget(self._terms.budget.floor_per_s, self._ambient.monotonic())

    async def _ending(self, tried: Tried, end: End) -> Settlement:
        letter = self._ambient.id_for(tried.call.tool) if end.state in DEAD_LETTERED else None
        over = settlements.finished(tried, end, letter)
        rendered = await self._parts.letter(over, end.verdict) if letter else None
        return msgspec.structs.replace(
            settlements.ending(tried, over, rendered, self._now_us()),
            answer_ttl_s=self._terms.answer_ttl_s,
            scope_ttl_s=0 if letter else self._terms.scope_ttl_s,
        )

    def _now_us(self) -> int:
        return microseconds(self._ambient.now())


def _obstacle(claim: Claim, call: ToolCall, operation: Operation | None, now_us: int) -> Outcome | None:
    """Say why a claimed call may not be attempted any more, if it may not."""
    # Redis has claimed it by its own clock, without slots if that says it is late: ours may be behind.
    if max(now_us, claim.claimed_us) > call.deadline_us:
        return _LATE
    unknown = claim.run.effect is Effect.UNKNOWN
    # Once the vendor was asked it is known, and the doubt is over.
    if claim.run.doubtful and unknown and call.op_class not in REPEATABLE and not only_judged(call):
        return _IN_DOUBT
    if operation is not None and asked(call, operation) and not covered(claim.run.review, call):
        return _nothing(Failure.APPROVAL_STALE, "What would run is not what was approved.")
    if unknown and needs_mark(call.op_class):
        return lookups.unknown_before()
    if unknown and not window_open(operation, claim.run.first_us, now_us):
        history = settlements.history(claim)
        before = history[-1].message if history else "it was replayed from a letter."
        failure = Failure(history[-1].outcome) if history else Failure.SEND_WORKER_LOST
        message = f"The vendor may have forgotten our key while the call waited. Before that: {before}"
        return Outcome(effect=Effect.UNKNOWN, failure=failure, message=message, spends_attempt=False)
    return None


def _in_doubt(tried: Tried, disposition: Disposition) -> bool:
    """Tell whether a person would have to find out what the vendor can be asked."""
    doubted = isinstance(disposition, End) and disposition.verdict == "in_doubt"
    return doubted and tried.call.op_class is OperationClass.VERIFIABLE and not tried.outcome.read_back


def _with_answer(call: ToolCall, outcome: Outcome) -> Outcome:
    """Keep the answer that was to be judged again with whatever went wrong: its letter must have it too."""
    if outcome.failure is None or outcome.reply is not None or call.replayed is None or call.replayed.ran is None:
        return outcome
    ran = call.replayed.ran
    reply = Reply(status=ran.status, headers=ran.headers, body=ran.body, truncated=False)
    return msgspec.structs.replace(outcome, status=ran.status, reply=reply)


def _nothing(failure: Failure, message: str) -> Outcome:
    return Outcome(effect=Effect.NOT_EXECUTED, failure=failure, message=message, spends_attempt=False)


def _unreadable(flaw: str) -> Outcome:
    return _nothing(Failure.INTERNAL_BUG, f"The gateway cannot read the call as it was stored: {flaw}")


_IN_DOUBT = Outcome(
    effect=Effect.UNKNOWN,
    failure=Failure.SEND_WORKER_LOST,
    message="A replica of Redis took over, and may not know whether the call was sent before.",
    spends_attempt=False,
)
_LATE = _nothing(Failure.DEADLINE_PASSED, "The deadline passed before an attempt could start.")

"""Delivery: one claim becomes one attempt, one outcome, one decision and one settlement. Decide, then act.

Never repeats a call by itself: a retry goes back to the lane. An exception below means that the gateway is broken.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from connectors.catalog import Catalog, Unknown
from connectors.declared import Connection, Operation
from gateway.flow import reports
from gateway.flow.reports import Finished
from gateway.policy.backoff import Backoff
from gateway.policy.budget import BudgetTerms, RetryBudget
from gateway.policy.disposition import Case, Disposition, End, RetryAt, dispose
from gateway.ports import Ambient, Claim, DeliveryQueue, Mark, Settled, Settlement
from schemas.codec import encode
from schemas.effect import REPEATABLE, Effect, OperationClass
from schemas.failure import Failure
from schemas.lifecycle import DEAD_LETTERED, CallState
from schemas.outcome import Attempt, Outcome
from schemas.tool_call import ToolCall

NEWEST_ATTEMPTS = 20
"""Attempts kept in a call's history; the total is counted beside it."""

_decode_call = msgspec.json.Decoder(ToolCall).decode
_decode_attempts = msgspec.json.Decoder(list[Attempt]).decode


class Vendor(Protocol):
    """One attempt at a vendor; returns an outcome for whatever the vendor does."""

    async def attempt(
        self,
        call: ToolCall,
        operation: Operation,
        connection: Connection | None,
        *,
        mark: Callable[[], Awaitable[bool]],
    ) -> Outcome:
        """Send the call once."""


WriteLetter = Callable[[Finished, str], Awaitable[str]]
"""Renders the letter of a finished call; the second argument is the retry verdict."""


Observe = Callable[[ToolCall, Outcome, CallState | None], None]
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
    observe: Observe


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """A claim together with what just came of it."""

    claim: Claim
    call: ToolCall
    outcome: Outcome
    attempts: list[Attempt]
    started_us: int
    first_us: int
    tried: bool
    """False when nothing was attempted: expired, cancelled or lost before it began."""
    crashes: int


class Delivery:
    """The use-case; one instance a process."""

    def __init__(self, parts: Parts, *, ambient: Ambient, terms: Terms) -> None:
        """Join the parts; see `Parts`."""
        self._queue = parts.queue
        self._vendor = parts.vendor
        self._catalog = parts.catalog
        self._letter = parts.letter
        self._observe = parts.observe
        self._ambient = ambient
        self._terms = terms
        self._budgets: dict[str, RetryBudget] = {}

    async def deliver(self, claim: Claim, held_since_s: float) -> Settled:
        """Attempt a claimed call; `held_since_s` is when the claim was asked for, on the monotonic clock."""
        ambient = self._ambient
        if ambient.monotonic() - held_since_s > self._terms.start_within_s:
            return await self.give_back(claim)
        call = _decode_call(claim.body)
        started_us = _us(ambient)
        if started_us > call.deadline_us:
            outcome = _nothing(Failure.DEADLINE_PASSED, "The deadline passed before an attempt could start.")
            return await self._settle(self._tried(claim, call, outcome, started_us, tried=False))
        self._earn(call, claim)
        outcome = await self._attempt(claim, call)
        return await self._settle(self._tried(claim, call, outcome, started_us, tried=True))

    async def recover(self, claim: Claim) -> Settled:
        """Settle a claim whose worker was lost: what may have been sent is in doubt, the rest goes back to its lane."""
        call = _decode_call(claim.body)
        sent = call.op_class in REPEATABLE or claim.run.marked > 0
        outcome = Outcome(
            effect=Effect.UNKNOWN if sent and call.op_class is not OperationClass.SAFE else Effect.NOT_EXECUTED,
            failure=Failure.SEND_WORKER_LOST,
            message="The worker died while it held the call"
            + ("; it may have been sent." if sent else "; nothing had been sent."),
            spends_attempt=False,
        )
        tried = self._tried(claim, call, outcome, claim.run.since, tried=sent)
        return await self._settle(replace(tried, crashes=claim.run.crashes + 1))

    async def cancel(self, claim: Claim) -> Settled:
        """Settle a claim that its caller withdrew before it started."""
        call = _decode_call(claim.body)
        outcome = _nothing(Failure.CANCELLED, "The caller cancelled the call before it started.")
        return await self._settle(self._tried(claim, call, outcome, _us(self._ambient), tried=False))

    async def give_back(self, claim: Claim) -> Settled:
        """Return a claim untouched to the head of its lane."""
        run = claim.run
        state = CallState.RETRYING if run.tries else CallState.PENDING
        return await self._queue.settle(
            Settlement(
                id=claim.id,
                fence=claim.fence,
                state=state,
                seq=run.seq,
                events=[],
                attempts_json=run.history,
                due_us=0,
                attempts=run.attempts,
                tries=run.tries,
                crashes=run.crashes,
                effect=run.effect,
                first_us=run.first_us,
            )
        )

    async def _attempt(self, claim: Claim, call: ToolCall) -> Outcome:
        catalog = self._catalog()
        operation = catalog.operation(call.tool)
        if operation is None:
            return _nothing(Failure.INGEST_UNKNOWN_TOOL, f'The tool "{call.tool}" was removed while the call waited.')
        connection = catalog.connection_for(operation, call.connection)
        if isinstance(connection, Unknown):
            message = f'The connection "{call.connection}" was removed while the call waited.'
            return _nothing(Failure.INGEST_UNKNOWN_CONNECTION, message)

        async def mark() -> bool:
            return await self._queue.mark(Mark(claim.id, claim.fence))

        return await self._vendor.attempt(call, operation, connection, mark=mark)

    def _tried(self, claim: Claim, call: ToolCall, outcome: Outcome, started_us: int, *, tried: bool) -> _Tried:
        attempts = _decode_attempts(claim.run.history.encode())
        if tried:
            attempts.append(
                Attempt(
                    n=claim.run.tries + 1,
                    started=reports.stamp(reports.moment(started_us)),
                    duration_ms=outcome.duration_ms,
                    worker=self._ambient.worker,
                    fence=claim.fence,
                    status=outcome.status,
                    outcome=outcome.failure or CallState.COMPLETED,
                    effect=outcome.effect,
                    message=outcome.message,
                )
            )
        return _Tried(
            claim=claim,
            call=call,
            outcome=outcome,
            attempts=attempts[-NEWEST_ATTEMPTS:],
            started_us=started_us,
            first_us=claim.run.first_us or (started_us if tried else 0),
            tried=tried,
            crashes=claim.run.crashes,
        )

    async def _settle(self, tried: _Tried) -> Settled:
        disposition = self._dispose(tried)
        self._observe(tried.call, tried.outcome, disposition.state if isinstance(disposition, End) else None)
        if isinstance(disposition, RetryAt):
            return await self._queue.settle(self._deferral(tried, disposition))
        return await self._queue.settle(await self._ending(tried, disposition))

    def _dispose(self, tried: _Tried) -> Disposition:
        call, run, outcome = tried.call, tried.claim.run, tried.outcome
        operation = self._catalog().operation(call.tool)
        now_us = _us(self._ambient)
        case = Case(
            outcome=outcome,
            op_class=call.op_class,
            attempts=run.attempts + (tried.tried and outcome.spends_attempt),
            max_attempts=operation.max_attempts if operation else 1,
            effect_before=run.effect,
            crashes=tried.crashes,
            max_crashes=self._terms.max_crashes,
            window_open=_window_open(operation, tried.first_us, now_us),
            now_us=now_us,
            deadline_us=call.deadline_us,
            retry_at_us=now_us,
        )
        decision = dispose(case)
        if not isinstance(decision, RetryAt) or outcome.failure is Failure.SEND_WORKER_LOST:
            return decision
        # Only a retry that really happens draws on the budget; its time is judged once more, against the deadline.
        return dispose(replace(case, retry_at_us=now_us + self._wait_us(tried)))

    def _wait_us(self, tried: _Tried) -> int:
        wait_s = self._terms.backoff.wait_s(
            tried.claim.run.tries + 1, tried.outcome.retry_after_s, self._ambient.uniform
        )
        budget, delay_s = self._budget(tried.call.connector).spend(self._ambient.monotonic(), self._terms.budget)
        self._budgets[tried.call.connector] = budget
        return int(max(wait_s, delay_s) * 1_000_000)

    def _earn(self, call: ToolCall, claim: Claim) -> None:
        if claim.run.tries == 0:
            self._budgets[call.connector] = self._budget(call.connector).earn(self._terms.budget)

    def _budget(self, connector: str) -> RetryBudget:
        return self._budgets.get(connector) or RetryBudget(self._terms.budget.floor_per_s, self._ambient.monotonic())

    def _deferral(self, tried: _Tried, retry: RetryAt) -> Settlement:
        run, outcome = tried.claim.run, tried.outcome
        seq = run.seq + tried.tried
        return Settlement(
            id=tried.claim.id,
            fence=tried.claim.fence,
            state=CallState.RETRYING if tried.tried or run.tries else CallState.PENDING,
            seq=seq,
            events=[self._attempted(tried, seq, CallState.RETRYING, retry.due_us)] if tried.tried else [],
            attempts_json=encode(tried.attempts).decode(),
            due_us=retry.due_us,
            attempts=run.attempts + (tried.tried and outcome.spends_attempt),
            tries=run.tries + tried.tried,
            crashes=tried.crashes,
            effect=retry.effect,
            first_us=tried.first_us,
        )

    async def _ending(self, tried: _Tried, end: End) -> Settlement:
        claim, now = tried.claim, self._ambient.now()
        finished = Finished(
            call=tried.call,
            outcome=tried.outcome,
            state=end.state,
            effect=end.effect,
            failure=end.failure,
            attempts=tried.attempts,
            tries=claim.run.tries + tried.tried,
            started_us=tried.started_us,
            letter=self._ambient.new_id() if end.state in DEAD_LETTERED else None,
        )
        ended = reports.result(finished)
        seq = claim.run.seq + 1 + tried.tried
        facts = {"state": ended.state, "effect": ended.effect, "attempts": ended.attempts, "error": ended.error}
        events = [self._attempted(tried, seq - 1, end.state, None)] if tried.tried else []
        events.append(reports.lifecycle(tried.call, reports.SETTLED, seq, now, facts))
        return Settlement(
            id=claim.id,
            fence=claim.fence,
            state=end.state,
            seq=seq,
            events=events,
            attempts_json=encode(tried.attempts).decode(),
            answer_ttl_s=self._terms.answer_ttl_s,
            scope_ttl_s=0 if finished.letter else self._terms.scope_ttl_s,
            result=reports.result_event(ended, now, tried.call.traceparent),
            letter=await self._letter(finished, end.verdict) if finished.letter else None,
        )

    def _attempted(self, tried: _Tried, seq: int, state: CallState, due_us: int | None) -> str:
        facts = {
            "state": state,
            "attempt": tried.attempts[-1],
            "due": reports.stamp(reports.moment(due_us)) if due_us else None,
        }
        return reports.lifecycle(tried.call, reports.ATTEMPTED, seq, self._ambient.now(), facts)


def _nothing(failure: Failure, message: str) -> Outcome:
    return Outcome(effect=Effect.NOT_EXECUTED, failure=failure, message=message, spends_attempt=False)


def _window_open(operation: Operation | None, first_us: int, now_us: int) -> bool:
    """Tell whether the vendor still knows our key; the clock starts with the first attempt."""
    if operation is None or operation.op_class is not OperationClass.KEYED or operation.idempotency_window_s is None:
        return True
    return first_us == 0 or now_us - first_us < operation.idempotency_window_s * 1_000_000


def _us(ambient: Ambient) -> int:
    return int(ambient.now().timestamp() * 1_000_000)

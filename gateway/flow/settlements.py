"""Settlements: what the lanes are told when a claim ends or is deferred, with every event, result and letter. Pure.

Delivery decides; here it is only written down.
"""

from dataclasses import dataclass

import msgspec

from gateway.flow import letter_moves, reports, stored_calls
from gateway.flow.reports import Finished
from gateway.policy.disposition import End, RetryAt
from gateway.policy.plans import WEIGHTS, flow_of
from gateway.ports import Claim, Lesson, Settlement, Slots, Way
from schemas.codec import encode
from schemas.effect import Effect
from schemas.lifecycle import CallState, move
from schemas.moment import moment, stamp
from schemas.outcome import Attempt, Outcome
from schemas.tool_call import ToolCall

NEWEST_ATTEMPTS = 20
"""Attempts kept in a call's history; the total is counted beside it."""

_decode_attempts = msgspec.json.Decoder(list[Attempt]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A claim together with what just came of it."""

    claim: Claim
    call: ToolCall
    outcome: Outcome
    started_us: int
    worker: str
    tried: bool
    """False when nothing was attempted: expired, cancelled or lost before it began."""
    crashed: bool = False
    """True when the claim's worker was lost."""
    slots: Slots = "unused"
    costs: dict[str, int] | None = None
    lessons: list[Lesson] | None = None

    @property
    def tries(self) -> int:
        """Attempts made so far, whether they spend one or not."""
        return self.claim.run.tries + self.tried

    @property
    def spent(self) -> int:
        """Attempts spent so far."""
        return self.claim.run.attempts + (self.tried and self.outcome.spends_attempt)

    @property
    def crashes(self) -> int:
        """Workers lost with this call so far."""
        return self.claim.run.crashes + self.crashed

    @property
    def first_us(self) -> int:
        """When the first attempt began; 0 when there was none."""
        return self.claim.run.first_us or (self.started_us if self.tried else 0)

    def attempts(self) -> list[Attempt]:
        """Return the newest attempts, this one included."""
        earlier = history(self.claim)
        if not self.tried:
            return earlier
        outcome = self.outcome
        this = Attempt(
            n=self.tries,
            started=stamp(moment(self.started_us)),
            duration_ms=outcome.duration_ms,
            worker=self.worker,
            fence=self.claim.fence,
            status=outcome.status,
            outcome=outcome.failure or CallState.COMPLETED,
            effect=outcome.effect,
            message=outcome.message,
        )
        return [*earlier, this][-NEWEST_ATTEMPTS:]


def history(claim: Claim) -> list[Attempt]:
    """Return the attempts before this claim."""
    return _decode_attempts(claim.run.history.encode())


def give_back(claim: Claim) -> Settlement:
    """Return a claim untouched to its lane."""
    run = claim.run
    return Settlement(
        id=claim.id,
        fence=claim.fence,
        state=_waiting(run.tries),
        seq=run.seq,
        events=[],
        attempts_json=run.history,
        slots="unused",
        due_us=0,
        attempts=run.attempts,
        tries=run.tries,
        crashes=run.crashes,
        effect=run.effect,
        first_us=run.first_us,
    )


def deferral(tried: Tried, retry: RetryAt) -> Settlement:
    """Send a call back to its lane until it is due."""
    claim, attempts = tried.claim, tried.attempts()
    seq = claim.run.seq + tried.tried
    return Settlement(
        id=claim.id,
        fence=claim.fence,
        state=_waiting(tried.tries),
        seq=seq,
        events=[_attempted(tried, attempts[-1], seq, retry.due_us)] if tried.tried else [],
        attempts_json=encode(attempts).decode(),
        slots=tried.slots,
        costs=tried.costs,
        lessons=tried.lessons,
        due_us=retry.due_us,
        attempts=tried.spent,
        tries=tried.tries,
        crashes=tried.crashes,
        effect=retry.effect,
        first_us=tried.first_us,
    )


def detour(tried: Tried, due_us: int, way: Way, note: str) -> Settlement:
    """Send a call whose effect nobody knows to the lane of a read, and tell what was seen there so far."""
    settlement = deferral(tried, RetryAt(due_us, Effect.UNKNOWN))
    if tried.tried or not note:
        return msgspec.structs.replace(settlement, way=way)
    seq, now = settlement.seq + 1, moment(tried.started_us)
    seen = {"tool": stored_calls.tool_of(way.lane), "detail": note, "looks": way.doubt.looks if way.doubt else 0}
    facts = {
        "state": settlement.state,
        "effect": Effect.UNKNOWN,
        "attempts": tried.tries,
        "read_back": seen,
        "due": stamp(moment(due_us)),
    }
    event = reports.lifecycle(tried.call, reports.READ_BACK, seq, now, facts)
    return msgspec.structs.replace(settlement, way=way, seq=seq, events=[event])


def finished(tried: Tried, end: End, letter: str | None) -> Finished:
    """Gather a call's end; `letter` is the id of its letter, if it leaves one."""
    return Finished(
        call=tried.call,
        outcome=tried.outcome,
        state=move(CallState.PROCESSING, end.state),
        effect=end.effect,
        failure=end.failure,
        attempts=tried.attempts(),
        tries=tried.tries,
        started_us=tried.started_us,
        letter=letter,
    )


def ending(tried: Tried, over: Finished, letter: str | None, now_us: int) -> Settlement:
    """End a call; `letter` is the rendered one. How long its answer and key are kept is for the caller to fill in."""
    ended, now = reports.result(over), moment(now_us)
    seq = tried.claim.run.seq + 1 + tried.tried
    facts = {
        "state": ended.state,
        "effect": ended.effect,
        "evidence": ended.evidence or None,
        "attempts": ended.attempts,
        "error": ended.error,
    }
    events = [_attempted(tried, over.attempts[-1], seq - 1, None)] if tried.tried else []
    untried = tried.tries == tried.crashes == 0
    return Settlement(
        id=tried.claim.id,
        fence=tried.claim.fence,
        state=over.state,
        seq=seq,
        events=[*events, reports.lifecycle(tried.call, reports.SETTLED, seq, now, facts)],
        attempts_json=encode(over.attempts).decode(),
        slots=tried.slots,
        costs=tried.costs,
        lessons=tried.lessons,
        result=reports.result_event(ended, now, tried.call.traceparent),
        letter=letter,
        opens=letter_moves.opened(over, tried.first_us),
        moves=letter_moves.moved(over, now),
        flow=flow_of(tried.call) if untried else None,
        weight=WEIGHTS[tried.call.priority] if untried else None,
    )


def _waiting(tries: int) -> CallState:
    return move(CallState.PROCESSING, CallState.RETRYING if tries else CallState.PENDING)


def _attempted(tried: Tried, attempt: Attempt, seq: int, due_us: int | None) -> str:
    ended_us = tried.started_us + attempt.duration_ms * 1000
    due = stamp(moment(due_us)) if due_us else None
    state = CallState.PROCESSING if due is None else CallState.RETRYING
    facts = {"state": state, "attempt": attempt, "due": due}
    return reports.lifecycle(tried.call, reports.ATTEMPTED, seq, moment(ended_us), facts)

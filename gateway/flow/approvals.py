"""Approvals: which calls wait for a person, what exactly they would do, and the person's word. Also what happens when nobody speaks.

A decision is about one call with exactly the arguments that were shown, counts once, and is never the requester's own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import structlog

from gateway.flow import reports, stored_calls
from gateway.flow.refusals import Conflict, Nowhere, Unfit
from gateway.policy.reviews import MOST_REASON, action_hash, own
from gateway.ports import Ambient, Claim, Known, Live, Settled
from gateway.ports.reviews import Answer, Changed, Decided, Released, ReviewQueue, Taken, Word
from schemas.effect import OperationClass
from schemas.lifecycle import CallState
from schemas.review import Decision, Review
from schemas.tool_call import ToolCall

log = structlog.get_logger()

LEASE_US: Final = 10_000_000
"""How long a denied or expired call is taken for, to be ended."""

MOST_LISTED: Final = 500
DUE_AT_ONCE: Final = 200

TIMER: Final = "the timer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What approvals work with."""

    queue: ReviewQueue
    inspect: Callable[[str], Awaitable[Known]]
    end: Callable[[Claim], Awaitable[Settled]]
    """Ends a call that was decided against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call that waits for a person, or waited."""

    call: ToolCall
    state: CallState
    review: Review
    hash: str
    """Of what would run, computed now from what waits."""


class OwnRequest(PermissionError):  # noqa: N818 - a situation
    """Nobody approves what he asked for himself."""


class Approvals:
    """The use-case; one instance a process."""

    def __init__(self, parts: Parts, ambient: Ambient) -> None:
        """Join the parts; see `Parts`."""
        self._parts = parts
        self._ambient = ambient

    async def ls(self) -> list[Request]:
        """List what waits for a person, what ends first at the top."""
        found = [await self._find(one) for one in await self._parts.queue.waiting(most=MOST_LISTED)]
        return [one for one in found if one is not None and one.state is CallState.WAITING_FOR_REVIEW]

    async def show(self, call: str) -> Request:
        """Look at one; raises `Nowhere` for a call that needs no approval or is over."""
        found = await self._find(call)
        if found is None:
            raise Nowhere("", f"no call {call} waits for an approval")
        return found

    async def decide(
        self,
        call: str,
        verdict: Literal[Decision.APPROVED, Decision.DENIED],
        *,
        by: str,
        reason: str,
        shown: str | None,
    ) -> Request:
        """Approve or deny; `shown` is the hash of what the person saw, None: what waits now.

        Raises `Nowhere`, `Unfit`, `OwnRequest` and `Conflict`.
        """
        if len(reason) > MOST_REASON or (verdict is Decision.DENIED and not reason.strip()):
            raise Unfit("/reason", f"a denial needs a reason, of at most {MOST_REASON} characters")
        found = await self.show(call)
        if own(by, found.call):
            raise OwnRequest(f'"{by}" asked for it, and cannot decide about it as well')
        word = self._word(found, verdict, by=by, reason=reason, shown=shown or found.hash)
        answer = await self._parts.queue.decide(word, lease_us=LEASE_US)
        await self._ended(answer, word)
        return await self._told(answer, word, found)

    async def expire(self) -> int:
        """End what nobody decided in time; returns how many."""
        now_us, ended = await self._parts.queue.now_us(), 0
        for call in await self._parts.queue.waiting(most=DUE_AT_ONCE, until_us=now_us):
            found = await self._find(call)
            if found is None:
                continue
            word = self._word(found, Decision.EXPIRED, by=TIMER, reason="nobody decided in time", shown="")
            answer = await self._parts.queue.decide(word, lease_us=LEASE_US)
            ended += await self._ended(answer, word)
        return ended

    async def _find(self, call: str) -> Request | None:
        known = await self._parts.inspect(call)
        if not isinstance(known, Live) or known.run.review is None:
            return None
        record, _ = stored_calls.read(call, known, OperationClass.UNSAFE)
        return Request(call=record, state=known.run.state, review=known.run.review, hash=action_hash(record))

    def _word(self, found: Request, decision: Decision, *, by: str, reason: str, shown: str) -> Word:
        after = CallState.PENDING if decision is Decision.APPROVED else CallState.PROCESSING
        facts = {"state": after, "decision": decision, "by": by, "reason": reason}
        event = reports.lifecycle(found.call, reports.REVIEWED, 2, self._ambient.now(), facts)
        return Word(call=found.call.id, hash=shown, decision=decision, by=by, reason=reason, event=event)

    async def _ended(self, answer: Answer, word: Word) -> bool:
        if isinstance(answer, Released | Taken):
            log.warning("approval.decided", call=word.call, decision=word.decision, who=word.by, reason=word.reason)
        if not isinstance(answer, Taken):
            return False
        await self._parts.end(answer.claim)
        return True

    async def _told(self, answer: Answer, word: Word, found: Request) -> Request:
        """Say what came of a decision; the same one said twice is no mistake."""
        match answer:
            case Changed(hash=waits):
                raise Conflict(
                    f"what was decided about ({word.hash[:12]}) is not what waits ({waits[:12]}); look at it again"
                )
            case Decided(run=run) if run.review is None or (run.review.decision, run.review.by) != (
                word.decision,
                word.by,
            ):
                before = run.review.decision if run.review else None
                raise Conflict(
                    f"{run.review.by} decided before: {before}"
                    if run.review and before
                    else f"the call is {run.state} now"
                )
            case None:
                raise Conflict("the call has ended")
            case _:
                review = msgspec.structs.replace(found.review, decision=word.decision, by=word.by, reason=word.reason)
                state = CallState.PENDING if word.decision is Decision.APPROVED else CallState.REJECTED
                return Request(call=found.call, state=state, review=review, hash=found.hash)

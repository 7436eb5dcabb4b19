"""What the end of a call does to letters: the one that it leaves, and the one that it replays. Pure."""

from datetime import datetime
from typing import Any

from gateway.flow.reports import Finished, fingerprint_of
from gateway.policy.replays import Order
from schemas.cloudevent import CloudEvent, publishable
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect
from schemas.letter import CHANGED, LetterState, LetterStatus, Moved, Opened
from schemas.lifecycle import CallState
from schemas.moment import stamp
from schemas.tool_call import ToolCall


def opened(over: Finished, first_us: int) -> Opened | None:
    """Say how the letter of a call stands at first; None: it leaves none."""
    if over.letter is None:
        return None
    call = over.call
    state = LetterState(
        status=LetterStatus.OPEN,
        call=call.id,
        effect=over.effect,
        op_class=call.op_class,
        root=call.root or over.letter,
        generation=call.generation,
        first_us=first_us if over.effect is not Effect.NOT_EXECUTED else 0,
        fingerprint=fingerprint_of(over),
        kept=[[call.scope, call.id]],
    )
    return Opened(id=over.letter, state=state)


def unread(letter: DeadLetter) -> Opened:
    """Say how the letter of what was no call stands."""
    state = LetterState(
        status=LetterStatus.OPEN,
        call=None,
        effect=Effect.NOT_EXECUTED,
        op_class=None,
        root=letter.identity.dl_id,
        generation=0,
        first_us=0,
        fingerprint=letter.grouping.fingerprint,
        kept=[],
    )
    return Opened(id=letter.identity.dl_id, state=state)


def begun(order: Order, call: ToolCall, now: datetime) -> str:
    """Tell that a letter is replayed by a call."""
    named = {"call": order.call, "by": order.by, "reason": None, "replay": order.replay, "replayed_by": call.id}
    facts = {**named, "patched": order.patched, "override": order.override}
    return changed(order.letter, LetterStatus.REPLAYING, mark=call.id, now=now, facts=facts)


def moved(over: Finished, now: datetime) -> Moved | None:
    """Say what becomes of the letter that a call replays; None: it replays none."""
    call, of = over.call, over.call.replayed
    if of is None or call.replay_of is None:
        return None
    status, reason = _becomes(over)
    facts = {
        "call": of.call,
        "by": of.by,
        "reason": reason,
        "replay": of.replay,
        "replayed_by": call.id,
        "successor": over.letter,
    }
    event = changed(call.replay_of, status, mark=call.id, now=now, facts=facts)
    return Moved(
        letter=call.replay_of,
        replay=of.replay,
        status=status,
        state=over.state,
        fingerprint=None if over.failure is None else fingerprint_of(over),
        reason=reason,
        event=event,
    )


def changed(letter: str, status: LetterStatus, *, mark: str, now: datetime, facts: dict[str, Any]) -> str:
    """Render `letter.changed`; `mark` tells two changes to the same status apart."""
    data = {"letter": letter, "status": status, **facts, "at": stamp(now)}
    return publishable(CloudEvent(type=CHANGED, id=f"{letter}.{status}.{mark}", time=stamp(now), data=data))


def _becomes(over: Finished) -> tuple[LetterStatus, str]:
    if over.state is CallState.COMPLETED:
        return LetterStatus.REPLAYED_OK, "its replay completed"
    if over.letter is not None:
        return LetterStatus.REPLAYED_FAILED, "its replay failed and left a letter of its own"
    return LetterStatus.OPEN, f"its replay ended as {over.state} before anything was sent"

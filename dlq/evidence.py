"""What a letter concludes its effect from, and what a person should do next. Pure: tables over the failure taxonomy.

Never decides an effect: that was done by the classifier and the join over the attempts. It only says why.
"""

from enum import StrEnum
from types import MappingProxyType

from schemas.effect import Effect, OperationClass
from schemas.failure import FACTS, Failure
from schemas.lifecycle import CallState
from schemas.outcome import Outcome


class Evidence(StrEnum):
    """What was observed (reference: mechanisms §6)."""

    READ_ONLY = "read_only"
    NEVER_DECODED = "never_decoded"
    NEVER_STARTED = "never_started"
    FAILED_BEFORE_SENDING = "failed_before_sending"
    NOTHING_SENT = "nothing_sent"
    REFUSED_BY_VENDOR = "refused_by_vendor"
    ANSWERED_2XX = "answered_2xx"
    CUT_WHILE_SENDING = "cut_while_sending"
    NO_COMPLETE_ANSWER = "no_complete_answer"
    AMBIGUOUS_STATUS = "ambiguous_status"
    WORKER_LOST_AFTER_INTENT = "worker_lost_after_intent"
    EARLIER_ATTEMPT = "earlier_attempt"
    """The last attempt proved something else; the effect comes from one before it."""
    READ_BACK = "read_back"
    """The vendor was asked whether it ran."""
    DECLARED = "declared_by_connector"
    NONE = "none"


BY_STAGE = MappingProxyType(
    {
        "decode": Evidence.NEVER_DECODED,
        "ingest": Evidence.NEVER_STARTED,
        "approval": Evidence.NEVER_STARTED,
        "admission": Evidence.NEVER_STARTED,
        "deadline": Evidence.NEVER_STARTED,
        "cancelled": Evidence.NEVER_STARTED,
        "breaker": Evidence.NEVER_STARTED,
        "persist": Evidence.NEVER_STARTED,
        "token": Evidence.FAILED_BEFORE_SENDING,
        "render": Evidence.FAILED_BEFORE_SENDING,
        "egress": Evidence.FAILED_BEFORE_SENDING,
        "connect": Evidence.FAILED_BEFORE_SENDING,
        "send": Evidence.CUT_WHILE_SENDING,
        "receive": Evidence.NO_COMPLETE_ANSWER,
        "http": Evidence.AMBIGUOUS_STATUS,
        "schema": Evidence.ANSWERED_2XX,
        "readback": Evidence.EARLIER_ATTEMPT,
        "internal": Evidence.NONE,
        "poison": Evidence.WORKER_LOST_AFTER_INTENT,
    }
)
"""What a failure of a stage proves by itself."""

_LOST = frozenset({Failure.SEND_WORKER_LOST, Failure.POISON_CRASH_LOOP})
_DECIDE = FACTS[Failure.INTERNAL_BUG].action
_REPEAT = "It may be repeated safely: sluice dlq replay {letter}"
_RAN = "It ran at the vendor; look at what came back: sluice dlq show {letter}"
_CRASHED = "Worker after worker was lost with this call; find out why before you run: sluice dlq replay {letter}"
_UNREAD = "Worker after worker was lost reading this event; look at it with care: sluice dlq show {letter}"


def evidence(op_class: OperationClass, effect: Effect, outcome: Outcome, failure: Failure) -> Evidence:
    """Say what the joined `effect` is concluded from; `failure` counts where the last outcome has none."""
    last = outcome.failure or failure
    if op_class is OperationClass.SAFE:
        return Evidence.READ_ONLY
    if effect is not outcome.effect:
        return Evidence.EARLIER_ATTEMPT
    if outcome.read_back and effect is not Effect.UNKNOWN:
        return Evidence.READ_BACK
    if effect is Effect.EXECUTED and outcome.status is not None and outcome.status // 100 == 2:
        return Evidence.ANSWERED_2XX
    if effect is FACTS[last].effect:
        return _proven(last)
    return Evidence.NOTHING_SENT if last in _LOST else Evidence.DECLARED


def _proven(failure: Failure) -> Evidence:
    if failure in _LOST:
        return Evidence.WORKER_LOST_AFTER_INTENT
    if stage(failure) == "http" and FACTS[failure].effect is Effect.NOT_EXECUTED:
        return Evidence.REFUSED_BY_VENDOR
    return BY_STAGE[stage(failure)]


def action(failure: Failure, state: CallState, effect: Effect, letter_id: str, tool: str) -> str:
    """Return the next step in plain words: the failure's own, unless the call as a whole asks for another."""
    facts = FACTS[failure]
    text = facts.action
    if state is CallState.ESCALATED:
        text = _DECIDE
    elif failure is Failure.POISON_CRASH_LOOP:
        text = _CRASHED
    elif effect is Effect.EXECUTED and facts.effect is not Effect.EXECUTED:
        text = _RAN
    elif text == _DECIDE:
        text = _REPEAT
    return text.replace("{letter}", letter_id).replace("{tool}", tool)


def unread_action(failure: Failure, letter_id: str) -> str:
    """Return the next step for an event that never became a call."""
    text = _UNREAD if failure is Failure.POISON_CRASH_LOOP else FACTS[failure].action
    return text.replace("{letter}", letter_id)


def stage(failure: Failure) -> str:
    """Return the stage in which a failure happens: the part of its name before the dot."""
    return failure.partition(".")[0]

"""One plain sentence about how a call ended, for people who read results and letters. Pure."""

from dataclasses import dataclass

from schemas.effect import Effect
from schemas.lifecycle import DEAD_LETTERED, CallState
from schemas.outcome import Attempt

_ORDINALS = ("no", "first", "second", "third", "fourth", "fifth")

_ENDINGS = {
    CallState.COMPLETED: "Done on the {ordinal} attempt",
    CallState.REJECTED: "Refused before anything was sent",
    CallState.EXPIRED: "Its deadline passed before it could run",
    CallState.CANCELLED: "Cancelled before it started",
    CallState.FAILED: "Given up after {count}",
    CallState.ESCALATED: "Stopped after {count}: a person must decide before it may be repeated",
    CallState.ROLLED_BACK: "Undone",
}
_EFFECTS = {
    Effect.NOT_EXECUTED: "it did not run at the vendor",
    Effect.EXECUTED: "it did run at the vendor",
    Effect.UNKNOWN: "whether it ran at the vendor is not known",
}


@dataclass(frozen=True, slots=True)
class Story:
    """What the sentence is about."""

    state: CallState
    tries: int
    effect: Effect


def summarise(story: Story, earlier: list[Attempt], failed: str | None) -> str:
    """Return the sentence; `earlier` are the attempts before the last, `failed` says what ended the call."""
    text = _ENDINGS[story.state].format(ordinal=_ordinal(story.tries), count=_count(story.tries))
    if story.state is CallState.COMPLETED and earlier:
        text += f"; before that: {earlier[-1].message or earlier[-1].outcome}"
    if story.state in DEAD_LETTERED:
        text += f"; {_EFFECTS[story.effect]}"
    if failed:
        text = f"{text}. {failed[:1].upper()}{failed[1:]}"
    return text if text.endswith("?") else text.rstrip(".") + "."


def _ordinal(number: int) -> str:
    if number < len(_ORDINALS):
        return _ORDINALS[number]
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _count(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number or 'no'} attempts"

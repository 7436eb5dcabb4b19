"""What a running replay does next: send some letters, wait, stop, or end; and at which pace. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.declared import Operation
from dlq.replay import Action
from schemas.letter import LetterStatus
from schemas.replay import Progress, ReplayItem, ReplayPlan

AT_ONCE = 32
"""Calls of one replay that may be under way; what is stopped stops soon."""

CANARY_MAY_FAIL = 1

FREE_PACE = 50.0
"""Letters a second of a lane whose operation declares no rate."""

CANARY_SHARE, CANARY_LEAST = 0.1, 5


@dataclass(frozen=True, slots=True)
class Stop:
    """It must not go on by itself."""

    why: str


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Send:
    """These are next, in this order; none: it waits for some that are under way."""

    items: tuple[ReplayItem, ...]


Step = Stop | Done | Send


def canary_of(letters: int) -> int:
    """Return how many go first when nobody says: a tenth, and five at least."""
    return min(letters, max(CANARY_LEAST, round(letters * CANARY_SHARE)))


def step(plan: ReplayPlan, items: Sequence[ReplayItem], progress: Mapping[str, Progress]) -> Step:
    """Decide from what is kept alone, so that whoever takes over decides alike."""
    chosen = [item for item in items if item.action != Action.EXCLUDED]
    left = [item for item in chosen if item.letter not in progress]
    under_way = sum(one.status == LetterStatus.REPLAYING for one in progress.values())
    if not left:
        return Send(()) if under_way else Done()
    why = _hopeless(plan, chosen, progress)
    if why is not None:
        return Stop(why)
    canary = [item for item in chosen[: plan.canary] if item.letter not in progress]
    if canary:
        return Send(tuple(canary[: max(0, AT_ONCE - under_way)]))
    if _under_way(chosen[: plan.canary], progress):
        return Send(())
    return Send(tuple(left[: max(0, AT_ONCE - under_way)]))


def failures(progress: Mapping[str, Progress]) -> int:
    """Count the replays that failed."""
    return sum(one.status == LetterStatus.REPLAYED_FAILED for one in progress.values())


def _under_way(items: Sequence[ReplayItem], progress: Mapping[str, Progress]) -> bool:
    return any(item.letter in progress and progress[item.letter].status == LetterStatus.REPLAYING for item in items)


def _hopeless(plan: ReplayPlan, chosen: Sequence[ReplayItem], progress: Mapping[str, Progress]) -> str | None:
    """Say why it may not go on, if it may not; what was forgiven does not count."""
    failed = [item for item in chosen if item.letter in progress and _failed(progress[item.letter])]
    again = [item for item in failed if progress[item.letter].fingerprint == item.fingerprint]
    if len(again) - plan.forgiven > plan.stop_after:
        return f"{len(again)} letters failed again as before ({again[-1].fingerprint})"
    first = {item.letter for item in chosen[: plan.canary]}
    broken = sum(item.letter in first for item in failed) if plan.forgiven == 0 else 0
    if broken > min(CANARY_MAY_FAIL, max(0, plan.canary - 1)):
        return f"{broken} of the first {plan.canary} failed"
    return None


def _failed(one: Progress) -> bool:
    return one.status == LetterStatus.REPLAYED_FAILED


def pace(operation: Operation | None, share: float) -> float:
    """Return the letters a second of one lane: a share of the tightest rate that each call takes of."""
    rates = [
        use.limit.most * 1_000_000 / (use.limit.window_us * max(1, use.cost))
        for use in (operation.uses if operation else ())
        if use.limit.window_us
    ]
    return min([*rates, FREE_PACE]) * share

"""What a replay may do with a letter: call again, only judge the answer again, ask first, or leave it alone and say why. Pure.

The effect decides. What ran is never called again; what may have run only where the vendor will not run it twice, or says that it did
not; and where nobody can tell, a person decides first.
"""

from dataclasses import dataclass
from enum import StrEnum

from schemas.effect import REPEATABLE, Effect, OperationClass
from schemas.letter import FINAL, LetterStatus

MOST_GENERATIONS = 3
"""How often a chain of letters may be replayed; what fails so often fails again."""


class Action(StrEnum):
    """What is done."""

    CALL = "call"
    REVALIDATE = "revalidate"
    """Its answer is judged and delivered; nothing is sent."""
    READ_BACK = "read_back"
    """The vendor is asked whether it ran, and it is called only if it did not."""
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is done with a letter, why, and what a person may run next where nothing is."""

    action: Action
    reason: str
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The facts about one letter, gathered by the shell."""

    letter: str
    status: LetterStatus
    effect: Effect
    op_class: OperationClass | None
    """As it was sent; None: it was no call."""
    declared: OperationClass | None
    """As it is declared now; None: there is no such tool any more."""
    window_open: bool
    """Whether the vendor still honours the key (always true where there is no window)."""
    generation: int
    patched: bool
    answered: bool
    """Whether a whole answer of the vendor that says success is kept."""
    overridden: bool = False
    """Whether an operator, with a reason, lets what was replayed often enough be replayed again."""
    obstacle: str | None = None
    """Why intake would refuse it now."""


def exhausted(generation: int) -> bool:
    """Tell whether a letter was replayed as often as it may be without somebody saying why again."""
    return generation >= MOST_GENERATIONS


def judge(case: Case) -> Verdict:
    """Return what a replay does with a letter; the first rule that speaks counts."""
    return _barred(case) or _by_effect(case)


def _barred(case: Case) -> Verdict | None:
    """Say why nothing is done, whatever the effect."""
    show = f"sluice dlq show {case.letter}"
    rules = (
        (case.status in FINAL, f"it is over: {case.status}", show),
        (case.status is LetterStatus.REPLAYING, "another replay has it", "sluice replays ls"),
        (
            case.op_class is None,
            "it is no call: what came could not be read",
            f'sluice dlq discard {case.letter} --reason "…"',
        ),
        (
            exhausted(case.generation) and not case.overridden,
            f"it was replayed {case.generation} times",
            f'sluice dlq replay {case.letter} --override "…"',
        ),
        (case.declared is None, "there is no such tool any more", "sluice connectors ls"),
        (
            case.patched and case.effect is not Effect.NOT_EXECUTED,
            f"its effect is {case.effect}: only what did not run may be changed",
            _settle(case),
        ),
    )
    return next((Verdict(action=Action.EXCLUDED, reason=why, next_step=do) for holds, why, do in rules if holds), None)


def _by_effect(case: Case) -> Verdict:
    if case.obstacle is not None:
        return Verdict(action=Action.EXCLUDED, reason=case.obstacle, next_step=f"sluice dlq show {case.letter}")
    match case.effect:
        case Effect.NOT_EXECUTED:
            return Verdict(action=Action.CALL, reason="it did not run")
        case Effect.EXECUTED if case.answered:
            return Verdict(action=Action.REVALIDATE, reason="it ran: only its answer is judged again")
        case Effect.EXECUTED:
            why = "it ran, and its answer was not kept whole"
            return Verdict(action=Action.EXCLUDED, reason=why, next_step=_settle(case))
        case _:
            return _in_doubt(case)


def _in_doubt(case: Case) -> Verdict:
    """Nobody knows whether it ran: both what it was then and what it is now must allow a repeat."""
    if case.op_class is case.declared is OperationClass.VERIFIABLE:
        why = "nobody knows whether it ran: the vendor is asked first, and it is called only if it did not"
        return Verdict(action=Action.READ_BACK, reason=why)
    if not {case.op_class, case.declared} <= REPEATABLE:
        why = f"nobody knows whether it ran, and a repeat of an {case.op_class} operation could be a second effect"
        return Verdict(action=Action.EXCLUDED, reason=why.replace("an verif", "a verif"), next_step=_settle(case))
    if not case.window_open:
        why = "nobody knows whether it ran, and the vendor may have forgotten its key"
        return Verdict(action=Action.EXCLUDED, reason=why, next_step=_settle(case))
    return Verdict(action=Action.CALL, reason=f"whether it ran is unknown, and a repeat is safe: {case.op_class}")


def _settle(case: Case) -> str:
    if case.effect is Effect.UNKNOWN:
        return f"sluice dlq resolve {case.letter}"
    return f'sluice dlq resolve {case.letter} --done --reason "…"'

"""What is known about a call's effect on the vendor, and what an operation promises about repeats.

Every failure carries an effect; replay, retry and escalation all follow from it. Pure: tables and one join.
"""

from collections.abc import Iterable
from enum import StrEnum


class Effect(StrEnum):
    """What the vendor did, as far as there is proof."""

    NOT_EXECUTED = "not_executed"
    EXECUTED = "executed"
    UNKNOWN = "unknown"


class OperationClass(StrEnum):
    """What an operation declares about being sent twice; the default is the pessimistic one."""

    SAFE = "safe"
    IDEMPOTENT = "idempotent"
    KEYED = "keyed"
    VERIFIABLE = "verifiable"
    UNSAFE = "unsafe"


REPEATABLE = frozenset({OperationClass.SAFE, OperationClass.IDEMPOTENT, OperationClass.KEYED})
"""Classes the machine may send again while the effect is unknown; the others need a `sending` mark and a person."""

_STRENGTH = {Effect.NOT_EXECUTED: 0, Effect.UNKNOWN: 1, Effect.EXECUTED: 2}


def join(effects: Iterable[Effect]) -> Effect:
    """Return the effect of a call over its attempts: executed > unknown > not_executed."""
    return max(effects, key=_STRENGTH.__getitem__, default=Effect.NOT_EXECUTED)


def needs_mark(op_class: OperationClass) -> bool:
    """Tell whether a crash must be able to see that sending had begun (DESIGN: effect evidence)."""
    return op_class not in REPEATABLE

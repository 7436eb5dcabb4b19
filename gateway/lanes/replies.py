"""What the scripts answer, as values. Pure."""

from typing import Any, Final

import msgspec

from gateway.ports import (
    Admitted,
    Answer,
    Barred,
    Budget,
    Claim,
    Claims,
    Conflict,
    Duplicate,
    Ended,
    Flooded,
    Full,
    Heavy,
    Held,
    Journalled,
    Known,
    LaneState,
    Late,
    Live,
    Run,
    Seen,
)
from schemas.lifecycle import HoldReason

_ANSWERS: Final[dict[str, Any]] = {
    "admitted": Admitted,
    "duplicate": Duplicate,
    "conflict": Conflict,
    "full": Full,
    "heavy": Heavy,
    "flooded": Flooded,
    "late": Late,
    "seen": Seen,
    "barred": Barred,
    "journalled": Journalled,
}
run = msgspec.msgpack.Decoder(Run).decode
"""Reads the record of a call."""


def answer(reply: list[Any]) -> Answer:
    """Read one answer of `enqueue`."""
    kind, value = reply
    made: Answer = _ANSWERS[text(kind)](value if isinstance(value, int) else text(value))
    return made


def claims(reply: list[Any]) -> Claims:
    """Read the answer of `claim`."""
    kind, now, due, flat = reply
    forgot = text(kind) == "forgot"
    return Claims(now_us=now, claims=taken(now, flat), due_us=_optional(due), forgot=forgot)


def taken(now: int, flat: list[Any]) -> tuple[Claim, ...]:
    """Read claims, which come five values each."""
    return tuple(
        Claim(
            id=text(flat[at]),
            fence=flat[at + 1],
            lease_us=int(flat[at + 2]),
            claimed_us=now,
            run=run(flat[at + 3]),
            body=flat[at + 4] or b"",
        )
        for at in range(0, len(flat), 5)
    )


def known(reply: list[Any]) -> Known:
    """Read the answer of `inspect`."""
    kind, *rest = reply
    match text(kind):
        case "live":
            now, packed, body, position, due, eta, hold = rest
            return Live(
                now_us=now,
                run=run(packed),
                body=body or b"",
                position=_optional(position),
                due_us=_optional(due),
                eta_us=_optional(eta),
                held=held(hold),
            )
        case "ended":
            return Ended(event=rest[0], attempts=rest[1])
        case _:
            return None


def held(reply: list[Any]) -> Held | None:
    """Read what holds a lane, if anything does."""
    if not reply:
        return None
    reason, detail, until, key, *limit = reply
    name, most, window, used = limit or (b"", 0, 0, 0)
    return Held(
        reason=HoldReason(text(reason)),
        detail=text(detail),
        until_us=until or None,
        key=text(key),
        limit=text(name) or None,
        most=most,
        window_us=window,
        used=used,
    )


def lane_state(reply: list[Any]) -> LaneState:
    """Read one lane of `survey`."""
    lane, live, waiting, oldest, eta, hold, budgets = reply
    return LaneState(
        lane=text(lane),
        live=live,
        waiting=waiting,
        oldest_us=_optional(oldest),
        eta_us=_optional(eta),
        held=held(hold),
        budgets=tuple(_budget(budget) for budget in budgets),
    )


def _budget(reply: list[Any]) -> Budget:
    key, name, kind, most, window, used, learned = reply
    return Budget(
        key=text(key),
        name=text(name),
        kind=text(kind),
        most=most,
        window_us=window,
        used=used,
        learned=_optional(learned),
    )


def _optional(value: int) -> int | None:
    return value if value >= 0 else None


def text(value: bytes | str) -> str:
    """Return what Redis sent as text."""
    return value.decode() if isinstance(value, bytes) else value

"""A worker that dies at a chosen step: `python -m tests.faults.deadly 'after mark' 3` kills itself the third time it gets there.

The product has no hooks for this: the step is wrapped from outside, and death is a real SIGKILL of the real process.
"""

import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from connectors.auth.refresher import Refresher
from connectors.transport import Engine
from gateway import guards, roles
from gateway.flow import intake
from gateway.flow.letter_care import LetterCare
from gateway.lanes.findings import Findings
from gateway.lanes.letter_shelf import LetterShelf
from gateway.lanes.queue import Lanes
from gateway.lanes.tokens import Tokens
from gateway.settings import Settings
from schemas import cloudevent

STEPS: dict[str, tuple[type, str]] = {
    "enqueue": (Lanes, "enqueue"),
    "refuse": (Lanes, "refuse"),
    "claim": (Lanes, "claim"),
    "mark": (Lanes, "mark"),
    "send": (Engine, "send"),
    "settle": (Lanes, "settle"),
}
"""What can be interrupted, before and after."""

REFRESH: dict[str, tuple[type, str]] = {"refresh": (Refresher, "fresh"), "keep": (Tokens, "commit")}
"""The same for a connector with tokens: asking for a new one, and keeping it."""

SHORT_LEASE_S, SHORT_REFRESH_S = 1.6, 0.7
"""Who dies while it asks for a token leaves a lease, for as long as it said; a test has no patience for that of the product."""

RARE: dict[str, tuple[type, str]] = {"hold": (Lanes, "hold"), "note": (Findings, "note")}
"""Steps that only a broken contract has."""

REPLAY: dict[str, tuple[type, str]] = {"replay": (intake.Intake, "from_replay")}
"""The step of whoever runs a replay."""

FORGET: dict[str, tuple[type, str]] = {"forget": (LetterShelf, "forget"), "remove": (LetterCare, "removed")}
"""Steps of forgetting letters that are over: their entries, then their files."""

POINTS = [f"{when} {step}" for step in STEPS for when in ("before", "after")]

POISON = b"this event kills its reader"


def die() -> None:
    """End as a crash ends: no cleanup, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, nth: int) -> None:
    """Wrap the step so that its n-th time is the last thing this process does."""
    when, step = point.split()
    owner, name = (STEPS | RARE | REPLAY | REFRESH | FORGET)[step]
    if step in REFRESH:
        hasten()
    whole: Callable[..., Awaitable[Any]] = getattr(owner, name)
    left = [nth]

    @functools.wraps(whole)
    async def deadly(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            _count(left)
        answer = await whole(*arguments, **named)
        # An empty claim is no step of a call, and to find nothing that is due none of forgetting.
        if when == "after" and getattr(answer, "claims", True) and answer != (0, []):
            _count(left)
        return answer

    setattr(owner, name, deadly)


def hasten() -> None:
    """Take a short lease for a refresh."""
    guards.REFRESH_LEASE_S, guards.REFRESH_S = SHORT_LEASE_S, SHORT_REFRESH_S  # type: ignore[misc]


def arm_poison() -> None:
    """Make one body kill whoever decodes it, as a crash in a C parser would."""
    read = cloudevent.read

    def deadly(raw: bytes, *, max_bytes: int) -> Any:
        if raw == POISON:
            die()
        return read(raw, max_bytes=max_bytes)

    intake.cloudevent.read = deadly  # type: ignore[attr-defined]


def _count(left: list[int]) -> None:
    left[0] -= 1
    if left[0] == 0:
        die()


if __name__ == "__main__":
    if sys.argv[1] == "poison":
        arm_poison()
    elif sys.argv[1] == "hasty":
        hasten()
    else:
        arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(roles.worker(Settings()))

"""What is asked of replays: kept plans, how far each letter is, and whose turn it is to run them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.replay import Progress, ReplayItem, ReplayPlan, ReplayState


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What becomes of a replay, and who says so."""

    given: frozenset[ReplayState]
    """It must be in one of these."""
    to: ReplayState
    by: str
    why: str = ""
    forgiven: int = -1
    """Failures that no longer count; -1 leaves that as it is."""


class ReplayStore(Protocol):
    """Keeps replays."""

    async def save(self, plan: ReplayPlan, items: Sequence[ReplayItem]) -> None:
        """Keep a new one, whole or not at all."""

    async def plan(self, replay: str) -> ReplayPlan | None:
        """Return one."""

    async def plans(self) -> list[ReplayPlan]:
        """Return all, newest first."""

    async def items(self, replay: str) -> list[ReplayItem]:
        """Return the letters of one, in their order."""

    async def progress(self, replay: str) -> dict[str, Progress]:
        """Return how far its letters are; those that are not in it wait."""

    async def skip(self, replay: str, letter: str, why: str) -> None:
        """Write down that a letter is left out after all; not when something became of it already."""

    async def move(self, replay: str, move: Move) -> tuple[bool, ReplayPlan] | None:
        """Bring it from one state to another; false when it is in none of those given, None when it is not known."""

    async def forget(self, replay: str) -> None:
        """Keep it no longer."""

    async def lead(self, worker: str, lease_ms: int) -> int:
        """Ask to be the one who runs replays; the fence, or 0."""

"""A journal that dies at a chosen step: `python -m tests.faults.journalling 'after commit' 2`: a real SIGKILL of the real process."""

import functools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from gateway import journal_role
from gateway.journal import store, writer
from gateway.journal.store import Store
from gateway.lanes.topic_reader import TopicReader
from gateway.settings import Settings
from tests.faults.deadly import die

STEPS: dict[str, tuple[type, str]] = {
    "read": (TopicReader, "read"),
    "commit": (Store, "write"),
    "acknowledge": (TopicReader, "acknowledge"),
}
POINTS = ["after read", "before commit", "within commit", "after commit", "before acknowledge", "after acknowledge"]


def arm(point: str, nth: int) -> None:
    """Wrap the step so that its n-th time is the last thing this process does."""
    when, step = point.split()
    if when == "within":
        _arm_within(nth)
        return
    owner, name = STEPS[step]
    whole: Callable[..., Awaitable[Any]] = getattr(owner, name)
    left = [nth]

    @functools.wraps(whole)
    async def deadly(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            _count(left)
        answer = await whole(*arguments, **named)
        # An empty read is no step.
        if when == "after" and (step != "read" or answer):
            _count(left)
        return answer

    setattr(owner, name, deadly)


def _arm_within(nth: int) -> None:
    """Die with the rows written and the transaction open: the database has to undo them."""
    whole, left = store._add_events, [nth]

    async def deadly(*arguments: Any) -> int:
        added = await whole(*arguments)
        _count(left)
        return added

    store._add_events = deadly  # type: ignore[assignment]


def _count(left: list[int]) -> None:
    left[0] -= 1
    if left[0] == 0:
        die()


if __name__ == "__main__":
    writer.TAKE_OVER_MS, writer.TAKE_OVER_EVERY_S = 300, 0.1
    if sys.argv[1:]:
        arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(journal_role.journal(Settings()))

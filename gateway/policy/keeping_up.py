"""Whether the journal keeps up with what happens, in words: the same for `/readyz` and `sluice doctor`. Pure."""

from collections.abc import Sequence

from schemas.moment import moment, stamp
from schemas.topics import Unread

IN_STEP_US = 5_000_000
"""What is younger may well be on its way into the journal."""


def behind_since(topics: Sequence[Unread], now_us: int) -> int | None:
    """Return when the oldest entry was written that the journal should have by now; None: it keeps up."""
    oldest_us = min((one.oldest_us for one in topics if one.oldest_us is not None), default=now_us)
    return oldest_us if now_us - oldest_us >= IN_STEP_US else None


def standing(topics: Sequence[Unread], now_us: int) -> str:
    """Say how far the journal is behind."""
    if not topics:
        return "no journal has started: nothing can be listed, and the topics grow until one does"
    since_us = behind_since(topics, now_us)
    if since_us is None:
        return "it writes what happens"
    entries = sum(one.entries for one in topics)
    # Redis cannot count what lies behind entries that were deleted.
    count = "some entries" if entries == 0 else "1 entry" if entries == 1 else f"{entries} entries"
    return f"it is behind: {count}, the oldest from {stamp(moment(since_us))}"

"""When to ask a vendor whether a call ran, and what its answers come to: it ran, it did not, ask again, or leave it to a person. Pure.

What is found is proof at once. What is not found is proof only when the vendor has said so twice in a row, the last time after the
operation's effects must show: until then an empty list may be an old one (read-your-writes is no promise of most APIs).
"""

from dataclasses import dataclass

import msgspec

from connectors.readback import Absent, Found, Seen, Unclear
from gateway.ports import Doubt

POINTS = (1 / 64, 1 / 16, 1 / 4, 1.0)
"""When it is asked, in parts of the time after which effects must show: early, since most have run and show at once."""

ABSENCES = 2
"""How often in a row the vendor must have no such thing."""

MOST_FAILED = 8
"""How often its answer may prove nothing; then a person is asked."""

WITHIN_US = 3_600_000_000
"""How long it may take at least, whatever the call's deadline: that only governs when an attempt starts."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The vendor shows it."""

    item: object


@dataclass(frozen=True, slots=True)
class DidNotRun:
    """It would show by now."""


@dataclass(frozen=True, slots=True)
class Again:
    """Nothing is proven yet; it is asked again so much later."""

    wait_us: int
    doubt: Doubt


@dataclass(frozen=True, slots=True)
class Undecided:
    """Asking again would not help."""

    why: str


Conclusion = Ran | DidNotRun | Again | Undecided


def first_us(settle_s: float) -> int:
    """Return how long to wait before the first look."""
    return int(settle_s * POINTS[0] * 1_000_000)


def conclude(seen: Seen, doubt: Doubt, settle_s: float, now_us: int) -> Conclusion:
    """Return what one more answer comes to; `now_us` is when the look began, by the clock of the queue."""
    settle_us = int(settle_s * 1_000_000)
    doubt = msgspec.structs.replace(doubt, looks=doubt.looks + 1)
    match seen:
        case Found(item=item):
            return Ran(item)
        case Unclear(why=why, passing=passing):
            failed = doubt.failed + 1
            if not passing or failed >= MOST_FAILED:
                return Undecided(why)
            return Again(settle_us // 64 << failed, msgspec.structs.replace(doubt, failed=failed, absent=0))
        case Absent():
            return _absent(doubt, settle_us, now_us - doubt.since_us)


def _absent(doubt: Doubt, settle_us: int, age_us: int) -> DidNotRun | Again:
    absent = doubt.absent + 1
    if absent >= ABSENCES and age_us >= settle_us:
        return DidNotRun()
    ahead = (int(settle_us * point) - age_us for point in POINTS)
    # What began late has passed its points: two looks at the same moment would be one.
    wait_us = next((wait_us for wait_us in ahead if wait_us > 0), settle_us // 8)
    return Again(wait_us, msgspec.structs.replace(doubt, absent=absent))

"""What Redis' clock should show by this process's own steady one, so that a clock that is set forward frees no limit.

Redis has only the one clock that people and NTP set, and limits go by it. A claim says what that clock should show; the script finds
how far it is ahead, and moves what limits hold along: see `shared/clock.lua`.
"""

from collections.abc import Callable

import structlog

log = structlog.get_logger()

DRIFT = 1e-3
"""How much faster than ours Redis' clock may run: twice what NTP slews at most, on both sides (RFC 5905 allows 500 ppm)."""


class Reckoning:
    """Compares the two clocks with each answer; the least difference is that of the quickest request."""

    def __init__(self, shard: str, steady: Callable[[], float]) -> None:
        """`steady` tells seconds on a clock that nobody sets."""
        self._shard = shard
        self._steady = steady
        self._apart_us: float | None = None
        self._compared_us = 0
        self._stepped_us = 0

    def now_us(self) -> int:
        """Return the time on our own clock."""
        return int(self._steady() * 1_000_000)

    def arguments(self, sent_us: int) -> list[int]:
        """Return what a script that is sent now should find, and which step forward that counts in; zeros before the first answer."""
        if self._apart_us is None:
            return [0, 0]
        return [int(sent_us + self._drifted(sent_us, self._apart_us)), self._stepped_us]

    def heard(self, sent_us: int, told_us: int, stepped_us: int) -> None:
        """Note what Redis' clock showed to a script sent at `sent_us`, and how far it was known to be set forward then."""
        apart_us, by_us = told_us - sent_us, stepped_us - self._stepped_us
        if self._apart_us is None or by_us:
            if self._apart_us is not None and self._saw(
                by_us, apart_us - self._drifted(sent_us, self._apart_us), sent_us
            ):
                log.warning("redis.clock_stepped", shard=self._shard, by_s=by_us / 1e6)
            self._apart_us = apart_us
        else:
            self._apart_us = min(self._drifted(sent_us, self._apart_us), apart_us)
        self._compared_us, self._stepped_us = sent_us, stepped_us

    def _saw(self, by_us: int, ahead_us: float, sent_us: int) -> bool:
        """Tell whether this process is the one that found a step, and whether its request was too quick to look like one."""
        return 0 < by_us <= ahead_us + 1 and self.now_us() - sent_us < by_us

    def _drifted(self, at_us: int, apart_us: float) -> float:
        return apart_us + DRIFT * max(0, at_us - self._compared_us)

"""What Redis' clock should show by this process's own steady one, so that a clock that is set forward frees no limit.

Redis has only the one clock that people and NTP set, and limits go by it. A claim says what that clock should show; a script that finds
it ahead gives nothing, and by when its answer comes the worker tells a step from a request that was long on its way. A step that is
proven goes with the next claim, and what limits hold moves along: see `shared/clock.lua` and `shared/pacing.lua`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog

log = structlog.get_logger()

STEP_US = 250_000
"""A clock that is less ahead counts as right; the scripts say the same."""

DRIFT = 1e-3
"""How much faster than ours Redis' clock may run: twice what NTP slews at most, on both sides (RFC 5905 allows 500 ppm)."""

DOUBTS = 3
"""So many slow requests in a row are no doubt any more: that is how long one takes now."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Steady:
    """A clock that nobody sets and that goes on while the machine sleeps, as the vendor's does."""

    seconds: Callable[[], float]
    name: str = ""
    """The same for all processes that have the same clock; empty: it is this one's alone."""


MACHINE = Steady(lambda: time.clock_gettime(_CLOCK), _BOOT.read_text().strip() if _BOOT.exists() else "")
"""The clock of this machine since it was started."""


class Compared(NamedTuple):
    """How two clocks stood to each other."""

    apart_us: int
    at_us: int
    """On the steady clock."""
    stepped_us: int
    """The sum of Redis' steps that was known."""


class Reckoning:
    """Compares the two clocks with each answer; the least difference is that of the quickest request."""

    def __init__(self, shard: str, steady: Steady) -> None:
        """Compare `steady` with the clock of the server that has the shard."""
        self._shard = shard
        self._steady = steady
        self._apart_us: float | None = None
        self._compared_us = 0
        self._stepped_us = 0
        self._proven_us = 0
        self._doubts = 0

    def now_us(self) -> int:
        """Return the time on our own clock."""
        return int(self._steady.seconds() * 1_000_000)

    def expected(self, sent_us: int) -> list[int]:
        """Return what a script that is sent now should find, and the steps that counts in; zeros before the first answer."""
        if self._apart_us is None:
            return [0, 0]
        return [int(sent_us + self._drifted(sent_us, self._apart_us)), self._stepped_us]

    @property
    def known(self) -> Compared | None:
        """How the clocks stood when they were last compared, None before that: another process with this clock may begin there."""
        return None if self._apart_us is None else Compared(int(self._apart_us), self._compared_us, self._stepped_us)

    def begin(self, compared: Compared) -> None:
        """Begin where another process with this clock has been."""
        self._apart_us, self._compared_us, self._stepped_us = compared

    @property
    def proven_us(self) -> int:
        """A step that was proven and is to be told."""
        return self._proven_us

    def heard(self, sent_us: int, told_us: int, stepped_us: int) -> None:
        """Note what Redis' clock showed to a script sent at `sent_us`, and the sum of its known steps then."""
        if self._apart_us is None or stepped_us != self._stepped_us:
            self._counted(stepped_us)
            self._compare(sent_us, told_us - sent_us)
            return
        ahead_us = told_us - sent_us - self._drifted(sent_us, self._apart_us)
        # It ran before its answer was here: so much of that is no way that it had to go.
        if ahead_us - (self.now_us() - sent_us) >= STEP_US:
            self._proven_us = int(ahead_us)
        elif ahead_us >= STEP_US and self._doubts + 1 < DOUBTS:
            self._doubts += 1
        else:
            quick_us = ahead_us if ahead_us >= STEP_US else min(0.0, ahead_us)
            self._compare(sent_us, self._drifted(sent_us, self._apart_us) + quick_us)

    def _counted(self, stepped_us: int) -> None:
        """Take over the sum; steps that a lost state has forgotten are told again."""
        if 0 < self._proven_us == stepped_us - self._stepped_us:
            log.warning("redis.clock_stepped", shard=self._shard, by_s=self._proven_us / 1e6)
        self._proven_us = max(0, self._stepped_us - stepped_us)
        self._stepped_us = stepped_us

    def _compare(self, sent_us: int, apart_us: float) -> None:
        self._apart_us, self._compared_us, self._doubts = apart_us, sent_us, 0

    def _drifted(self, at_us: int, apart_us: float) -> float:
        return apart_us + DRIFT * max(0, at_us - self._compared_us)

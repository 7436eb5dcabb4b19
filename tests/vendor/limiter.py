"""The vendor's own limit: so many requests in any sliding window, judged at arrival. Pure; times are the caller's.

A refused request does not count against the budget unless the limit says so. What another application spends does.
"""

import math
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from types import MappingProxyType

import msgspec

EVERY = "*"
NOTHING: Mapping[str, str] = MappingProxyType({})
SECOND_US = 1_000_000


class LimitRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What POST /_vendor/limit takes; `most` requests in `window` seconds, for one operation or for all together."""

    operation: str = EVERY
    most: int
    window: float = 1.0
    retry_after: str | None = "{seconds}"
    """Sent with a 429: `{seconds}` and `{date}` stand for the moment of the next free place; none at all with null."""
    told: bool = True
    """Whether every answer carries X-RateLimit-Limit, -Remaining and -Reset (seconds since 1970, as GitHub has it)."""
    counts_refused: bool = False

    def __post_init__(self) -> None:
        if self.most < 0 or self.window <= 0:
            raise ValueError("most is at least 0, window is more than 0")


class SpendRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /_vendor/spend takes: another application has just used so many units."""

    units: int
    operation: str = EVERY


class ShutRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /_vendor/shut takes: everything is refused for so many seconds."""

    seconds: float
    operation: str = EVERY


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the limit says of one arrival, and the headers that tell of it."""

    refused: bool = False
    headers: Mapping[str, str] = NOTHING


FREE = Verdict()
"""The verdict where no limit was set."""


class Limiter:
    """One budget."""

    def __init__(self, rule: LimitRequest) -> None:
        self._rule = rule
        self._width_us = round(rule.window * SECOND_US)
        self._spent: deque[int] = deque()
        self._shut_until_us = 0

    def __repr__(self) -> str:
        return f"<Limiter {len(self._spent)} of {self._rule.most} in {self._rule.window} s>"

    def judge(self, mono_us: int, wall_us: int) -> Verdict:
        """Count an arrival, or refuse it."""
        self._expire(mono_us)
        refused = mono_us < self._shut_until_us or len(self._spent) >= self._rule.most
        if not refused or self._rule.counts_refused:
            self._spent.append(mono_us)
        return Verdict(refused=refused, headers=self._headers(mono_us, wall_us, refused=refused))

    def spend(self, units: int, mono_us: int) -> None:
        """Charge what another application used just now."""
        self._spent.extend([mono_us] * units)

    def shut(self, until_us: int) -> None:
        self._shut_until_us = until_us

    def _expire(self, mono_us: int) -> None:
        # Two arrivals exactly a window apart do not share one.
        while self._spent and mono_us - self._spent[0] >= self._width_us:
            self._spent.popleft()

    def _free_in_us(self, mono_us: int) -> int:
        over = len(self._spent) - self._rule.most
        # A limit of nothing at all has no next place; a window from now is as good a word as any.
        leaving_us = self._spent[over] if 0 <= over < len(self._spent) else mono_us
        next_us = mono_us if over < 0 else leaving_us + self._width_us
        return max(next_us, self._shut_until_us) - mono_us

    def _headers(self, mono_us: int, wall_us: int, *, refused: bool) -> dict[str, str]:
        free_in_us = self._free_in_us(mono_us)
        free_at_s = math.ceil((wall_us + free_in_us) / SECOND_US)
        headers = {}
        if self._rule.told:
            left = 0 if refused else max(0, self._rule.most - len(self._spent))
            headers = {
                "X-RateLimit-Limit": str(self._rule.most),
                "X-RateLimit-Remaining": str(left),
                "X-RateLimit-Reset": str(free_at_s),
            }
        if refused and self._rule.retry_after is not None:
            date = format_datetime(datetime.fromtimestamp(free_at_s, UTC), usegmt=True)
            seconds = str(math.ceil(free_in_us / SECOND_US))
            told = self._rule.retry_after.replace("{seconds}", seconds).replace("{date}", date)
            headers["Retry-After"] = told
        return headers


class Limiters:
    """The limits by operation; one of its own comes before that of all."""

    def __init__(self) -> None:
        self._limiters: dict[str, Limiter] = {}
        self.refused = 0

    def set(self, rule: LimitRequest) -> None:
        """Open a budget, unspent; it takes the place of the one before it."""
        self._limiters[rule.operation] = Limiter(rule)

    def judge(self, operation: str, mono_us: int, wall_us: int) -> Verdict:
        limiter = self._limiters.get(operation) or self._limiters.get(EVERY)
        verdict = limiter.judge(mono_us, wall_us) if limiter else FREE
        self.refused += verdict.refused
        return verdict

    def of(self, operation: str) -> Limiter:
        """Return the budget that was set for exactly this; ValueError when there is none."""
        limiter = self._limiters.get(operation)
        if limiter is None:
            raise ValueError(f"no limit is set for {operation}")
        return limiter

"""How long to wait before the next attempt: full jitter, never less than what the vendor asked for. Pure.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter); Retry-After: RFC 9110 §10.2.3.
"""

from collections.abc import Callable
from dataclasses import dataclass

Uniform = Callable[[float, float], float]
"""Draws a number between two bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The curve: waits are drawn from 0 to base x 2^(n-1), at most `cap_s`, all in seconds."""

    base_s: float
    cap_s: float

    def wait_s(self, attempt: int, retry_after_s: float | None, uniform: Uniform) -> float:
        """Return the wait after `attempt` (1 = the first); a vendor's Retry-After is a floor with up to 10 % jitter above it."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(max(attempt - 1, 0), 32))
        drawn = uniform(0, ceiling)
        if retry_after_s is None:
            return drawn
        # Retry-After: 0 is common and would be a storm: the drawn wait stays underneath it.
        return max(drawn, retry_after_s * uniform(1.0, 1.1))

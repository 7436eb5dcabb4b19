"""When a breaker trips and for how long, as a connector declares it; and the numbers that no manifest changes."""

from dataclasses import dataclass

BUCKETS = 6
"""Parts of a window; what is older than the window leaves it part by part."""

CLOSE_AFTER = 2
"""Probes in a row that must succeed before a breaker closes."""

LONGEST_OPEN_S = 600.0
"""The back-off of the open time ends here."""

LONGEST_ASKED_S = 3600.0
"""A vendor's own `Retry-After` is followed up to here: beyond it, asking once an hour is no burden to anybody."""

JITTER = 0.2
"""Share by which an open time is longer or shorter, so that breakers that tripped together do not probe together."""

RAMP_FIRST, RAMP_LAST = 2, 32
"""Slow start after closing: so many calls at once, doubled each time that many succeeded, and unbounded after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerTerms:
    """What a connector declares under `defaults.breaker`; rates are shares of 1."""

    window_s: float
    min_calls: int
    """Calls in the window below which no rate is judged."""
    failure_rate: float
    consecutive: int
    """Failures in a row that trip it, however few calls there were."""
    slow_over_s: float
    slow_rate: float
    open_s: float
    """The first open time; each further one doubles."""


DEFAULT_TERMS = BreakerTerms(
    window_s=60.0, min_calls=10, failure_rate=0.5, consecutive=5, slow_over_s=5.0, slow_rate=0.8, open_s=5.0
)
"""The manifest's built-in defaults, for an operation that was not read from one."""

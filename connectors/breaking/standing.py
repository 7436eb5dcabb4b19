"""How a breaker stands, and the moves between two standings: what all processes share. Pure; times are epoch seconds.

Each change of state starts a generation: results that began under an older one say nothing about this one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from connectors.breaking.terms import JITTER, LONGEST_ASKED_S, LONGEST_OPEN_S, RAMP_FIRST, RAMP_LAST, BreakerTerms

Uniform = Callable[[float, float], float]


class State(StrEnum):
    """The three states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Mode(StrEnum):
    """Who decides."""

    AUTO = "auto"
    OPEN = "open"
    """An operator keeps it open."""
    CLOSED = "closed"
    """An operator keeps it closed: evidence is counted and changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One breaker as it stands."""

    state: State = State.CLOSED
    generation: int = 0
    since: float = 0.0
    until: float | None = 0.0
    """Open: when it is probed; None: when somebody says so."""
    opens: int = 0
    """How often it opened without getting well in between."""
    ramp: int = 0
    """Slow start: calls at once; 0 when there is no bound."""
    ramp_since: float = 0.0
    mode: Mode = Mode.AUTO
    mode_until: float | None = None
    """When an operator's word ends; None: when somebody ends it."""
    owner: str = ""
    reason: str = ""


NEW = Standing()
"""A breaker of which nothing is known."""


def phase(standing: Standing, now: float) -> State:
    """Return the state at `now`: time alone turns open into half-open, in every process alike."""
    if standing.state is State.OPEN and standing.until is not None and now >= standing.until:
        return State.HALF_OPEN
    return standing.state


def mode(standing: Standing, now: float) -> Mode:
    """Return who decides at `now`."""
    over = standing.mode_until is not None and now >= standing.mode_until
    return Mode.AUTO if over else standing.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why it opens."""

    reason: str
    asked: float = 0.0
    """Until when the vendor asked to be left alone."""


def opened(before: Standing, terms: BreakerTerms, now: float, cause: Cause, uniform: Uniform) -> Standing:
    """Open it."""
    opens = exponent(before, terms, now)
    for_s = open_time(terms, opens, uniform(1 - JITTER, 1 + JITTER), cause.asked - now)
    return Standing(
        state=State.OPEN,
        generation=before.generation + 1,
        since=now,
        until=now + for_s,
        opens=opens + 1,
        reason=cause.reason,
    )


def exponent(before: Standing, terms: BreakerTerms, now: float) -> int:
    """Return how often it opened lately: each window in health takes one away (as Envoy's ejection multiplier)."""
    if before.state is not State.CLOSED:
        return before.opens
    return max(0, before.opens - int((now - before.since) // terms.window_s))


def open_time(terms: BreakerTerms, opens: int, jitter: float, asked_s: float) -> float:
    """Return seconds to stay open: doubled each time up to a cap, and no shorter than the vendor asked (RFC 9110, 10.2.3)."""
    backed_off = min(LONGEST_OPEN_S, terms.open_s * 2.0 ** min(opens, 32) * jitter)
    return max(backed_off, min(asked_s, LONGEST_ASKED_S))


def half_opened(before: Standing) -> Standing:
    """Say that it is being probed; the generation is that of the opening, since nothing was let through meanwhile."""
    return replace(before, state=State.HALF_OPEN)


def closed(before: Standing, now: float) -> Standing:
    """Close it, with a slow start."""
    return Standing(
        generation=before.generation + 1,
        since=now,
        opens=before.opens,
        ramp=RAMP_FIRST,
        ramp_since=now,
        reason="the vendor is well again",
    )


def grown(before: Standing, now: float) -> Standing:
    """Take the next step of the slow start."""
    ramp = before.ramp * 2 if before.ramp < RAMP_LAST else 0
    return replace(before, ramp=ramp, ramp_since=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """An operator's."""

    mode: Mode
    owner: str
    reason: str
    until: float | None = None


def overridden(before: Standing, word: Word, now: float) -> Standing:
    """Return how it stands by an operator's word; after one that kept it open it is probed before it closes."""
    if word.mode is Mode.AUTO:
        return _released(before, word, now)
    is_open = word.mode is Mode.OPEN
    return Standing(
        state=State.OPEN if is_open else State.CLOSED,
        generation=before.generation + 1,
        since=now,
        until=word.until if is_open else 0.0,
        opens=before.opens,
        mode=word.mode,
        mode_until=word.until,
        owner=word.owner,
        reason=word.reason,
    )


def _released(before: Standing, word: Word, now: float) -> Standing:
    if mode(before, now) is Mode.AUTO:
        return before
    state, until = (State.CLOSED, 0.0) if before.state is State.CLOSED else (State.HALF_OPEN, now)
    return Standing(
        state=state,
        generation=before.generation + 1,
        since=now,
        until=until,
        opens=before.opens,
        owner=word.owner,
        reason=word.reason,
    )

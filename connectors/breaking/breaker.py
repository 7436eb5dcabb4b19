"""One breaker of one process, on pybreaker's state machine: a doorkeeper, not a wrapper. The only door of pybreaker.

pybreaker knows no asyncio: around an await it takes a cancellation for a failure or for a success, admits every caller while
half-open, and judges by failures in a row only. So nothing of ours runs inside it. `admit` reads its state; when a call has
ended, `settle` tells it by calling a function that returns or raises, and its one number (`counter >= fail_max`) is our rule
over the window. It is never called while open: there it would look at a clock of its own.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker, CircuitBreakerListener
from pybreaker import CircuitBreakerStorage as Storage

from connectors.breaking.standing import (
    NEW,
    Cause,
    Mode,
    Standing,
    State,
    Uniform,
    closed,
    grown,
    half_opened,
    mode,
    opened,
    phase,
)
from connectors.breaking.terms import CLOSE_AFTER, BreakerTerms
from connectors.breaking.verdict import Verdict
from connectors.breaking.window import Sums, Window, trips

_NAMES = {State.CLOSED: STATE_CLOSED, State.OPEN: STATE_OPEN, State.HALF_OPEN: STATE_HALF_OPEN}
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call; it is always settled, also when there is nothing to say."""

    key: str
    generation: int
    probe: bool
    until: float
    """Epoch seconds; a call that ended later was held up by this process, and says nothing about the vendor."""
    token: str = ""
    """Names a probe to the fleet."""


@dataclass(frozen=True, slots=True)
class Open:
    """No call may be made now."""

    until: float | None
    """Epoch seconds when it is worth to ask again; None: when somebody has closed it."""
    reason: str


@dataclass(frozen=True, slots=True)
class Move:
    """A change that the fleet has not been told yet."""

    expected: int
    """The generation it started from."""
    revision: int | None
    """Where it only counts if nothing else has changed either."""
    before: State
    standing: Standing


class Breaker:
    """One connector's way to one origin."""

    def __init__(self, key: str, terms: BreakerTerms, *, uniform: Uniform) -> None:
        """A closed breaker; `uniform` draws from an interval."""
        self.key = key
        self.terms = terms
        self.standing = NEW
        self.revision = 0
        """Of the shared standing that is known here."""
        self.window = Window(terms.window_s)
        self._uniform = uniform
        self._base = 0
        self._unsaid = False
        self._said_state = State.CLOSED
        self._now = 0.0
        self._asked = 0.0
        self._probe: Permit | None = None
        self._probes = 0
        self._adopting = False
        self._machine = CircuitBreaker(
            fail_max=1,
            success_threshold=1,
            state_storage=_Storage(self._trips, self._is_well),
            listeners=[_Listener(self._moved)],
            throw_new_error_on_trip=False,
            name=key,
        )

    def __repr__(self) -> str:
        ramp = f", {self.standing.ramp} at once" if self.standing.ramp else ""
        return f"<Breaker {self.key} {self.standing.state}, generation {self.standing.generation}{ramp}>"

    def admit(self, now: float, *, worker: str = "", lease_s: float = 60.0) -> Permit | Open:
        """Ask for a call that ends within `lease_s` seconds; a probe's place is given back by itself then."""
        shut = self.shut(now)
        if shut is not None:
            return shut
        standing = self.standing
        if self._align(now) is State.CLOSED:
            return Permit(self.key, standing.generation, probe=False, until=now + lease_s)
        if self._probe is not None and now < self._probe.until:
            return Open(self._probe.until, "a probe is under way")
        self._probes += 1
        token = f"{worker}/{self._probes}"
        self._probe = Permit(self.key, standing.generation, probe=True, until=now + lease_s, token=token)
        return self._probe

    def shut(self, now: float) -> Open | None:
        """Say why no call may be made, not even a probe; None when one may."""
        if phase(self.standing, now) is not State.OPEN:
            return None
        return Open(self.standing.until, self.standing.reason)

    def holds(self, permit: Permit, now: float) -> bool:
        """Tell whether a permit is still good."""
        known = not permit.probe or self._probe == permit
        return known and now < permit.until and permit.generation == self.standing.generation

    def settle(
        self, permit: Permit, verdict: Verdict, now: float, *, duration_s: float = 0.0, asked_s: float = 0.0
    ) -> None:
        """Tell how a call ended.

        What an older generation let through says nothing, nor does what outlasted its permit: a process that was suspended
        for a while finds all its calls timed out, and meanwhile somebody else may probe.
        """
        counts = self.holds(permit, now)
        if self._probe == permit:
            self._probe = None
        if not counts or verdict is Verdict.NEUTRAL:
            return
        failed, slow = verdict is Verdict.FAILED, duration_s >= self.terms.slow_over_s
        if failed and asked_s > 0:
            self._asked = max(self._asked, now + asked_s)
        self.window.add(now, failed=failed, slow=slow)
        self._tell(_bad if failed or slow else _good, now)

    def look(self, now: float) -> None:
        """Judge again by what others have told, and let a slow start that nobody disturbs go on."""
        if self.standing.state is not State.CLOSED:
            if self._is_well_at(now):
                self._tell(_good, now)
        elif trips(self.window.sums(now), self.terms):
            self._tell(_bad, now)
        else:
            self._ramp(now)

    def sums(self, now: float) -> Sums:
        """Return what is known of the window."""
        return self.window.sums(now)

    def move(self) -> Move | None:
        """Return what the fleet has to be told; None when it knows."""
        if not self._unsaid:
            return None
        stepped = self.standing.generation == self._base
        return Move(self._base, self.revision if stepped else None, self._said_state, self.standing)

    def adopt(self, standing: Standing, revision: int, now: float) -> bool:
        """Take over how the fleet says it stands; tells whether that was news."""
        if revision <= self.revision:
            return False
        self.revision = revision
        ahead = self._unsaid and self.standing.generation > standing.generation == self._base
        if ahead:
            # The fleet took a step within the generation that has ended here: our word still counts there.
            return False
        self._replace(standing, now)
        return True

    def said(self, move: Move, standing: Standing, revision: int, now: float) -> None:
        """Take over the fleet's answer to a move, whether ours was taken or another was there first."""
        self.revision = max(self.revision, revision)
        taken = standing.generation == move.standing.generation
        if taken and self.standing.generation > standing.generation:
            # It went on here while the answer was under way.
            self._base, self._said_state = standing.generation, standing.state
            return
        self._replace(standing, now)

    def forgotten(self) -> None:
        """The fleet knows nothing of it any more: what is known here is told again."""
        self.revision, self._base, self._said_state = 0, 0, State.CLOSED
        self._unsaid = self.standing != NEW

    def _replace(self, standing: Standing, now: float) -> None:
        before, self.standing = self.standing, standing
        self._base, self._said_state, self._unsaid = standing.generation, standing.state, False
        # The same number can be that of another story, if this process was cut off from the fleet.
        same = before.generation == standing.generation
        if not same or (before.state is State.CLOSED) != (standing.state is State.CLOSED):
            self._begin()
        elif before.ramp != standing.ramp:
            self.window.start_counting()
        self._align(now)

    def _begin(self) -> None:
        self.window.clear()
        self._probe, self._asked = None, 0.0

    def _align(self, now: float) -> State:
        """Let pybreaker stand where the standing says; nothing that it tells of it is a move of ours."""
        state = phase(self.standing, now)
        if self._machine.current_state != _NAMES[state]:
            self._adopting = True
            try:
                _TURNS[state](self._machine)
            finally:
                self._adopting = False
        if state is State.HALF_OPEN and self.standing.state is State.OPEN:
            self.standing = half_opened(self.standing)
        return state

    def _tell(self, ending: Callable[[], None], now: float) -> None:
        self._now = now
        if self._align(now) is State.OPEN:
            return
        with contextlib.suppress(_Bad):
            self._machine.call(ending)
        self._ramp(now)

    def _moved(self, name: str) -> None:
        """Hear from pybreaker that it has changed its state."""
        if self._adopting:
            return
        now, before = self._now, self.standing
        if name == STATE_OPEN:
            cause = Cause(reason=self._why(before), asked=self._asked)
            self.standing = opened(before, self.terms, now, cause, self._uniform)
        else:
            self.standing = closed(before, now)
        if not self._unsaid:
            self._said_state = before.state
        self._unsaid = True
        self._begin()

    def _why(self, before: Standing) -> str:
        if before.state is State.HALF_OPEN:
            return "the probe failed"
        return trips(self.window.sums(self._now), self.terms) or "the rule of the window"

    def _ramp(self, now: float) -> None:
        standing = self.standing
        if standing.state is not State.CLOSED or standing.ramp == 0:
            return
        quiet = now - standing.ramp_since >= self.terms.window_s
        if quiet or self.window.sums(now).successes >= standing.ramp:
            self.standing = grown(standing, now)
            self._unsaid = True
            self.window.start_counting()

    def _trips(self) -> bool:
        if mode(self.standing, self._now) is Mode.CLOSED:
            return False
        return trips(self.window.sums(self._now), self.terms) is not None

    def _is_well(self) -> bool:
        return self._is_well_at(self._now)

    def _is_well_at(self, now: float) -> bool:
        return phase(self.standing, now) is State.HALF_OPEN and self.window.sums(now).successes >= CLOSE_AFTER


class _Bad(Exception):  # noqa: N818 - not an error: how pybreaker is told of one
    """A call that speaks against the vendor."""


def _bad() -> None:
    raise _Bad


def _good() -> None:
    """A call that speaks for it."""


_TURNS: dict[State, Callable[[CircuitBreaker], Any]] = {
    State.CLOSED: CircuitBreaker.close,
    State.OPEN: CircuitBreaker.open,
    State.HALF_OPEN: CircuitBreaker.half_open,
}


class _Listener(CircuitBreakerListener):
    def __init__(self, moved: Callable[[str], None]) -> None:
        self._moved = moved

    def state_change(self, cb: CircuitBreaker, old_state: Any, new_state: Any) -> None:  # noqa: ARG002 - its protocol
        self._moved(new_state.name)


class _Storage(Storage):
    """pybreaker's memory: the state, and for counters the answers of our rules (1 says yes)."""

    def __init__(self, trips: Callable[[], bool], is_well: Callable[[], bool]) -> None:
        super().__init__("sluice")
        self._state = STATE_CLOSED
        self._trips = trips
        self._is_well = is_well

    @property
    def state(self) -> str:
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state

    @property
    def counter(self) -> int:
        return int(self._trips())

    @property
    def success_counter(self) -> int:
        return int(self._is_well())

    @property
    def opened_at(self) -> datetime | None:
        return _EPOCH

    @opened_at.setter
    def opened_at(self, _: datetime) -> None:
        """Nothing: when it opened is ours to know."""

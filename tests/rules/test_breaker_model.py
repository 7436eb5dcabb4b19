"""The breaker against a small machine that says the same in the plainest words: whatever happens, both stand alike."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.breaking.breaker import Breaker, Permit
from connectors.breaking.standing import Mode, State, Word, overridden, phase
from connectors.breaking.terms import BreakerTerms
from connectors.breaking.verdict import Verdict

TERMS = BreakerTerms(
    window_s=60.0, min_calls=4, failure_rate=0.5, consecutive=3, slow_over_s=5.0, slow_rate=0.8, open_s=5.0
)
LEASE_S = 10.0


@dataclass
class Model:
    """What a breaker is, told without pybreaker, buckets or generations that anybody shares."""

    now: float = 1000.0
    state: str = "closed"
    since: float = 0.0
    until: float | None = 0.0
    era: int = 0
    opens: int = 0
    ramp: int = 0
    ramp_since: float = 0.0
    calls: list[tuple[float, bool, bool]] = field(default_factory=list)
    row: int = 0
    good: int = 0
    probe: tuple[Permit, float] | None = None
    word: str = "auto"
    word_until: float | None = None

    def phase(self) -> str:
        if self.state == "open" and self.until is not None and self.now >= self.until:
            return "half_open"
        return self.state

    def forced(self) -> str:
        return "auto" if self.word_until is not None and self.now >= self.word_until else self.word

    def start(self, state: str) -> None:
        self.state, self.since, self.era, self.ramp = state, self.now, self.era + 1, 0
        self.calls, self.row, self.good, self.probe, self.word, self.word_until = [], 0, 0, None, "auto", None

    def open(self) -> None:
        if self.state == "closed":
            self.opens = max(0, self.opens - int((self.now - self.since) // 60))
        self.until = self.now + min(600.0, 5.0 * 2**self.opens)
        self.opens += 1
        self.start("open")

    def bad_window(self) -> bool:
        inside = [one for one in self.calls if one[0] // 10 > self.now // 10 - 6]
        failed, slow = sum(one[1] for one in inside), sum(one[2] for one in inside)
        enough = len(inside) >= 4
        return self.row >= 3 or (enough and (failed * 2 >= len(inside) or slow >= 0.8 * len(inside)))

    def end(self, verdict: Verdict, *, slow: bool) -> None:
        failed = verdict is Verdict.FAILED
        self.calls.append((self.now, failed, slow))
        self.row = self.row + 1 if failed else 0
        self.good += not failed and not slow
        if self.phase() == "half_open":
            if failed or slow:
                self.state = "half_open"
                self.open()
            elif self.good >= 2:
                self.start("closed")
                self.ramp, self.ramp_since = 2, self.now
        elif (failed or slow) and self.bad_window() and self.forced() != "closed":
            self.open()
        self.grow()

    def grow(self) -> None:
        if self.state == "closed" and self.ramp and (self.good >= self.ramp or self.now - self.ramp_since >= 60):
            self.ramp = self.ramp * 2 if self.ramp < 32 else 0
            self.ramp_since, self.good = self.now, 0


class Machine(RuleBasedStateMachine):
    """Calls that start and end in any order, clocks that go on, operators that have their say."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.breaker = Breaker("crm|https://crm.test", TERMS, uniform=lambda low, high: (low + high) / 2)
        self.under_way: list[tuple[Permit, int, bool, float]] = []

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 4.0, 6.0, 11.0, 30.0, 61.0, 700.0]))
    def time_goes_on(self, seconds: float) -> None:
        self.model.now += seconds

    @rule()
    def a_call_asks(self) -> None:
        model, now = self.model, self.model.now
        given = self.breaker.admit(now, lease_s=LEASE_S)
        expected = model.phase()
        if expected == "half_open":
            busy = model.probe is not None and now < model.probe[1]
            assert isinstance(given, Permit) is not busy
        else:
            assert isinstance(given, Permit) is (expected == "closed")
        if isinstance(given, Permit):
            assert given.probe is (expected == "half_open")
            if given.probe:
                model.probe = (given, now + LEASE_S)
            self.under_way.append((given, model.era, given.probe, now + LEASE_S))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 50), verdict=st.sampled_from(Verdict), slow=st.booleans(), again=st.booleans())
    def a_call_ends(self, which: int, verdict: Verdict, *, slow: bool, again: bool) -> None:
        at = which % len(self.under_way)
        permit, era, probe, until = self.under_way[at]
        if not (again and probe):
            del self.under_way[at]
        model = self.model
        mine = model.probe is not None and model.probe[0] is permit
        if mine:
            model.probe = None
        in_time = era == model.era and model.now < until
        if in_time and (mine or not probe) and verdict is not Verdict.NEUTRAL:
            model.end(verdict, slow=slow)
        self.breaker.settle(permit, verdict, model.now, duration_s=6.0 if slow else 0.1)

    @rule(calls=st.integers(1, 40), good=st.booleans())
    def some_calls_come_and_go(self, calls: int, *, good: bool) -> None:
        """One after the other, as traffic mostly is."""
        for _ in range(calls):
            before = len(self.under_way)
            self.a_call_asks()
            if len(self.under_way) > before:
                self.a_call_ends(before, Verdict.OK if good else Verdict.FAILED, slow=False, again=False)

    @rule()
    def the_open_time_passes(self) -> None:
        if self.model.phase() == "open" and self.model.until is not None:
            self.model.now = self.model.until + 0.01

    @rule(mode=st.sampled_from([Mode.OPEN, Mode.CLOSED]), for_s=st.sampled_from([None, 3.0, 45.0]))
    def an_operator_says(self, mode: Mode, for_s: float | None) -> None:
        model = self.model
        until = None if for_s is None else model.now + for_s
        self.word(Word(mode=mode, owner="o", reason="r", until=until))
        model.start("open" if mode is Mode.OPEN else "closed")
        model.until = until if mode is Mode.OPEN else 0.0
        model.word, model.word_until = mode.value, until

    @rule()
    def an_operator_lets_go(self) -> None:
        model = self.model
        self.word(Word(mode=Mode.AUTO, owner="o", reason="r"))
        if model.forced() == "auto":
            return
        model.start("open" if model.state == "open" else "closed")
        model.until = model.now

    @rule()
    def it_looks_around(self) -> None:
        model = self.model
        self.breaker.look(model.now)
        if model.phase() == "closed" and model.bad_window():
            if model.forced() != "closed":
                model.open()
            else:
                model.grow()
        else:
            model.grow()

    def word(self, word: Word) -> None:
        """Say it to the fleet, which tells the breaker; a move of its own that was not told yet is told before."""
        breaker, now = self.breaker, self.model.now
        move = breaker.move()
        if move is not None:
            breaker.said(move, move.standing, breaker.revision + 1, now)
        breaker.adopt(overridden(breaker.standing, word, now), breaker.revision + 1, now)

    @invariant()
    def both_stand_alike(self) -> None:
        model, standing = self.model, self.breaker.standing
        assert phase(standing, model.now) == State(model.phase())
        assert (standing.generation, standing.ramp) == (model.era, model.ramp)
        if standing.state is not State.CLOSED and model.phase() == "open":
            assert standing.until == (None if model.until is None else pytest.approx(model.until))
        probes = [one[0] for one in self.under_way if one[2] and self.breaker.holds(one[0], model.now)]
        assert len(set(map(id, probes))) <= 1


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestBreaker = Machine.TestCase

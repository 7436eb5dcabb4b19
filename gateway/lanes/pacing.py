"""What limits allow, as a pure model: the law that the scripts (`lua/shared/pacing.lua`, `release.lua`) are held to by a test.

A **strict** limit of N per W is N slots. A slot that is taken at a claim may be used again W after the *response*: any N + 1 calls share
a slot, so two of them have send_k >= response_j + W >= arrival_j + W, and no window of W holds N + 1 arrivals at the vendor, whatever
the network does. A **concurrency** is the same with W = 0. A **soft** limit is GCRA (ATM Forum TM 4.0, the virtual scheduling
algorithm) with a burst b and an interval T = ceil(W / (N - b + 1)), which grants at most N in any window of W, at the moment of the grant.
It is a queue that works one call off after the other, T for each unit of cost: what a call turns out not to need is given back as far as it
has not been worked off, since time that has passed is nobody's any more.
Times are integers in microseconds, costs are integers.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["strict", "soft", "concurrency"]
Fate = Literal["unused", "answered", "doubt", "lost"]

GUARD_US = 5_000_000
"""How long after a timeout a request may still arrive."""

MANY = 10_000
"""Above so many slots they are given back by sub-buckets."""

BUCKETS = 200
"""Sub-buckets of a window, at most."""


@dataclass(frozen=True, slots=True)
class Terms:
    """One limit: N slots per window; the window of a concurrency is 0."""

    kind: Kind
    most: int
    window_us: int

    @property
    def burst(self) -> int:
        """Calls of a soft limit that may start at once: 5 % of N, at least 2."""
        return min(self.most, max(2, self.most // 20))

    @property
    def interval_us(self) -> int:
        """Time between calls of a soft limit once its burst is used."""
        return math.ceil(self.window_us / (self.most - self.burst + 1))


@dataclass(frozen=True, slots=True)
class State:
    """What is taken of a limit: slots by who holds them, with the time at which they may be used again."""

    slots: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Permit -> (cost, reusable at)."""
    tat_us: int = 0
    """Theoretical arrival time of a soft limit."""
    ends: dict[str, int] = field(default_factory=dict)
    """Permit of a soft limit -> where its share ends, `back_us` included."""
    back_us: int = 0
    """What a soft limit was given back so far: so much earlier ends whatever was taken before."""

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return sum(cost for cost, _ in self.slots.values())


def expire(state: State, now_us: int) -> State:
    """Let go of slots whose time has come."""
    return replace(state, slots={permit: held for permit, held in state.slots.items() if held[1] > now_us})


def fits(terms: Terms, state: State, cost: int, now_us: int) -> int:
    """Return how many calls of this cost may start now; a cost above a soft burst goes alone and leaves a debt."""
    if terms.kind != "soft":
        return max(0, (max(terms.most, cost) - expire(state, now_us).used) // cost)
    full = terms.burst * terms.interval_us
    room = full - max(0, state.tat_us - now_us)
    if cost > terms.burst:
        return int(room == full)
    return room // (terms.interval_us * cost)


def take(terms: Terms, state: State, permit: str, cost: int, now_us: int, *, lease_us: int) -> State:  # noqa: PLR0913
    """Take slots for a claim: until its lease ends and W has passed, if nobody settles it before."""
    if terms.kind == "soft":
        tat_us = max(state.tat_us, now_us) + cost * terms.interval_us
        return replace(state, tat_us=tat_us, ends={**state.ends, permit: tat_us + state.back_us})
    return replace(state, slots={**expire(state, now_us).slots, permit: (cost, lease_us + terms.window_us)})


def settle(terms: Terms, state: State, permit: str, fate: Fate, now_us: int, *, cost: int, actual: int) -> State:  # noqa: PLR0913
    """Give a claim's slots back: at once if nothing was dialled, W after the response, later when it may still arrive.

    Those of a lost claim run out by themselves. `actual` replaces the reserved `cost`; a permit that had run out counts again.
    """
    if fate == "lost":
        return state
    if terms.kind == "soft":
        return correct(terms, state, permit, now_us, more=(0 if fate == "unused" else actual) - cost)
    slots = {name: held for name, held in expire(state, now_us).slots.items() if name != permit}
    at = now_us if fate == "unused" else now_us + terms.window_us + (GUARD_US if fate == "doubt" else 0)
    if at <= now_us or actual == 0:
        return replace(state, slots=slots)
    if terms.most > MANY and terms.window_us > 0:
        at = bucket_end(terms, at)
    return replace(state, slots={**slots, permit: (actual, at)})


def correct(terms: Terms, state: State, permit: str, now_us: int, *, more: int) -> State:
    """Charge a soft limit what a call cost more than it took, or give back what has not been worked off of what it cost less."""
    ends = {name: at for name, at in state.ends.items() if name != permit}
    if more >= 0:
        return replace(state, tat_us=state.tat_us + more * terms.interval_us, ends=ends)
    left_us = max(0, state.ends.get(permit, 0) - state.back_us - now_us)
    back_us = min(-more * terms.interval_us, left_us)
    return replace(state, tat_us=state.tat_us - back_us, ends=ends, back_us=state.back_us + back_us)


def bucket_end(terms: Terms, at_us: int) -> int:
    """Return the end of the sub-bucket that `at_us` lies in: later than the slot itself, by W / 200 at most."""
    width = math.ceil(terms.window_us / BUCKETS)
    return (at_us // width + 1) * width


def free_at(terms: Terms, state: State, cost: int, now_us: int) -> int:
    """Return when a call of this cost will fit, if nothing else changes."""
    if terms.kind == "soft":
        return max(now_us, state.tat_us + (min(cost, terms.burst) - terms.burst) * terms.interval_us)
    short = expire(state, now_us).used + cost - max(terms.most, cost)
    for held, at in sorted(expire(state, now_us).slots.values(), key=lambda slot: slot[1]):
        if short <= 0:
            break
        short, now_us = short - held, at
    return now_us

"""When the last of many calls will have ended, by the slot model of `lanes/pacing.py`, before one of them was published. Pure.

Calls are played through the limits in waves: whatever fits starts, the clock goes to the next slot that comes back, and so on. Lanes
that share a limit take turns. What is left after `WAVES` of them is told by the pace of the tightest limit. Times are us from now.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

WAVES = 2000
"""Steps of the clock that are played one by one; a plan of a day at one call a second has 86,400."""

WORK = 8000
"""Steps times lanes that are played at most: whoever asks must not keep others waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """One shared limit as it stands."""

    key: str
    name: str
    kind: str
    most: int
    """What it lets through: the declared number, or the lower one that was learned."""
    window_us: int = 0
    busy: tuple[tuple[int, int], ...] = ()
    """(comes back in, slots) of those that are taken."""
    debt_us: int = 0
    """Soft: how far its theoretical arrival time lies ahead."""
    stay_us: int = 0
    """How long a claim was seen to hold its slots: the vendor's response, and what it takes here to give them back."""
    opens_us: int = 0
    """It is closed until then."""

    @property
    def burst(self) -> int:
        """As `pacing.Terms.burst`."""
        return min(self.most, max(2, self.most // 20))

    @property
    def interval_us(self) -> int:
        """As `pacing.Terms.interval_us`."""
        return math.ceil(self.window_us / (self.most - self.burst + 1))

    def empty(self) -> "Supply":
        """Return the same limit with nothing taken of it."""
        return replace(self, busy=(), debt_us=0, opens_us=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Calls that want to start in one lane."""

    name: str
    calls: int
    costs: Mapping[str, int]
    """What each takes, by the key of the limit."""
    response_us: int
    """How long one is under way."""
    ahead: int = 0
    """Calls of others in the same lane, which go first."""
    opens_us: int = 0
    """Nothing of it starts before."""


@dataclass(slots=True)
class _Limit:
    supply: Supply
    used: int = 0
    returns: list[tuple[int, int]] = field(default_factory=list)
    tat_us: int = 0

    def fits(self, cost: int, now_us: int) -> int:
        supply = self.supply
        if now_us < supply.opens_us:
            return 0
        if supply.kind == "soft":
            full = supply.burst * supply.interval_us
            room = full - max(0, self.tat_us - now_us)
            return int(room >= full) if cost > supply.burst else room // (supply.interval_us * cost)
        while self.returns and self.returns[0][0] <= now_us:
            self.used -= heapq.heappop(self.returns)[1]
        return max(0, (max(supply.most, cost) - self.used) // cost)

    def take(self, slots: int, now_us: int, response_us: int) -> None:
        if self.supply.kind == "soft":
            self.tat_us = max(self.tat_us, now_us) + slots * self.supply.interval_us
            return
        self.used += slots
        heapq.heappush(self.returns, (now_us + self.held_us(response_us), slots))

    def next_us(self, cost: int, now_us: int) -> int:
        """Return when it is worth to look again."""
        supply = self.supply
        if now_us < supply.opens_us:
            return supply.opens_us
        if supply.kind == "soft":
            return self.tat_us + (min(cost, supply.burst) - supply.burst) * supply.interval_us
        return self.returns[0][0] if self.returns else now_us + 1

    def held_us(self, response_us: int) -> int:
        """Return after how long a slot may be used again."""
        return max(response_us, self.supply.stay_us) + self.supply.window_us

    def rest_us(self, slots: int, response_us: int) -> int:
        """Return how long so many slots take at its pace."""
        if self.supply.kind == "soft":
            return slots * self.supply.interval_us
        return math.ceil(slots / self.supply.most) * self.held_us(response_us)


@dataclass(slots=True)
class _Lane:
    queue: Queue
    left: int
    needs: list[tuple[_Limit, int]]
    end_us: int = 0
    taken: int = 0

    def fits(self, now_us: int) -> int:
        if now_us < self.queue.opens_us:
            return 0
        return min([self.left, *(limit.fits(cost, now_us) for limit, cost in self.needs)])

    def start(self, calls: int, now_us: int) -> None:
        self.left -= calls
        self.taken += calls
        self.end_us = now_us + self.queue.response_us
        for limit, cost in self.needs:
            limit.take(calls * cost, now_us, self.queue.response_us)

    def next_us(self, now_us: int) -> int:
        waits = [limit.next_us(cost, now_us) for limit, cost in self.needs if limit.fits(cost, now_us) < 1]
        return max([self.queue.opens_us, now_us + 1, *waits])


def ends(queues: Sequence[Queue], others: Sequence[Queue], supplies: Mapping[str, Supply]) -> list[int]:
    """Return when the last call of each queue will have ended; `others` only take part in the limits.

    A lane gives others that share its limits no more turns than it takes itself.
    """
    limits = {key: _Limit(supply, sum(slots for _, slots in supply.busy), sorted(supply.busy), supply.debt_us)
              for key, supply in supplies.items()}  # fmt: skip
    most = max((one.calls + one.ahead for one in queues), default=0)
    ours = [_lane(one, one.calls + one.ahead, limits) for one in queues]
    lanes = [*ours, *(_lane(one, min(one.calls, most), limits) for one in others)]
    now_us, waves, most_waves = 0, 0, min(WAVES, WORK // max(1, len(lanes)))
    while any(lane.left for lane in ours) and waves < most_waves:
        waves += 1
        _wave(lanes, now_us)
        now_us = min((lane.next_us(now_us) for lane in lanes if lane.left), default=now_us)
    for lane in ours:
        if lane.left:
            lane.end_us = now_us + _rest(lane, lanes)
    return [lane.end_us for lane in ours]


def _lane(queue: Queue, calls: int, limits: Mapping[str, _Limit]) -> _Lane:
    return _Lane(queue, calls, [(limits[key], cost) for key, cost in queue.costs.items() if cost > 0])


def _wave(lanes: Sequence[_Lane], now_us: int) -> None:
    """Start whatever fits, in turns."""
    # Whose turn it is: with one slot at a time the first would have them all.
    active = sorted((lane for lane in lanes if lane.left), key=lambda lane: lane.taken)
    while active:
        started = []
        for lane in active:
            # A fair share of what there is; the last ones go one by one.
            calls = math.ceil(lane.fits(now_us) / len(active))
            if calls:
                lane.start(calls, now_us)
                started.append(lane)
        active = [lane for lane in started if lane.left]


def _rest(lane: _Lane, lanes: Sequence[_Lane]) -> int:
    """Return how long what is left takes at the pace of its tightest limit."""
    waits = [lane.queue.response_us]
    for limit, _ in lane.needs:
        sharing = [(other, cost) for other in lanes for shared, cost in other.needs if shared is limit and other.left]
        slots = sum(min(other.left, lane.left) * cost for other, cost in sharing)
        waits.append(limit.rest_us(slots, lane.queue.response_us))
    return max(waits)

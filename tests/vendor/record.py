"""What the vendor saw and what it did: arrivals, effects per key and per ref, arrivals in a sliding window.

Pure bookkeeping: it never reads a clock and never touches a socket. Counters are exact for ever; only the list of
arrivals is bounded.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from itertools import accumulate
from typing import Generic, TypeVar

import msgspec

ARRIVALS_KEPT = 200_000
"""Arrivals that stay listed; the counters go on beyond it."""

KEYS_KEPT = 1_000_000
"""Effect keys that stay countable in each operation; the oldest are forgotten, and `forgotten_effects` says so."""

V = TypeVar("V")


class Arrival(msgspec.Struct, kw_only=True, gc=False):
    """One request, stamped when its head arrived; `status`, `effect` and `done_us` follow when they are known."""

    seq: int = 0
    mono_us: int
    wall_us: int
    method: str
    path: str
    operation: str
    key: str | None = None
    ref: str | None = None
    traceparent: str | None = None
    body_sha256: str | None = None
    credential_sha256: str | None = None
    status: int | None = None
    effect: bool = False
    done_us: int | None = None
    """When it was over for the vendor, just before its answer was written; on the clock of `mono_us`."""


class Arrivals(msgspec.Struct, frozen=True, kw_only=True):
    """The arrivals still listed, oldest first, and how many are not."""

    arrivals: list[Arrival]
    dropped: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle's answer. `statuses` holds the statuses given; `unanswered` are the arrivals that got none so far."""

    arrivals: int
    by_operation: dict[str, int]
    effects: dict[str, dict[str, int]]
    effects_by_ref: dict[str, dict[str, int]]
    effects_total: int
    repeated_effects: list[str]
    repeated_refs: list[str]
    statuses: dict[str, int]
    unanswered: int
    held: int
    forgotten_effects: int
    refused: int = 0
    """Arrivals that the vendor's own limit refused."""


class Bounded(OrderedDict[str, V], Generic[V]):
    """A mapping that forgets its oldest entries beyond `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.forgotten = 0

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self.limit:
            self.popitem(last=False)
            self.forgotten += 1


class Tally:
    """How often each name occurred, by operation."""

    def __init__(self) -> None:
        self.by_operation: dict[str, Bounded[int]] = {}

    def add(self, operation: str, name: str) -> None:
        names = self.by_operation.setdefault(operation, Bounded(KEYS_KEPT))
        names[name] = names.get(name, 0) + 1

    def repeated(self) -> list[str]:
        return [name for names in self.by_operation.values() for name, times in names.items() if times > 1]

    def forgotten(self) -> int:
        return sum(names.forgotten for names in self.by_operation.values())


class Record:
    """The books of one run; a reset opens new books, and calls still in flight close in the old ones."""

    def __init__(self) -> None:
        self.arrivals: deque[Arrival] = deque(maxlen=ARRIVALS_KEPT)
        self.total = 0
        self.effects_total = 0
        self.held = 0
        self._operations: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._effects = Tally()
        self._refs = Tally()

    def __repr__(self) -> str:
        return f"<Record {self.total} arrivals, {self.effects_total} effects, {self.held} held>"

    @property
    def dropped(self) -> int:
        """How many arrivals are no longer listed."""
        return self.total - len(self.arrivals)

    def arrive(self, arrival: Arrival) -> None:
        """Book a request whose head has just arrived."""
        arrival.seq = self.total
        self.total += 1
        self._operations[arrival.operation] += 1
        self.arrivals.append(arrival)

    def executed(self, arrival: Arrival, key: str) -> None:
        """Book one effect under `key`, and under the arrival's ref when it has one."""
        arrival.effect = True
        self.effects_total += 1
        self._effects.add(arrival.operation, key)
        if arrival.ref is not None:
            self._refs.add(arrival.operation, arrival.ref)

    def answered(self, arrival: Arrival, status: int) -> None:
        arrival.status = status
        self._statuses[status] += 1

    def counts(self, *, names: bool = True, refused: int = 0) -> Counts:
        """Sum up; without `names` the maps per key stay empty, which is cheap enough to poll."""
        return Counts(
            arrivals=self.total,
            by_operation=dict(self._operations),
            effects={operation: dict(found) for operation, found in self._effects.by_operation.items()}
            if names
            else {},
            effects_by_ref={operation: dict(found) for operation, found in self._refs.by_operation.items()}
            if names
            else {},
            effects_total=self.effects_total,
            repeated_effects=self._effects.repeated() if names else [],
            repeated_refs=self._refs.repeated() if names else [],
            statuses={str(status): times for status, times in sorted(self._statuses.items())},
            unanswered=self.total - self._statuses.total(),
            held=self.held,
            forgotten_effects=self._effects.forgotten(),
            refused=refused,
        )

    def listed(self, operation: str | None = None) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if operation in {None, "*", arrival.operation}]

    def window(self, width_us: int, operation: str | None = None) -> int:
        """Count the most arrivals that any window of this width holds."""
        return busiest((arrival.mono_us for arrival in self.listed(operation)), width_us)

    def most_open(self, operation: str | None = None) -> int:
        """Count the most arrivals that were open at the same moment."""
        return crowd((arrival.mono_us, arrival.done_us) for arrival in self.listed(operation))


def busiest(times: Iterable[int], width: int) -> int:
    """Count the most of `times` that fit in a half-open window: two that are exactly `width` apart do not share one."""
    ordered = sorted(times)
    first = most = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= width:
            first += 1
        most = max(most, last - first + 1)
    return most


def overflows(times: Iterable[int], most: int, width: int) -> int:
    """Count those of `times` that came although the half-open window that ends with them was full already."""
    ordered = sorted(times)
    return sum(1 for early, late in zip(ordered, ordered[most:], strict=False) if late - early < width)


def crowd(spans: Iterable[tuple[int, int | None]]) -> int:
    """Count the most spans that overlap; one that has no end goes on for ever."""
    moments: list[tuple[int, int]] = []
    for start, end in spans:
        moments.append((start, 1))
        if end is not None:
            moments.append((end, -1))
    # At the same moment ends come first.
    return max(accumulate((change for _, change in sorted(moments)), initial=0))

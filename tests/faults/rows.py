"""What the vendor saw of each budget, held against its limit: arrivals over it, and the share of it that was used. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.faults.cases import Case, Pace
from tests.vendor.record import Arrival, busiest, crowd, overflows

US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the vendor saw of one budget."""

    case: str
    workers: int
    seed: int
    latency: str
    limit: str
    arrivals: int
    over: int
    """Arrivals for which there was no room in the window that ends with them."""
    worst: int
    """The most in any window, or at once."""
    most: int
    throughput: float | None
    """Share of N / (W + mean response time) in the saturated middle; None when there was none, or it was too short."""

    def __str__(self) -> str:
        return " | ".join(self.cells)

    @property
    def cells(self) -> tuple[str, ...]:
        share = "" if self.throughput is None else f"{self.throughput:.1%}"
        worst = f"{self.worst} of {self.most}"
        told = (self.case, self.workers, self.seed, self.latency, self.limit, self.arrivals, self.over, worst, share)
        return tuple(str(cell) for cell in told)


HEADS = ("case", "workers", "seed", "response times", "limit", "arrivals", "over", "worst window", "throughput")


def rows(case: Case, arrivals: Iterable[Arrival]) -> Iterator[Row]:
    """Yield a row for each budget: the arrivals that shared it, held against its limit."""
    listed = list(arrivals)
    for pace in case.paces:
        budgets: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in listed:
            budgets[_budget(pace, arrival)].append(arrival)
        for found in budgets.values():
            yield _row(case, pace, found)


def _budget(pace: Pace, arrival: Arrival) -> str:
    match pace.per:
        case "connector":
            return ""
        case "connection":
            return arrival.credential_sha256 or ""
        case "operation":
            return arrival.operation


def _row(case: Case, pace: Pace, found: Sequence[Arrival]) -> Row:
    times, width = [arrival.mono_us for arrival in found], round(pace.window_s * US)
    worst = busiest(times, width) if width else crowd((arrival.mono_us, arrival.done_us) for arrival in found)
    seen = {arrival.operation for arrival in found}
    latencies = {stream.latency.shape.value for stream in case.streams if stream.operation in seen}
    return Row(
        case=case.name,
        workers=case.workers,
        seed=case.seed,
        latency=", ".join(sorted(latencies)),
        limit=f"{pace} per {pace.per}",
        arrivals=len(found),
        over=overflows(times, pace.most, width) if width else max(0, worst - pace.most),
        worst=worst,
        most=pace.most,
        throughput=throughput(found, pace) if case.saturated else None,
    )


def throughput(found: Sequence[Arrival], pace: Pace) -> float | None:
    """Return the share of N / (W + mean response time) that was reached, None with fewer than two rounds of N arrivals.

    That rate is reached when each of N slots is taken again the moment it is free, so this is the share of the time that
    slots were taken: by each arrival for its response time and W. The burst into the empty window is left out, and what
    reaches beyond the last arrival is cut off, so that no bunch of arrivals counts for more than it is worth.
    """
    spans = sorted((one.mono_us, one.done_us + pace.window_s * US) for one in found if one.done_us is not None)
    if len(spans) <= 2 * pace.most:
        return None
    first, last = spans[pace.most][0], spans[-1][0]
    taken = sum(max(0, min(end, last) - max(start, first)) for start, end in spans)
    return taken / (pace.most * (last - first))

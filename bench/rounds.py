"""Interleaved rounds: every queue once a round, in turn, so that a noisy moment meets all of them; medians over the rounds."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from redis.asyncio import Redis

from bench.ground import cpu_s
from bench.queue import Queue


@dataclass(slots=True)
class Series:
    """What one measure cost in each round, microseconds a call."""

    wall_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    claims_s: list[float] = field(default_factory=list)
    """How long each claim took, seconds."""

    @property
    def wall(self) -> float:
        return median(self.wall_us)

    @property
    def server(self) -> float:
        return median(self.server_us)

    def against(self, base: "Series") -> tuple[float, float]:
        """Return the median ratios to another series, round by round: by the clock, and by the server's processor time."""
        return _ratio(self.wall_us, base.wall_us), _ratio(self.server_us, base.server_us)

    def claim_ms(self, share: float) -> float:
        """Return a percentile of the claims, milliseconds."""
        ordered = sorted(self.claims_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(one / other for one, other in zip(ours, theirs, strict=True))


async def cycles(queues: Sequence[Queue], *, rounds: int, each: int) -> dict[str, Series]:
    """Fill the queues and measure `each` cycles of every one in every round; a first round warms up and is not counted."""
    series = {queue.shape.name: Series() for queue in queues}
    for queue in queues:
        await queue.fill()
    for number in range(rounds + 1):
        # Each goes first in turn.
        for queue in [*queues[number % len(queues) :], *queues[: number % len(queues)]]:
            before = await cpu_s(queue.redis)
            done = [await queue.cycle() for _ in range(each)]
            spent = await cpu_s(queue.redis) - before
            if number:
                one = series[queue.shape.name]
                one.wall_us.append(1e6 * median(cycle.wall_s for cycle in done))
                one.server_us.append(1e6 * spent / sum(cycle.calls for cycle in done))
                one.claims_s += [cycle.claim_s for cycle in done]
    return series


async def repeated(redis: "Redis", act: Callable[[], Awaitable[float]], series: Series, *, times: int) -> None:
    """Do something `times` times and note a round: the median of the seconds it returns, and the server's time for it all."""
    before = await cpu_s(redis)
    took = [await act() for _ in range(times)]
    series.server_us.append(1e6 * (await cpu_s(redis) - before) / times)
    series.wall_us.append(1e6 * median(took))


async def clocked(work: Awaitable[object]) -> float:
    """Return how many seconds it took."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began

"""A process with breakers of its own, for tests: `python -m tests.wire.breaking REDIS_URL NAME`, driven by lines on stdin.

Each line is `OUTCOME COUNT` (ok, failed or neutral) or `look`; each is answered by one line of JSON that says how the breaker stands.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from redis.asyncio import Redis

from connectors.breaking.breaker import Breaker, Permit
from connectors.breaking.breakers import Breakers, Changed
from connectors.breaking.standing import phase
from connectors.breaking.store import Shared
from connectors.breaking.terms import BreakerTerms
from gateway.lanes.breakers import Around, RedisBreakers
from gateway.lanes.connect import connect
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.outcome import Outcome
from schemas.topics import Shard, Topics

URL = "https://crm.test"
KEY = f"crm|{URL}"
GATE = "@crm"
TERMS = BreakerTerms(
    window_s=60.0, min_calls=10, failure_rate=0.5, consecutive=5, slow_over_s=5.0, slow_rate=0.8, open_s=0.6
)
OUTCOMES = {
    "ok": Outcome(effect=Effect.EXECUTED),
    "failed": Outcome(effect=Effect.UNKNOWN, failure=Failure.HTTP_UNAVAILABLE),
    "neutral": Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_TOO_MANY),
}


@dataclass
class Member:
    """One process of a fleet, as far as breakers go."""

    breakers: Breakers
    store: RedisBreakers
    seen: list[Changed] = field(default_factory=list)

    @property
    def breaker(self) -> Breaker:
        return self.breakers.of("crm", URL, TERMS)

    @property
    def state(self) -> str:
        return phase(self.breaker.standing, time.time())

    async def call(self, outcome: str) -> bool:
        """Make one call; tells whether it was let through."""
        permit = await self.breakers.admit(self.breaker, timeout_s=1.0)
        if isinstance(permit, Permit):
            self.breakers.settle(permit, OUTCOMES[outcome])
        return isinstance(permit, Permit)


@asynccontextmanager
async def member(
    redis: "Redis", listener: "Redis", name: str, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Member]:
    """Join the fleet; `listener` has no read timeout."""
    numbers = count()
    around = Around(worker=name, clock=clock, gates=lambda _: [GATE], new_id=lambda: f"{name}.{next(numbers)}")
    store = RedisBreakers(redis, Topics(), Shard(), around)
    seen: list[Changed] = []
    breakers = Breakers(
        store, clock=clock, uniform=lambda low, high: (low + high) / 2, worker=name, observe=seen.append
    )

    def heard(key: str, shared: Shared) -> None:
        breakers.heard(key, shared)  # looked up each time, so that a test may make a member deaf

    tasks = [
        asyncio.create_task(breakers.keep()),
        asyncio.create_task(store.listen(listener, heard, wait_s=0.05)),
    ]
    try:
        yield Member(breakers, store, seen)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def main(url: str, name: str) -> None:
    """Do what stdin says."""
    loop = asyncio.get_running_loop()
    async with connect(url) as redis, connect(url, timeout_s=None) as listener, member(redis, listener, name) as one:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            kind, _, times = line.strip().partition(" ")
            let = 0
            for _ in range(int(times or 0)):
                let += await one.call(kind)
            standing = one.breaker.standing
            sums = one.breaker.sums(time.time())
            told = {
                "state": one.state,
                "generation": standing.generation,
                "let": let,
                "calls": sums.calls,
                "at": time.time(),
            }
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

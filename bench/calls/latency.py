"""What a call's way through Sluice adds to the time of the same call made directly: open loop, from when each was due.

Arrivals are scheduled and not made to wait for each other, so that a slow moment counts for all that were due in it.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec
from redis.asyncio import Redis

from bench.calls.contest import FLIGHT, Contender, event

OWN_P99_S: Final = 0.010
"""A round in which the client's own XADD is slower says nothing of Sluice: it is made again, and counted."""
TRIES: Final = 4


class _Request(msgspec.Struct):
    id: str


class _Data(msgspec.Struct):
    request: _Request


class _Result(msgspec.Struct):
    data: _Data


_result = msgspec.json.Decoder(_Result).decode


@dataclass(frozen=True, slots=True)
class Steady:
    """A load that does not wait for its answers."""

    rate: float
    """Calls a second."""
    seconds: float

    @property
    def calls(self) -> int:
        return int(self.rate * self.seconds)


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from when a call was due until its result was there."""

    p50: float
    p99: float


def spread(took: Sequence[float]) -> Latency:
    """Return median and 99th percentile."""
    ordered = sorted(took)
    return Latency(statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))])


async def direct(vendor: str, load: Steady) -> Latency:
    """Make the calls from here, with aiohttp."""
    took: list[float] = []
    async with aiohttp.ClientSession(vendor, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(number: int, due: float) -> None:
            async with session.get(f"/v1/contacts/d{number}") as answer:
                await answer.read()
            took.append(time.perf_counter() - due)

        await _scheduled(load, call)
    return spread(took)


async def through(ours: Contender, redis: "Redis", first: int, load: Steady) -> tuple[Latency, int]:
    """Publish the calls as events and read the results; also returns how many rounds had to be made again."""
    again = 0
    while True:
        took, own = await _round(ours, redis, first, load)
        if spread(own).p99 <= OWN_P99_S or again == TRIES:
            return spread(took), again
        again, first = again + 1, first + load.calls


async def _round(ours: Contender, redis: "Redis", first: int, load: Steady) -> tuple[list[float], list[float]]:
    books: Any = redis
    due_at: dict[str, float] = {}
    took: list[float] = []
    own: list[float] = []
    last = (await books.xinfo_stream(ours.results))["last-generated-id"] if await books.exists(ours.results) else b"0"

    async def publish() -> None:
        began, number, most = time.perf_counter() + 0.05, 0, load.calls
        while number < most:
            # All that are due now go in one flight, so that the client is never what is measured.
            due = range(number, min(most, number + FLIGHT, 1 + int((time.perf_counter() - began) * load.rate)))
            if not due:
                await asyncio.sleep(began + number / load.rate - time.perf_counter())
                continue
            sent = time.perf_counter()
            async with books.pipeline(transaction=False) as pipe:
                for one in due:
                    due_at[f"e{first + one}"] = began + one / load.rate
                    pipe.xadd(ours.source, {"data": event(first + one)})
                await pipe.execute()
            own.append(time.perf_counter() - sent)
            number += len(due)

    async def read() -> None:
        place = last
        while len(took) < load.calls:
            found = await books.xread({ours.results: place}, count=500, block=2000) or {}
            seen = time.perf_counter()
            entries = [entry for batches in found.values() for batch in batches for entry in batch]
            place = entries[-1][0] if entries else place
            took.extend(seen - due_at[_result(fields[b"data"]).data.request.id] for _, fields in entries)

    async with asyncio.timeout(load.seconds + 30):
        await asyncio.gather(publish(), read())
    return took, own


async def _scheduled(load: Steady, act: Callable[[int, float], Awaitable[None]]) -> None:
    began = time.perf_counter() + 0.05
    tasks = set()
    for number in range(load.calls):
        due = began + number / load.rate
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        tasks.add(asyncio.ensure_future(act(number, due)))
    await asyncio.gather(*tasks)

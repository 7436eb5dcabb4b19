"""The processes that are compared: each takes events from a topic, calls the vendor, and tells results on another topic."""

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from bench.calls.handwritten import GROUP, topics
from bench.ground import ROOT, cpu_s
from schemas.topics import GROUP as OURS

CLIENTS: Final = ("httpx", "httpx2", "aiohttp")
AT_ONCE: Final = 256
"""Calls that each of them has under way at most; many more than this vendor needs to be busy."""
FLIGHT: Final = 250
CATCH_UP_S: Final = 120.0
"""A journal may take so long for all calls of a run."""
PATIENCE_S: Final = 20.0
"""Without any result."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one round cost."""

    wall_us: float
    """By the clock, a call."""
    cpu_us: float
    """Of the contender's own process, a call; 0 where it was not measured."""
    redis_us: float = 0.0
    lost: int = 0
    """Calls without a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One that runs, idle between its rounds: its process, and the topics it works between."""

    name: str
    process: "subprocess.Popen[bytes]"
    source: str
    results: str

    async def work(self, redis: "Redis", first: int, calls: int) -> Cost:
        """Publish so many events as fast as Redis takes them, and wait for as many results."""
        books: Any = redis
        before = await books.xlen(self.results)
        began, spent, server = time.perf_counter(), process_s(self.process.pid), await cpu_s(redis)
        for start in range(first, first + calls, FLIGHT):
            async with books.pipeline(transaction=False) as pipe:
                for number in range(start, min(start + FLIGHT, first + calls)):
                    pipe.xadd(self.source, {"data": event(number)})
                await pipe.execute()
        done, wall = 0, 0.0
        # What has not come when nothing has come for a while was lost; that is told.
        while done < calls and time.perf_counter() - began - wall < PATIENCE_S:
            await asyncio.sleep(0.005)
            if (seen := await books.xlen(self.results) - before) > done:
                done, wall = seen, time.perf_counter() - began
        used, served = process_s(self.process.pid) - spent, await cpu_s(redis) - server
        wall_us, cpu_us, redis_us = (1e6 * one / calls for one in (wall, used, served))
        return Cost(wall_us, cpu_us, redis_us, lost=calls - done)


def event(number: int) -> str:
    """Render the event that everybody reads."""
    data = {"tool": "crm.contacts.get", "connection": "main", "arguments": {"id": f"b{number}"}}
    return json.dumps(
        {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/bench", "id": f"e{number}", "data": data}
    )


def process_s(pid: int) -> float:
    """Return the processor seconds that all threads of a process have used."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


async def by_hand(client: str, redis: "Redis", places: tuple[str, str]) -> Contender:
    """Start the handwritten one with this client; `places` are the addresses of Redis and the vendor."""
    source, results = topics(client)
    books: Any = redis
    # FastStream would begin at the end of the topic.
    await books.xgroup_create(source, GROUP, id="0", mkstream=True)
    process = _spawn(["-m", "bench.calls.handwritten", client, *places, str(AT_ONCE)], {})
    return Contender(name=client, process=process, source=source, results=results)


async def sluice(environment: dict[str, str]) -> Contender:
    """Start a worker as `sluice worker` does."""
    process = _spawn(["-m", "gateway", "worker"], {"SLUICE_CONCURRENCY": str(AT_ONCE), **environment})
    return Contender(name="sluice", process=process, source="tool-calls", results="tool-results")


async def journalled(redis: "Redis", environment: dict[str, str], calls: int) -> float:
    """Let a journal catch up with everything and return its processor time, microseconds a call."""
    books: Any = redis
    process = _spawn(["-m", "gateway", "journal"], environment)
    try:
        began, spent = time.monotonic(), 0.0
        while (behind := await _behind(books)) != 0:
            if behind is None:
                spent = process_s(process.pid)  # it has only started
            if time.monotonic() - began > CATCH_UP_S or process.poll() is not None:
                raise RuntimeError("the journal did not catch up")
            await asyncio.sleep(0.05)
        return 1e6 * (process_s(process.pid) - spent) / calls
    finally:
        process.kill()
        process.wait()


async def _behind(books: Any) -> int | None:
    groups = [group for group in await books.xinfo_groups("tool-events") if group["name"] == OURS.encode()]
    return int(groups[0]["lag"] or 0) + int(groups[0]["pending"]) if groups else None


def _spawn(arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    return subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("BENCH_LOUD") else subprocess.DEVNULL,
    )

"""The ceiling: aiohttp in a loop, with no queue, no guard and no memory. `python -m bench.calls.bare VENDOR CALLS AT_ONCE`."""

import asyncio
import json
import sys
import time

import aiohttp
import uvloop

WARM = 300


async def measured(vendor: str, calls: int, at_once: int) -> dict[str, float]:
    """Return seconds by the clock and of this process for so many calls."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(vendor, connector=connector) as session:
        await _many(session, WARM, at_once)
        began, spent = time.perf_counter(), time.process_time()
        await _many(session, calls, at_once)
        return {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - spent}


async def _many(session: aiohttp.ClientSession, calls: int, at_once: int) -> None:
    numbers = iter(range(calls))

    async def loop() -> None:
        for number in numbers:
            async with session.get(f"/v1/contacts/b{number}") as answer:
                await answer.read()

    await asyncio.gather(*(loop() for _ in range(at_once)))


if __name__ == "__main__":
    found = uvloop.run(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    sys.stdout.write(json.dumps(found) + "\n")

"""A worker that does nothing but call with a token: `python -m tests.faults.tokened`. On request it dies at one step of a refresh."""

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp

from connectors.auth.found import Waiting
from connectors.auth.token_store import AccessToken
from gateway import logs
from gateway.lanes.connect import connect
from tests.credentials import Bench, bench, refreshing

STEPS = ("begun", "asked", "answered", "committed")
"""Where it can die: what it asked for is written down; the vendor has answered into the void; the answer is in our hands; it is kept."""
LEASE_S = 1.6
TIMEOUT_S = 0.7


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("redis")
    parser.add_argument("vendor")
    parser.add_argument("--rotation", default="strict")
    parser.add_argument("--callers", type=int, default=13)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--die", choices=STEPS)
    logs.configure("debug", pretty=False)
    asyncio.run(run(parser.parse_args()))


async def run(wanted: argparse.Namespace) -> None:
    holder = f"w-{os.getpid()}"
    terms: dict[str, Any] = {"lease_s": LEASE_S, "timeout_s": TIMEOUT_S, "holder": holder}
    async with connect(wanted.redis) as redis, bench(redis, wanted.vendor, refreshing(wanted.rotation), **terms) as one:
        if wanted.die:
            _doom(one, wanted.die)
            await one.source.check(one.credential)
            return
        sums: Counter[str] = Counter()
        end = time.monotonic() + wanted.seconds
        async with aiohttp.ClientSession(wanted.vendor) as session:
            callers = [_calls(one, session, sums, end) for _ in range(wanted.callers)]
            await asyncio.gather(*callers, _tends(one, end))
        print(json.dumps(sums), flush=True)


async def _calls(one: Bench, session: aiohttp.ClientSession, sums: Counter[str], end: float) -> None:
    while time.monotonic() < end:
        token = await one.token()
        if isinstance(token, AccessToken):
            headers = {"Authorization": f"{token.token_type} {token.value.reveal()}"}
            async with session.get("/v1/echo", headers=headers) as answer:
                sums[str(answer.status)] += 1
                one.source.tried(one.operation, one.connection, token.version, accepted=answer.status != 401)
                if answer.status == 401:
                    await one.source.report_401(one.operation, one.connection, token.version)
        else:
            sums[type(token).__name__] += 1
            await asyncio.sleep(0.1 if isinstance(token, Waiting) else 0.5)
        await asyncio.sleep(0.02)


async def _tends(one: Bench, end: float) -> None:
    while time.monotonic() < end:
        await one.source.tend(one.credential)
        await asyncio.sleep(0.3)


def _doom(one: Bench, step: str) -> None:
    """Put death behind one step."""
    source: Any = one.source

    def mortal(act: Callable[..., Any]) -> Callable[..., Any]:
        async def dies(*args: Any, **named: Any) -> Any:
            await act(*args, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        return dies

    match step:
        case "begun":
            one.store.begin = mortal(one.store.begin)  # type: ignore[method-assign]
        case "answered":
            source._refresher.fresh = mortal(source._refresher.fresh)
        case "committed":
            one.store.commit = mortal(one.store.commit)  # type: ignore[method-assign]
        case _:  # asked: the vendor holds back an answer that stands in its books, and somebody kills us meanwhile
            pass


if __name__ == "__main__":
    main()

"""A gateway of one's own, opened in this process: Redis if there is none, and a worker that joins the fleet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway import roles, starting
from gateway.app import open_gateway
from gateway.embedded_redis import DirectoryInUseError, EmbeddedRedis, Restart
from gateway.endings import ended
from gateway.lanes.checkup import checkup
from gateway.lanes.spread.agreement import StateUnfit, agree
from gateway.sdk.door import Caller, Door
from gateway.settings import Settings

LOCK_WAIT_S = 0.5
"""A server that runs on the directory, such as that of `sluice up`, is joined instead of waited for."""


class OpeningError(Exception):
    """The gateway cannot be opened as the settings ask; the message says what to do."""


@asynccontextmanager
async def open_door(caller: Caller, settings: Settings | None = None, *, works: bool = True) -> AsyncIterator[Door]:
    """Open a gateway in this process until the end of the context; without `works` the calls are left to other workers."""
    settings = settings or Settings()
    problem = starting.unsupported(settings)
    if problem is not None:
        raise OpeningError(problem)
    async with AsyncExitStack() as stack:
        if settings.redis_url is None:
            await _serve_redis(settings, stack)
        gateway = await stack.enter_async_context(open_gateway(settings, "sdk"))
        try:
            if works:
                await roles.joined(gateway, asyncio.Event())
            else:
                await agree(gateway.shards)
        except StateUnfit as error:
            raise OpeningError(str(error)) from error
        if works:
            await stack.enter_async_context(roles.working(gateway))
        door = Door(gateway, caller)
        stack.push_async_callback(door.close)
        yield door


async def _serve_redis(settings: Settings, stack: AsyncExitStack) -> None:
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        server = await stack.enter_async_context(EmbeddedRedis(settings.data, lock_wait_s=LOCK_WAIT_S))
    except DirectoryInUseError:
        told = await checkup(settings.state_url, "tool-calls")
        if isinstance(told, str):
            raise OpeningError(f"Another server works on {settings.data}, and it {told}.") from None
        return
    watching = asyncio.create_task(server.watch(_restarted))
    stack.push_async_callback(ended, [watching])


async def _restarted(restart: Restart) -> None:
    """Nothing to do: every part waits for Redis by itself."""
    del restart

"""`sluice up`: everything on one machine in one command. Embedded Redis, an API and workers, watched until a stop."""

import asyncio
import contextlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvloop

from connectors import catalog as manifests
from gateway import logs, roles, starting, telemetry
from gateway.embedded_redis import EmbeddedRedis, EmbeddedRedisError, Restart
from gateway.journal.database import Database
from gateway.settings import Settings
from gateway.supervisor import Program, Supervisor

log = structlog.get_logger()

STOP_WITHIN_S = 9.0
"""Together with the server's own stop this stays within the ten seconds that are promised."""

SLOW_S = 30.0
"""After so long a start is called slow."""

PROCESSES = "processes.json"
"""The file in the data directory that names the processes of a running `up`."""


def up(settings: Settings) -> int:
    """Run everything until Ctrl-C or SIGTERM; 0 after a clean stop."""
    logs.configure(settings.log_level)
    if starting.complain(starting.unsupported(settings) or starting.exposure(settings)):
        return 2
    try:
        return uvloop.run(_up(settings))
    except EmbeddedRedisError as error:
        _say(str(error))
        return 1


async def _up(settings: Settings) -> int:
    stop = roles.stop_event()
    async with AsyncExitStack() as stack:
        server = await _server(settings, stack)
        if starting.complain(starting.taken(settings)):
            return 1
        supervisor = Supervisor(
            _programs(settings), stop_within_s=STOP_WITHIN_S, changed=_note(settings.data / PROCESSES)
        )
        await supervisor.start()
        _say("Starting ...")
        if await _listening(settings, stop):
            _say(_welcome(settings, server))
        await stop.wait()
        _say("Stopping: calls under way may end first. Ctrl-C again does not hurry it.")
        gentle = await supervisor.stop()
        (settings.data / PROCESSES).unlink(missing_ok=True)
    _say("Stopped." if gentle else "Stopped; some calls were cut short and will be taken up at the next start.")
    return 0


async def _listening(settings: Settings, stop: asyncio.Event) -> bool:
    """Wait until the API takes connections, so that what is said next is true; false when a stop came first."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - nothing is bound
    slow_at = asyncio.get_running_loop().time() + SLOW_S
    while not stop.is_set():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, settings.port)
            writer.close()
            return True
        if asyncio.get_running_loop().time() > slow_at:
            _say("The API does not listen yet. What is above may say why; else: sluice doctor")
            slow_at = math.inf
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.1)
    return False


async def _server(settings: Settings, stack: AsyncExitStack) -> EmbeddedRedis | None:
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.redis_url is not None:
        return None
    server = await stack.enter_async_context(EmbeddedRedis(settings.data))
    watching = asyncio.create_task(server.watch(_restarted))
    stack.callback(watching.cancel)
    return server


async def _restarted(restart: Restart) -> None:
    log.warning("redis.restarted", exit=restart.exit_code, pid=restart.pid)


def _programs(settings: Settings) -> list[Program]:
    metrics = settings.data / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(mode=0o700)
    environment = {**os.environ, **settings.environment(), telemetry.MULTIPROCESS: str(metrics.absolute())}
    names = ["api", "journal", *(f"worker-{number}" for number in range(1, settings.workers + 1))]
    return [
        Program(name=name, command=[sys.executable, "-m", "gateway", name.partition("-")[0]], environment=environment)
        for name in names
    ]


def _note(path: Path) -> Callable[[dict[str, int]], None]:
    def write(pids: dict[str, int]) -> None:
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"up": os.getpid(), **pids}), encoding="utf-8")
        temporary.replace(path)

    return write


def _welcome(settings: Settings, server: EmbeddedRedis | None) -> str:
    lines = [
        "Sluice is up.",
        f"  API      http://{settings.host}:{settings.port}     (curl http://{settings.host}:{settings.port}/readyz)",
        f"  Redis    {server.cli if server else without_password(settings.redis_url or '')}",
        f"  Data     {settings.data.absolute()}",
        *_tools(settings),
        *([f"  Bus      {without_password(settings.bus_url)}"] if settings.bus_url else []),
        f"  Workers  {settings.workers}",
        f"  Journal  {Database(settings.journal, writes=False).name}",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


def _tools(settings: Settings) -> list[str]:
    """Return how many tools were loaded here, and the commands that list them and what is wrong, from wherever they are typed."""
    loaded = manifests.load([path for path in settings.connectors if path.exists()], os.environ)
    wrong = sum(problem.severity == "error" for problem in loaded.problems)
    given = settings.connectors if "connectors" in settings.model_fields_set else []
    ls = " ".join(["sluice connectors ls", *(f"--connectors {path.resolve()}" for path in given)])
    lint = " ".join(["sluice connectors lint", *(str(path.resolve()) for path in given)])
    lines = [f"  Tools    {len(loaded.catalog.operations)}     ({ls})"]
    if wrong:
        errors = "1 error" if wrong == 1 else f"{wrong} errors"
        lines.append(f"           Their files have {errors}; what has one is left out: {lint}")
    return lines


def without_password(url: str) -> str:
    """Return a URL that may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - for the person who started it

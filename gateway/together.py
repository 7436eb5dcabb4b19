"""`sluice up`: everything on one machine in one command. Embedded Redis, an API and workers, watched until a stop."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvloop

from gateway import roles, telemetry
from gateway.embedded_redis import EmbeddedRedis, EmbeddedRedisError, Restart
from gateway.journal.database import Database
from gateway.settings import Settings
from gateway.supervisor import Program, Supervisor

log = structlog.get_logger()

STOP_WITHIN_S = 9.0
"""Together with the server's own stop this stays within the ten seconds that are promised."""

PROCESSES = "processes.json"
"""The file in the data directory that names the processes of a running `up`."""


def up(settings: Settings) -> int:
    """Run everything until Ctrl-C or SIGTERM; 0 after a clean stop."""
    telemetry.configure(settings.log_level)
    if roles.complain(roles.unsupported(settings) or roles.exposure(settings)):
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
        supervisor = Supervisor(
            _programs(settings), stop_within_s=STOP_WITHIN_S, changed=_note(settings.data / PROCESSES)
        )
        await supervisor.start()
        _say(_welcome(settings, server))
        await stop.wait()
        _say("Stopping: calls under way may end first. Ctrl-C again does not hurry it.")
        gentle = await supervisor.stop()
        (settings.data / PROCESSES).unlink(missing_ok=True)
    _say("Stopped." if gentle else "Stopped; some calls were cut short and will be taken up at the next start.")
    return 0


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
        f"  Tools    sluice connectors ls        ({', '.join(str(path) for path in settings.connectors)})",
        f"  Workers  {settings.workers}",
        f"  Journal  {Database(settings.journal, writes=False).name}",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


def without_password(url: str) -> str:
    """Return a URL that may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - for the person who started it

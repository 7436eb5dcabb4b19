"""The ground of a run: a private server that writes through to the disk, what its processor time was, and facts of the machine."""

import os
import platform
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from gateway.embedded_redis import EmbeddedRedis
from gateway.lanes.connect import connect

ROOT = Path(__file__).resolve().parents[1]


@asynccontextmanager
async def server() -> AsyncIterator["Redis"]:
    """Start a server with `appendfsync always` and no rewrite of its file in the middle of a round."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        async with EmbeddedRedis(Path(folder)) as embedded, connect(embedded.url, timeout_s=60) as redis:
            await redis.config_set("auto-aof-rewrite-percentage", 0)
            # What is deleted is given back at once, so that the difference can be measured.
            await redis.config_set("lazyfree-lazy-user-del", "no")
            yield redis


async def cpu_s(redis: "Redis") -> float:
    """Return the processor seconds that the server has used, in user and system mode."""
    info: dict[str, Any] = await redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def memory(redis: "Redis") -> int:
    """Return the bytes that the server has allocated."""
    info: dict[str, Any] = await redis.info("memory")
    return int(info["used_memory"])


def machine(date: str) -> dict[str, str]:
    """Say on what a run was made, without any server."""
    return {
        "date": date,
        "commit": _commit(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


async def facts(redis: "Redis", date: str) -> dict[str, str]:
    """Return what a figure depends on."""
    info: dict[str, Any] = await redis.info("server")
    version = info.get("valkey_version") or info["redis_version"]
    return {**machine(date), "server": f"{info.get('server_name', 'redis')} {version}, appendfsync always"}


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()

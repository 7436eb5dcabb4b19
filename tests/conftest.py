"""What every test may ask for: a real Redis of its own, and the gateway's parts on it."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from gateway.embedded_redis import EmbeddedRedis
from gateway.lanes.connect import connect

pytest_plugins = ["tests.vendor.fixtures", "tests.timed", "tests.cluster_stage"]

# Properties look at fewer cases here than by default, so that the fast tests stay fast; a property that needs more says so.
# A change is not refused for what chance finds that day: there the cases are the same each time, and elsewhere they are not.
settings.register_profile("fast", max_examples=40, deadline=None, derandomize="CI" in os.environ)
settings.load_profile("fast")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One embedded server for the whole run; every test that uses it starts with an empty one."""
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder, asyncio.Runner() as runner:
        server = EmbeddedRedis(Path(folder))
        runner.run(server.start())
        yield server.url
        runner.run(server.stop())


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["Redis"]:
    """A client of an empty server."""
    BlockingRedis.from_url(redis_url).flushall()
    async with connect(redis_url) as client:
        yield client


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests have measured, however quiet the run is: each `summary` that a test recorded."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, told in getattr(report, "user_properties", ()):
                if name == "summary" and report.when == "call":
                    terminalreporter.write_line(str(told))

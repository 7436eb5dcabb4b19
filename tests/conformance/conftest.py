"""The same suites on the twins: what asks for `redis` or `stage` here gets them in memory."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from dlq.redaction import Sealer
from gateway.lanes.connect import connect
from schemas.topics import GROUP
from tests.conformance.sides import ticking
from tests.flows import conftest as flows
from tests.flows.stage import TOPICS, Stage
from tests.twins.redis_twin import RedisTwin, TwinClient

sealer = flows.sealer


@pytest.fixture
def redis() -> Any:
    """A client of an empty twin."""
    return TwinClient(RedisTwin(ticking()))


@pytest.fixture
async def redis_server(redis_url: str) -> AsyncIterator["Redis"]:
    """A client of a real server."""
    async with connect(redis_url) as client:
        yield client


@pytest.fixture
async def stage(redis: Any, sealer: Sealer) -> Stage:
    """A stage on the twin."""
    await redis.xgroup_create(TOPICS.calls, GROUP, id="0", mkstream=True)
    return Stage(cast("Any", redis), sealer)

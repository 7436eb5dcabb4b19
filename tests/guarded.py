"""The guards of one process on a real Redis, without a gateway around them."""

import random
import time
from datetime import UTC, datetime
from pathlib import Path

from redis.asyncio import Redis
from ulid import ULID

from connectors.catalog import Catalog
from connectors.transport import Engine
from dlq.keys import KeyRing
from gateway.alerts import Alerts
from gateway.guards import Common
from gateway.lanes.queue import Lanes
from gateway.lanes.queue import Terms as LaneTerms
from gateway.lanes.spread.queue import AllLanes
from gateway.lanes.spread.shards import Seat, Shards
from gateway.ports import Ambient
from gateway.settings import Settings
from schemas.topics import Shard, Topics
from tests.examples import TRACE

KEYS = KeyRing({"k1": b"k" * 32})


def common(redis: "Redis", engine: Engine, data: Path) -> Common:
    """Join what the guards need; nothing is declared, so no gate stands before any origin."""
    shard, topics = Shard(""), Topics("")
    around = Ambient(
        now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        new_id=lambda: str(ULID()),
        new_trace=lambda: TRACE,
        uniform=random.uniform,
        worker="test",
    )
    terms = LaneTerms(items=100, size_bytes=1 << 20, wait_s=0.01, most_bytes=1 << 30)
    return Common(
        settings=Settings(data=data),
        ambient=around,
        shards=Shards([Seat(shard=shard, topics=topics, redis=redis, listener=redis)]),
        topics=topics,
        lanes=AllLanes([Lanes(redis, topics, shard=shard, terms=terms, plans=dict)]),
        engine=engine,
        alerts=Alerts(redis, topics.alerts, around),
        keys=KEYS,
        catalog=Catalog,
    )

"""Connections to Redis, made one way: no hidden retries, bounded waits, a bounded pool.

redis-py's own retries run a command twice after a lost reply, and their default depends on the constructor; ours are explicit.
"""

from redis._parsers.base import BaseParser
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

POOL = 32
"""Connections of one process at most; a call waits for a free one."""


class RefusingError(ResponseError):
    """The server refuses every write for now: too few replicas follow it, or its disk has no room. It passes like an outage."""


# The client knows an error by its first word, and has no class for these two.
BaseParser.EXCEPTION_CLASSES.update({"NOREPLICAS": RefusingError, "MISCONF": RefusingError})


def connect(url: str, *, timeout_s: float | None = 10.0) -> Redis:
    """Return a client for `url` (redis://, rediss://, unix://); `timeout_s` None is for connections that block."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=POOL,
        timeout=30,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout_s,
        socket_connect_timeout=5,
        protocol=3,
        legacy_responses=True,
    )
    return Redis.from_pool(pool)

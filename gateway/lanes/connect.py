"""Connections to Redis, made one way: no hidden retries, bounded waits, a bounded pool.

redis-py's own retries run a command twice after a lost reply, and their default depends on the constructor; ours are explicit.
"""

from typing import Any

from redis._parsers.base import BaseParser
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

POOL = 32
"""Connections of one process at most; a call waits for a free one."""


class RefusingError(ResponseError):
    """The server refuses every write for now: too few replicas follow it, or its disk has no room. It passes like an outage."""


# The client knows an error by its first word, and has no class for these two.
BaseParser.EXCEPTION_CLASSES.update({"NOREPLICAS": RefusingError, "MISCONF": RefusingError})


class _Noticing(AbstractConnection):
    """Notices that the other side has reset it.

    uvloop closes such a transport at once, the client does not see that where it looks for an end of file, and what is then written
    fails with a `RuntimeError` that nobody takes for an outage (MagicStack/uvloop#506).
    """

    async def can_read(self) -> bool:
        """Tell the pool, before a command is written, that it must connect again."""
        if self._writer is not None and self._writer.transport.is_closing():
            raise RedisConnectionError("the connection was reset while nobody used it")
        return await super().can_read()

    async def send_packed_command(self, *arguments: Any, **more: Any) -> None:
        """Write a command; on a transport that was closed a moment ago it fails as on any that is lost."""
        try:
            await super().send_packed_command(*arguments, **more)
        except RuntimeError as error:
            raise RedisConnectionError(str(error)) from error


class NoticingConnection(_Noticing, Connection):
    """One over TCP."""


class NoticingSSLConnection(_Noticing, SSLConnection):
    """One over TLS."""


class _NoticingUnixConnection(_Noticing, UnixDomainSocketConnection):
    """One over a local socket."""


_KINDS = {SSLConnection: NoticingSSLConnection, UnixDomainSocketConnection: _NoticingUnixConnection}


def connect(url: str, *, timeout_s: float | None = 10.0) -> Redis:
    """Return a client for `url` (redis://, rediss://, unix://); `timeout_s` None is for connections that block."""
    ours: dict[str, Any] = {
        "max_connections": POOL,
        "timeout": 30,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": 5,
        "protocol": 3,
        "legacy_responses": True,
    }
    asked: dict[str, Any] = dict(parse_url(url))
    kind = _KINDS.get(asked.pop("connection_class", Connection), NoticingConnection)
    pool = BlockingConnectionPool(**{**ours, **asked, "connection_class": kind})
    return Redis.from_pool(pool)

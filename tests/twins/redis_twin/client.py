"""A client of the twin that looks like redis-py's: the same methods and the same parsing, over a wire of the test's own.

The wire is one function: it gets what runs the commands at the server, and decides when, whether, and whether its reply comes back.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from typing import Any, Final, Self

from redis._parsers.response_callbacks import get_response_callbacks
from redis.commands.core import AsyncCoreCommands
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from gateway.lanes import scripts
from tests.twins.redis_twin.keyspace import Reply
from tests.twins.redis_twin.server import RedisTwin, sha_of

Wire = Callable[[str, Callable[[], Any]], Awaitable[Any]]
"""Is told what travels, a command or the name of a script, and what runs it at the server."""
CALLBACKS: Final = get_response_callbacks(3, legacy_responses=True)
"""What `gateway.lanes.connect` asks redis-py for."""


async def at_once(_: str, run: Callable[[], Any]) -> Any:
    """Reach the server and come back, without time or faults."""
    return run()


class _Commands(AsyncCoreCommands):
    """The methods of redis-py; nobody listens for its events here."""

    _event_dispatcher: Any = None


class TwinClient(_Commands):
    """One process's client."""

    def __init__(self, server: RedisTwin, wire: Wire = at_once) -> None:
        self._server = server
        self._wire = wire

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        sent = encoded(args)
        return parsed(args[0], await self._wire(label(sent), lambda: self._server.execute(sent)), options)

    def pipeline(self, transaction: bool = True, shard_hint: None = None) -> "TwinPipeline":  # noqa: FBT001, FBT002 - redis-py's
        """Collect commands that travel together; with or without a transaction nothing comes between them here."""
        del transaction, shard_hint
        return TwinPipeline(self._server, self._wire)

    def pubsub(self) -> "TwinPubSub":
        """Listen for what is published."""
        return TwinPubSub(self._server, self._wire)

    async def aclose(self) -> None:
        """Hold nothing that must be closed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class TwinPipeline(_Commands):
    """Commands that travel together."""

    def __init__(self, server: RedisTwin, wire: Wire) -> None:
        self._server = server
        self._wire = wire
        self._queued: list[tuple[Any, list[bytes], dict[str, Any]]] = []

    def execute_command(self, *args: Any, **options: Any) -> Self:
        self._queued.append((args[0], encoded(args), options))
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - redis-py's
        """Send what was collected."""
        queued, self._queued = self._queued, []
        replies = await self._wire("pipeline", lambda: [self._one(sent) for _, sent, _ in queued])
        failed = next((reply for reply in replies if isinstance(reply, RedisError)), None)
        if failed is not None and raise_on_error:
            raise failed
        return [
            reply if isinstance(reply, RedisError) else parsed(name, reply, options)
            for (name, _, options), reply in zip(queued, replies, strict=True)
        ]

    def _one(self, sent: list[bytes]) -> Reply:
        try:
            return self._server.execute(sent)
        except ResponseError as error:
            return error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class TwinPubSub:
    """A subscription; what is published while it stands arrives after a trip over the wire."""

    def __init__(self, server: RedisTwin, wire: Wire) -> None:
        self._server = server
        self._wire = wire
        self._arrived: asyncio.Queue[tuple[bytes, bytes] | None] = asyncio.Queue()

    async def subscribe(self, *channels: bytes) -> None:
        """Listen on these too."""

        await self._wire("subscribe", lambda: self._server.subscribe(channels, self))

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Give each message as redis-py does."""
        while True:
            arrived = await self._arrived.get()
            if arrived is None:
                raise RedisConnectionError("Connection closed by server.")
            yield {"type": "message", "channel": arrived[0], "data": arrived[1]}

    def hear(self, channel: bytes, message: bytes) -> None:
        """Take a message from the server."""
        self._arrived.put_nowait((channel, message))

    def cut(self) -> None:
        """Notice that the connection is gone."""
        self._arrived.put_nowait(None)

    async def aclose(self) -> None:
        """Listen no more."""
        self._server.unsubscribe(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@cache
def _names() -> dict[bytes, str]:
    return {scripts.load(name).sha.encode(): name for name in scripts.names()}


def label(sent: Sequence[bytes]) -> str:
    """Name what travels: a script by its verb."""
    if sent[0] == b"EVALSHA":
        return _names().get(sent[1], "script")
    if sent[0] == b"EVAL":
        return _names().get(sha_of(sent[1]), "script")
    return sent[0].decode().lower()


def encoded(args: Sequence[Any]) -> list[bytes]:
    """Return the words of a command as they travel; `XINFO GROUPS` is one name of two words in redis-py."""
    sent: list[bytes] = []
    for at, given in enumerate(args):
        if type(given) is bytes:
            sent.append(given)
        elif isinstance(given, str):
            sent += given.encode().split() if at == 0 else [given.encode()]
        elif isinstance(given, memoryview | bytearray):
            sent.append(bytes(given))
        else:
            sent.append(repr(given).encode() if isinstance(given, float) else str(given).encode())
    return sent


def parsed(name: Any, reply: Reply, options: dict[str, Any]) -> Any:
    """Give a reply the shape that redis-py gives it."""
    options.pop("keys", None)
    callback = CALLBACKS.get(name)
    return reply if callback is None else callback(reply, **options)

"""Two servers side by side, a real one and its twin: the same commands to both, and what they hold in the same words."""

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.lanes import scripts
from tests.twins.redis_twin import RedisTwin, TwinClient

LOST = {"idle", "inactive", "time_since_delivered", "lag", "entries-read"}
"""What an answer tells of the time that has passed: the twin is faster. And estimates that nobody of ours asks for."""

CLOCK = "redis.call('HMGET', 'clock', 'seconds', 'us')"
"""Instead of `TIME`: so a real server has a time that the test sets, and both have the same."""


class Side:
    """One server."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._ids: list[bytes] = []

    async def send(self, *command: Any) -> Any:
        """Run a command; `#3` stands for the id of the fourth entry that was added here."""
        sent = [self._id(word) if isinstance(word, str) and word[:1] == "#" else word for word in command]
        options = {"parse_detail": True} if command[0] == "XPENDING" and len(command) > 3 else {}
        answer = await self.client.execute_command(*sent, **options)
        if command[0] == "XADD":
            self._ids.append(answer)
        return answer

    def seen(self, name: str, answer: Any) -> Any:
        """Return an answer in words that are the same on both sides."""
        if isinstance(answer, bytes):
            return f"#{self._ids.index(answer)}" if answer in self._ids else answer
        if isinstance(answer, dict):
            return {self.seen(name, key): self.seen(name, value) for key, value in answer.items() if key not in LOST}
        if isinstance(answer, list | tuple):
            return [self.seen(name, part) for part in answer]
        return answer

    async def dump(self) -> dict[str, Any]:
        """Return everything that is kept, and of what is to be forgotten about when."""
        kept = {}
        for key in sorted(await self.client.keys("*")):
            if key != b"clock":
                forgotten_s = await self.client.ttl(key)
                kept[key.decode()] = (await self._value(key), -1 if forgotten_s < 0 else round(forgotten_s / 20))
        return kept

    async def _value(self, key: bytes) -> Any:
        client = self.client
        match await client.type(key):
            case b"string":
                return _unpacked(await client.get(key))
            case b"hash":
                return {name: _unpacked(value) for name, value in (await client.hgetall(key)).items()}
            case b"zset":
                return await client.zrange(key, 0, -1, withscores=True)
            case b"list":
                return await client.lrange(key, 0, -1)
            case _:
                return [fields for _, fields in await client.xrange(key)]

    def _id(self, word: str) -> bytes:
        at = int(word[1:])
        return self._ids[at] if at < len(self._ids) else b"1-1"


def _unpacked(value: bytes) -> Any:
    """Read what scripts pack: the order of a table's fields is nobody's."""
    if not value[:1] or value[0] < 0x80:
        return value
    try:
        return msgspec.msgpack.decode(value)
    except msgspec.DecodeError:
        return value


class Clocked:
    """A client whose scripts take the time from a key."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._sources = {scripts.load(name).sha: scripts.load(name).source for name in scripts.names()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def evalsha(self, sha: str, *rest: Any) -> Any:
        """Run a script of ours with that change."""
        return await self._client.eval(self._sources[sha].replace("redis.call('TIME')", CLOCK), *rest)


async def both(server: "Redis") -> tuple[Side, Side]:
    """Return an empty real server and an empty twin."""
    await server.flushall()
    return Side(Clocked(server)), Side(Clocked(TwinClient(RedisTwin(ticking()))))


def ticking() -> Callable[[], int]:
    """Return a clock that shows another millisecond at each look, as if there were a wire in between."""
    looks = count()
    return lambda: time.time_ns() // 1000 + 1000 * next(looks)

"""One Redis in memory: commands and scripts in, replies out. Whoever reaches it over a wire is in `client`."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from redis.exceptions import NoScriptError, ResponseError

from tests.twins.redis_twin import sorted_sets, stream_commands
from tests.twins.redis_twin.keyspace import Keyspace, Reply
from tests.twins.redis_twin.lua import interpreter
from tests.twins.redis_twin.plain import COMMANDS

KNOWN: Final = (sorted_sets, stream_commands)
"""Loaded for the commands they make known."""


class Listener(Protocol):
    """A subscription."""

    def hear(self, channel: bytes, message: bytes) -> None:
        """Take a message."""

    def cut(self) -> None:
        """Notice that the connection is gone."""


class RedisTwin:
    """A server; `clock` gives microseconds since the epoch, `altered` another text for a script's."""

    def __init__(self, clock: Callable[[], int], altered: Mapping[str, str] = MappingProxyType({})) -> None:
        self._altered = altered
        self.space = Keyspace(clock, publish=self._publish)
        self._sources: dict[bytes, str] = {}
        self._listeners: list[tuple[frozenset[bytes], Listener]] = []

    def execute(self, args: Sequence[bytes]) -> Reply:
        """Run one command; raises `ResponseError` where the server would answer with an error."""
        name = args[0].upper()
        if name == b"EVALSHA":
            source = self._sources.get(args[1])
            if source is None:
                raise NoScriptError("No matching script.")
            return self._eval(source, args)
        if name == b"EVAL":
            self._sources[sha_of(args[1])] = args[1].decode()
            return self._eval(args[1].decode(), args)
        return self._command(name, list(args[1:]))

    def restart(self) -> None:
        """Be another process with the same state: scripts are not known any more, and every connection is gone."""
        self._sources.clear()
        listeners, self._listeners = self._listeners, []
        for _, listener in listeners:
            listener.cut()

    def subscribe(self, channels: Iterable[bytes], listener: Listener) -> None:
        """Have a listener told of what is published."""
        self._listeners.append((frozenset(channels), listener))

    def unsubscribe(self, listener: Listener) -> None:
        """Tell it no more."""
        self._listeners = [one for one in self._listeners if one[1] is not listener]

    def _eval(self, source: str, args: Sequence[bytes]) -> Reply:
        last = 3 + int(args[2])
        return interpreter().run(self._altered.get(source, source), args[3:last], args[last:], self._command)

    def _command(self, name: bytes, args: list[bytes]) -> Reply:
        run = COMMANDS.get(name)
        if run is None:
            raise ResponseError(f"unknown command '{name.decode()}'")
        return run(self.space, args)

    def _publish(self, channel: bytes, message: bytes) -> int:
        heard_by = [listener for channels, listener in self._listeners if channel in channels]
        for listener in heard_by:
            listener.hear(channel, message)
        return len(heard_by)


def sha_of(source: bytes) -> bytes:
    """Return the name by which a server knows a script."""
    return hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()

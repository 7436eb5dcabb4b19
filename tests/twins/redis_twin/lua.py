"""Scripts: the real sources in a real Lua 5.1, with the libraries that Redis gives them.

Exactly one script runs at a time, so one interpreter serves every twin of a process; what `redis.call` reaches is the twin that runs.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from lupa import LuaError
from lupa.lua51 import LuaRuntime, lua_type
from redis.exceptions import ResponseError

from tests.twins.redis_twin.keyspace import Pairs, Reply, Single, Status, shown

PRELUDE: Final = Path(__file__).with_name("prelude.lua")
INTEGERS: Final = 2**53
Execute = Callable[[bytes, list[bytes]], Reply]


class Interpreter:
    """One Lua, and the sources it has read."""

    def __init__(self) -> None:
        self._lua: Any = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._execute: Execute | None = None
        self._chunks: dict[str, Any] = {}
        load = self._lua.eval(b"loadstring")
        prelude = load(PRELUDE.read_bytes(), b"@prelude")
        self._load = load
        self._run = prelude(self._call, self._encoded, self._decoded)

    def run(self, source: str, keys: Sequence[bytes], arguments: Sequence[bytes], execute: Execute) -> Reply:
        """Run a script; `execute` is what its commands reach."""
        chunk = self._chunks.get(source) or self._compiled(source)
        before, self._execute = self._execute, execute
        try:
            table = self._lua.table_from
            return self._answer(self._run(chunk, table(keys), table(arguments)))
        except LuaError as error:
            raise ResponseError(f"{error}") from error
        finally:
            self._execute = before

    def _compiled(self, source: str) -> Any:
        chunk = self._load(source.encode(), b"@user_script")
        if isinstance(chunk, tuple):
            raise ResponseError(f"Error compiling script: {chunk[1].decode()}")
        self._chunks[source] = chunk
        return chunk

    def _call(self, name: bytes, *arguments: Any) -> Any:
        assert self._execute is not None
        sent = [given if type(given) is bytes else _text(given) for given in arguments]
        return self._value(self._execute(name, sent))

    def _value(self, reply: Reply) -> Any:
        """Turn a reply into what RESP2 makes of it in Lua."""
        if type(reply) in (int, bytes):
            return reply
        if reply is None:
            return False
        if isinstance(reply, float):
            return shown(reply)
        if isinstance(reply, Status):
            return self._lua.table_from({b"ok": bytes(reply)})
        return self._lua.table_from([self._value(part) for part in _flat(reply)])

    def _answer(self, value: Any) -> Reply:
        """Turn what a script returned into a reply."""
        kind = lua_type(value)
        if kind == "table":
            if value[b"err"] is not None:
                raise ResponseError(value[b"err"].decode())
            return Status(value[b"ok"]) if value[b"ok"] is not None else self._listed(value)
        if kind is not None or value is False or value is None:
            return None
        return 1 if value is True else int(value) if isinstance(value, float) else value

    def _listed(self, table: Any) -> list[Reply]:
        out = []
        for at in range(1, len(table) + 1):
            item = table[at]
            if item is None:
                break
            out.append(item if type(item) is bytes else self._answer(item))
        return out

    def _encoded(self, value: Any) -> bytes:
        return json.dumps(_plain(value), separators=(",", ":")).replace("/", "\\/").encode()

    def _decoded(self, text: bytes) -> Any:
        return self._built(json.loads(text))

    def _built(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, list):
            return self._lua.table_from([self._built(item) for item in value])
        if isinstance(value, dict):
            return self._lua.table_from({key.encode(): self._built(item) for key, item in value.items()})
        return value


@cache
def interpreter() -> Interpreter:
    """Return the one of this process."""
    return Interpreter()


def _flat(reply: Any) -> list[Any]:
    if isinstance(reply, dict):
        return [part for pair in reply.items() for part in pair]
    if isinstance(reply, Pairs):
        return [part for pair in reply for part in pair]
    assert isinstance(reply, list | Single | tuple)
    return list(reply)


def _text(given: Any) -> bytes:
    """Write a number that a script hands to a command as Redis does."""
    if isinstance(given, bool) or given is None or lua_type(given) is not None:
        raise ResponseError("Command arguments must be strings or integers")
    if isinstance(given, int) or given == int(given):
        return b"%d" % int(given)
    return b"%.17g" % given


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if lua_type(value) != "table":
        return value
    keys = list(value)
    if keys and keys == list(range(1, len(keys) + 1)):
        return [_plain(value[key]) for key in keys]
    return {key.decode() if isinstance(key, bytes) else str(key): _plain(value[key]) for key in keys}

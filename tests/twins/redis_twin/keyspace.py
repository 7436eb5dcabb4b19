"""What the twin of Redis holds: keys of five kinds, when they expire, and the replies that commands give."""

import math
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from tests.twins.redis_twin.stream import Stream

K = TypeVar("K")
Reply = Any
"""As RESP3 has it: int, bytes, float, None, bool, list, dict; `Status` and `Pairs` where RESP2 differs."""


class Status(bytes):
    """A simple string."""

    __slots__ = ()


OK = Status(b"OK")


class Pairs(list[tuple[bytes, float]]):
    """Members with their scores: pairs in RESP3, flat in RESP2, which is what scripts see."""


class Single(list[Any]):
    """One member with its score: flat in both."""


class ZSet:
    """Members in the order of their scores, equal ones in the order of their bytes."""

    __slots__ = ("order", "scores")

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self.order: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self.order)

    def put(self, member: bytes, score: float) -> bool:
        """Set a member's score; true when it is new."""
        before = self.scores.get(member)
        if before is not None:
            if before == score:
                return False
            del self.order[bisect_left(self.order, (before, member))]
        self.scores[member] = score
        insort(self.order, (score, member))
        return before is None

    def drop(self, member: bytes) -> bool:
        """Forget a member; true when it was there."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        del self.order[bisect_left(self.order, (score, member))]
        return True


Value = bytes | ZSet | Stream | dict[bytes, bytes] | list[bytes] | set[bytes]
KINDS: dict[type, bytes] = {
    bytes: b"string",
    dict: b"hash",
    ZSet: b"zset",
    Stream: b"stream",
    list: b"list",
    set: b"set",
}


@dataclass(slots=True)
class Keyspace:
    """Keys and values; `clock` gives microseconds since the epoch."""

    clock: Callable[[], int]
    values: dict[bytes, Value] = field(default_factory=dict)
    expires_ms: dict[bytes, int] = field(default_factory=dict)
    publish: Callable[[bytes, bytes], int] = lambda _channel, _message: 0
    added: Callable[[bytes], None] = lambda _stream: None
    """Told of every stream that was added to: who waits for entries looks again."""

    @property
    def now_ms(self) -> int:
        """The time in milliseconds, rounded down."""
        return self.clock() // 1000

    def peek(self, key: bytes) -> Value | None:
        """Return what a key holds now."""
        at = self.expires_ms.get(key)
        if at is not None and self.now_ms > at:
            del self.expires_ms[key]
            self.values.pop(key, None)
        return self.values.get(key)

    def get(self, key: bytes, kind: type[K]) -> K | None:
        """Return what a key holds, which must be of this kind."""
        value = self.values.get(key) if not self.expires_ms else self.peek(key)
        if value is not None and type(value) is not kind:
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def make(self, key: bytes, kind: type[K]) -> K:
        """Return what a key holds; an empty value of this kind is made where there is none."""
        value = self.get(key, kind)
        if value is None:
            value = kind()
            self.values[key] = value  # type: ignore[assignment]
        return value

    def tidy(self, key: bytes, value: Any) -> None:
        """Forget a key whose value has become empty; streams stay."""
        if not value:
            self.drop(key)

    def drop(self, key: bytes) -> bool:
        """Forget a key; true when it was there."""
        there = self.peek(key) is not None
        self.values.pop(key, None)
        self.expires_ms.pop(key, None)
        return there


def integer(text: bytes) -> int:
    """Read an integer as Redis does."""
    try:
        return int(text)
    except ValueError:
        raise ResponseError("value is not an integer or out of range") from None


def number(text: bytes) -> float:
    """Read a score."""
    try:
        found = float(text)
    except ValueError:
        raise ResponseError("value is not a valid float") from None
    if math.isnan(found):
        raise ResponseError("value is not a valid float")
    return found


def shown(value: float) -> bytes:
    """Write a score as RESP2 has it."""
    if value == int(value) if abs(value) < 1e17 else False:
        return b"%d" % int(value)
    return repr(value).encode()

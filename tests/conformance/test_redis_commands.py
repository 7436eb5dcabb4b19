"""The twin of Redis against Redis: the same random commands, the same answers, and the same keys at the end."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.conformance.sides import Side, both

KEYS = ("a", "b", "c")
NAMES = ("x", "y", "z", "10", "9")
NUMBERS = ("-inf", "-2.5", "0", "1", "(1", "2", "(10", "1795000000000000", "+inf", "1e20", "nan")
COUNTS = ("0", "1", "2", "5", "-1")
Draw = Callable[[Random], tuple[Any, ...]]


def _key(dice: Random) -> str:
    return dice.choice(KEYS)


def _name(dice: Random) -> str:
    return dice.choice(NAMES)


def _score(dice: Random) -> str:
    return dice.choice(("-2.5", "0", "1", "1", "2", "10", "1795000000000000", "0.1", "3e-7", "123456789012345680000"))


def _members(dice: Random) -> list[str]:
    return [_name(dice) for _ in range(dice.randint(1, 3))]


PLAIN: tuple[Draw, ...] = (
    lambda d: (
        "SET",
        _key(d),
        _name(d),
        *d.choice(((), ("NX",), ("XX",), ("PX", "100000"), ("EX", "100"), ("KEEPTTL",))),
    ),
    lambda d: ("GET", _key(d)),
    lambda d: ("INCR", _key(d)),
    lambda d: ("DEL", *_members(d), _key(d)),
    lambda d: ("EXISTS", _key(d), _key(d)),
    lambda d: ("TYPE", _key(d)),
    lambda d: ("EXPIRE", _key(d), d.choice(("50", "500", "0", "-1")), *d.choice(((), ("NX",)))),
    lambda d: ("EXPIRE", _key(d), str(d.randrange(60, 9000)), "GT"),
    lambda d: ("PEXPIRE", _key(d), d.choice(("50000", "500000"))),
    lambda d: ("TTL", _key(d)),
    lambda d: ("HSET", _key(d), _name(d), _name(d), _name(d), _name(d)),
    lambda d: ("HSET", _key(d), _name(d)),
    lambda d: ("HSETNX", _key(d), _name(d), _name(d)),
    lambda d: ("HGET", _key(d), _name(d)),
    lambda d: ("HMGET", _key(d), *_members(d)),
    lambda d: ("HGETALL", _key(d)),
    lambda d: ("HVALS", _key(d)),
    lambda d: ("HKEYS", _key(d)),
    lambda d: ("HDEL", _key(d), *_members(d)),
    lambda d: ("HEXISTS", _key(d), _name(d)),
    lambda d: ("HLEN", _key(d)),
    lambda d: ("HSTRLEN", _key(d), _name(d)),
    lambda d: ("HINCRBY", _key(d), _name(d), d.choice(("1", "-3", "x"))),
    lambda d: ("RPUSH", _key(d), *_members(d)),
    lambda d: ("LRANGE", _key(d), d.choice(("0", "1")), d.choice(("-1", "0", "3"))),
    lambda d: ("LLEN", _key(d)),
    lambda d: ("PUBLISH", _key(d), _name(d)),
)
SORTED: tuple[Draw, ...] = (
    lambda d: ("ZADD", _key(d), *d.choice(((), ("NX",), ("XX",), ("GT",), ("LT", "CH"), ("CH",))), _score(d), _name(d)),
    lambda d: ("ZADD", _key(d), _score(d), _name(d), _score(d), _name(d), _score(d), _name(d)),
    lambda d: ("ZADD", _key(d), "high", _name(d)),
    lambda d: ("ZCARD", _key(d)),
    lambda d: ("ZSCORE", _key(d), _name(d)),
    lambda d: ("ZRANK", _key(d), _name(d)),
    lambda d: ("ZCOUNT", _key(d), d.choice(NUMBERS), d.choice(NUMBERS)),
    lambda d: ("ZRANGE", _key(d), d.choice(COUNTS), d.choice((*COUNTS, "-2")), *d.choice(((), ("WITHSCORES",)))),
    lambda d: (
        "ZRANGEBYSCORE",
        _key(d),
        d.choice(NUMBERS),
        d.choice(NUMBERS),
        *d.choice(((), ("LIMIT", "1", "2"), ("WITHSCORES",), ("LIMIT", "0", "-1"))),
    ),
    lambda d: ("ZREM", _key(d), *_members(d)),
    lambda d: ("ZREMRANGEBYSCORE", _key(d), d.choice(NUMBERS), d.choice(NUMBERS)),
    lambda d: ("ZPOPMIN", _key(d), *d.choice(((), ("2",)))),
    lambda d: ("DEL", _key(d)),
    lambda d: ("HSET", "c", _name(d), _name(d)),
)


def _entry(dice: Random) -> str:
    """Name the n-th entry that was added; each side puts its own id in its place."""
    return f"#{dice.randrange(12)}"


def _consumer(dice: Random) -> str:
    return dice.choice(("w1", "w2"))


STREAMS: tuple[Draw, ...] = (
    lambda d: ("XADD", "s", "*", "data", _name(d)),
    lambda d: ("XADD", "s", "*", "data", _name(d), "more", _name(d)),
    lambda d: ("XGROUP CREATE", "s", d.choice(("g", "h")), d.choice(("0", "$")), *d.choice(((), ("MKSTREAM",)))),
    lambda d: ("XREADGROUP", "GROUP", d.choice(("g", "h")), _consumer(d), "COUNT", "2", "STREAMS", "s", ">"),
    lambda d: ("XREADGROUP", "GROUP", "g", _consumer(d), "STREAMS", "s", d.choice((">", "0"))),
    lambda d: ("XACK", "s", d.choice(("g", "h")), _entry(d), _entry(d)),
    lambda _: ("XLEN", "s"),
    lambda d: ("XRANGE", "s", d.choice(("-", _entry(d))), d.choice(("+", _entry(d))), *d.choice(((), ("COUNT", "2")))),
    lambda d: ("XREVRANGE", "s", "+", "-", "COUNT", d.choice(("1", "3"))),
    lambda _: ("XPENDING", "s", "g"),
    lambda d: ("XPENDING", "s", "g", "-", "+", "5", *d.choice(((), ("w1",)))),
    lambda d: ("XCLAIM", "s", "g", _consumer(d), d.choice(("0", "100000")), _entry(d), _entry(d)),
    lambda _: ("XINFO CONSUMERS", "s", "g"),
    lambda _: ("XINFO GROUPS", "s"),
    lambda d: ("XGROUP DELCONSUMER", "s", "g", _consumer(d)),
    lambda d: ("XDEL", "s", _entry(d)),
    lambda d: ("XTRIM", "s", "MINID", _entry(d)),
    lambda d: ("DEL", "s") if d.random() < 0.1 else ("XLEN", "s"),
)


@pytest.mark.parametrize("commands", [PLAIN, SORTED, STREAMS], ids=["plain", "sorted", "streams"])
async def test_random_commands_are_answered_alike(redis_server: "Redis", commands: tuple[Draw, ...]) -> None:
    for seed in range(60):
        dice = Random(seed)
        real, twin = await both(redis_server)
        told = []
        for _ in range(40):
            drawn = dice.choice(commands)(dice)
            answers = [await _answer(side, drawn) for side in (real, twin)]
            told.append(f"{drawn} -> {answers[0]}")
            assert answers[0] == answers[1], "\n".join([f"seed {seed}", *told, f"but the twin: {answers[1]}"])
        assert await real.dump() == await twin.dump(), "\n".join([f"seed {seed}", *told])


async def _answer(side: Side, drawn: tuple[Any, ...]) -> Any:
    try:
        return side.seen(drawn[0], await side.send(*drawn))
    except RedisError as error:
        # The words of an error are the server's; scripts and clients look at its kind.
        return (
            f"error {str(error).split(' ', 1)[0]}"
            if str(error)[:9] in {"NOGROUP N", "BUSYGROUP", "WRONGTYPE"}
            else "error"
        )

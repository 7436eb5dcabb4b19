"""Commands on keys, strings, hashes, lists and sets."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

from redis.exceptions import ResponseError

from tests.twins.redis_twin.keyspace import KINDS, OK, Keyspace, Reply, Status, integer

Command = Callable[[Keyspace, list[bytes]], Reply]
COMMANDS: Final[dict[bytes, Command]] = {}
"""By their names in capitals."""


def command(name: str) -> Callable[[Command], Command]:
    """Make a function known as a command."""

    def known(run: Command) -> Command:
        COMMANDS[name.encode()] = run
        return run

    return known


@command("TIME")
def _time(space: Keyspace, _: list[bytes]) -> Reply:
    seconds, rest = divmod(space.clock(), 1_000_000)
    return [b"%d" % seconds, b"%d" % rest]


@command("PING")
def _ping(_: Keyspace, __: list[bytes]) -> Reply:
    return Status(b"PONG")


@command("FLUSHALL")
def _flushall(space: Keyspace, _: list[bytes]) -> Reply:
    space.values.clear()
    space.expires_ms.clear()
    return OK


@command("EXISTS")
def _exists(space: Keyspace, args: list[bytes]) -> Reply:
    return sum(space.peek(key) is not None for key in args)


@command("DEL")
def _del(space: Keyspace, args: list[bytes]) -> Reply:
    return sum(space.drop(key) for key in args)


@command("TYPE")
def _type(space: Keyspace, args: list[bytes]) -> Reply:
    value = space.peek(args[0])
    return Status(b"none" if value is None else KINDS[type(value)])


@command("KEYS")
def _keys(space: Keyspace, args: list[bytes]) -> Reply:
    wanted = args[0].decode()
    return [key for key in list(space.values) if space.peek(key) is not None and fnmatchcase(key.decode(), wanted)]


@command("PEXPIRE")
def _pexpire(space: Keyspace, args: list[bytes]) -> Reply:
    key, at_ms, rules = args[0], space.now_ms + integer(args[1]), {rule.upper() for rule in args[2:]}
    if space.peek(key) is None:
        return 0
    before = space.expires_ms.get(key)
    if b"GT" in rules and (before is None or at_ms <= before):
        return 0
    if b"NX" in rules and before is not None:
        return 0
    if at_ms <= space.now_ms:
        space.drop(key)
    else:
        space.expires_ms[key] = at_ms
    return 1


@command("EXPIRE")
def _expire(space: Keyspace, args: list[bytes]) -> Reply:
    return _pexpire(space, [args[0], b"%d" % (integer(args[1]) * 1000), *args[2:]])


@command("PTTL")
def _pttl(space: Keyspace, args: list[bytes]) -> Reply:
    if space.peek(args[0]) is None:
        return -2
    at = space.expires_ms.get(args[0])
    return -1 if at is None else max(0, at - space.now_ms)


@command("TTL")
def _ttl(space: Keyspace, args: list[bytes]) -> Reply:
    left: int = _pttl(space, args)
    return left if left < 0 else (left + 500) // 1000


@command("GET")
def _get(space: Keyspace, args: list[bytes]) -> Reply:
    return space.get(args[0], bytes)


@command("SET")
def _set(space: Keyspace, args: list[bytes]) -> Reply:
    key, value, rules = args[0], args[1], [rule.upper() for rule in args[2:]]
    if b"NX" in rules and space.peek(key) is not None:
        return None
    if b"XX" in rules and space.peek(key) is None:
        return None
    space.values[key] = value
    if b"KEEPTTL" not in rules:
        space.expires_ms.pop(key, None)
    for unit, rule in ((1, b"PX"), (1000, b"EX")):
        if rule in rules:
            space.expires_ms[key] = space.now_ms + unit * integer(args[2 + rules.index(rule) + 1])
    return OK


@command("INCR")
def _incr(space: Keyspace, args: list[bytes]) -> Reply:
    value = integer(space.get(args[0], bytes) or b"0") + 1
    space.values[args[0]] = b"%d" % value
    return value


@command("HGET")
def _hget(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], dict)
    return None if kept is None else kept.get(args[1])


@command("HMGET")
def _hmget(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], dict) or {}
    return [kept.get(name) for name in args[1:]]


@command("HSET")
def _hset(space: Keyspace, args: list[bytes]) -> Reply:
    if len(args) < 3 or len(args) % 2 == 0:
        raise ResponseError("wrong number of arguments for 'hset' command")
    kept = space.make(args[0], dict)
    before = len(kept)
    kept.update(zip(args[1::2], args[2::2], strict=True))
    return len(kept) - before


@command("HSETNX")
def _hsetnx(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.make(args[0], dict)
    if args[1] in kept:
        return 0
    kept[args[1]] = args[2]
    return 1


@command("HDEL")
def _hdel(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], dict)
    if kept is None:
        return 0
    gone = sum(kept.pop(name, None) is not None for name in args[1:])
    space.tidy(args[0], kept)
    return gone


@command("HEXISTS")
def _hexists(space: Keyspace, args: list[bytes]) -> Reply:
    return int(args[1] in (space.get(args[0], dict) or {}))


@command("HLEN")
def _hlen(space: Keyspace, args: list[bytes]) -> Reply:
    return len(space.get(args[0], dict) or {})


@command("HSTRLEN")
def _hstrlen(space: Keyspace, args: list[bytes]) -> Reply:
    return len((space.get(args[0], dict) or {}).get(args[1], b""))


@command("HGETALL")
def _hgetall(space: Keyspace, args: list[bytes]) -> Reply:
    return dict(space.get(args[0], dict) or {})


@command("HKEYS")
def _hkeys(space: Keyspace, args: list[bytes]) -> Reply:
    return list(space.get(args[0], dict) or {})


@command("HVALS")
def _hvals(space: Keyspace, args: list[bytes]) -> Reply:
    return list((space.get(args[0], dict) or {}).values())


@command("HINCRBY")
def _hincrby(space: Keyspace, args: list[bytes]) -> Reply:
    by, before = integer(args[2]), (space.get(args[0], dict) or {}).get(args[1], b"0")
    try:
        value = int(before) + by
    except ValueError:
        raise ResponseError("hash value is not an integer") from None
    space.make(args[0], dict)[args[1]] = b"%d" % value
    return value


@command("HSCAN")
def _hscan(space: Keyspace, args: list[bytes]) -> Reply:
    """Return all at once: a small hash is one page in Redis too."""
    return [b"0", [part for pair in (space.get(args[0], dict) or {}).items() for part in pair]]


@command("HRANDFIELD")
def _hrandfield(space: Keyspace, args: list[bytes]) -> Reply:
    return next(iter(space.get(args[0], dict) or {}), None)


@command("RPUSH")
def _rpush(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.make(args[0], list)
    kept.extend(args[1:])
    return len(kept)


@command("LRANGE")
def _lrange(space: Keyspace, args: list[bytes]) -> Reply:
    kept, last = space.get(args[0], list) or [], integer(args[2])
    return kept[integer(args[1]) : None if last == -1 else last + 1]


@command("LLEN")
def _llen(space: Keyspace, args: list[bytes]) -> Reply:
    return len(space.get(args[0], list) or [])


@command("PUBLISH")
def _publish(space: Keyspace, args: list[bytes]) -> Reply:
    return space.publish(args[0], args[1])


@command("WAIT")
def _wait(_: Keyspace, __: list[bytes]) -> Reply:
    return 0


@command("INFO")
def _info(_: Keyspace, __: list[bytes]) -> Reply:
    return (
        b"# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:"
        + b"a" * 40
        + b"\r\nmaster_replid2:"
        + b"0" * 40
        + b"\r\nused_memory:1000000\r\nmaxmemory:0\r\n"
    )

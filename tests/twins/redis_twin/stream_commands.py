"""Commands on streams and their groups."""

from typing import Any

from redis.exceptions import ResponseError

from tests.twins.redis_twin.keyspace import OK, Keyspace, Reply, integer
from tests.twins.redis_twin.plain import command
from tests.twins.redis_twin.stream import LAST, Given, Group, Id, Stream, nogroup, read_id, shown


def _entries(found: list[tuple[Id, list[bytes]]]) -> list[list[Any]]:
    return [[shown(key), list(fields)] for key, fields in found]


def _group(space: Keyspace, key: bytes, name: bytes) -> Group:
    kept = space.get(key, Stream)
    if kept is None:
        raise nogroup(key, name)
    return kept.group(name, key)


@command("XADD")
def _xadd(space: Keyspace, args: list[bytes]) -> Reply:
    if args[1] != b"*":
        raise ResponseError("the twin makes the ids of entries itself")
    key = shown(space.make(args[0], Stream).add(args[2:], space.now_ms))
    space.added(args[0])
    return key


@command("XLEN")
def _xlen(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], Stream)
    return 0 if kept is None else len(kept.entries)


@command("XRANGE")
def _xrange(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], Stream)
    most = integer(args[4]) if len(args) > 3 else None
    if kept is None:
        return []
    exclusive = args[1].startswith(b"(")
    first = read_id(args[1].removeprefix(b"("))
    found = kept.between(first, read_id(args[2], LAST[1]))
    if exclusive:
        found = [entry for entry in found if entry[0] != first]
    return _entries(found if most is None else found[:most])


@command("XREVRANGE")
def _xrevrange(space: Keyspace, args: list[bytes]) -> Reply:
    found: list[Any] = _xrange(space, [args[0], args[2], args[1]])
    return found[::-1][: integer(args[4]) if len(args) > 3 else None]


@command("XDEL")
def _xdel(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], Stream)
    return 0 if kept is None else sum(kept.entries.pop(read_id(key), None) is not None for key in args[1:])


@command("XTRIM")
def _xtrim(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], Stream)
    if args[1].upper() != b"MINID":
        raise ResponseError("the twin trims by MINID only")
    return 0 if kept is None else kept.trim(read_id(args[-1]))


@command("XGROUP")
def _xgroup(space: Keyspace, args: list[bytes]) -> Reply:
    verb, key, name = args[0].upper(), args[1], args[2]
    if space.get(key, Stream) is None and b"MKSTREAM" not in args:
        raise ResponseError("The XGROUP subcommand requires the key to exist.")
    if verb == b"CREATE":
        return _create(space, key, name, args[3:])
    group = _group(space, key, name)
    if verb == b"SETID":
        group.last = read_id(args[3])
        group.read = integer(args[5]) if len(args) > 5 else None
        return OK
    if verb == b"DELCONSUMER":
        theirs = [at for at, given in group.pending.items() if given.consumer == args[3]]
        for at in theirs:
            del group.pending[at]
        group.consumers.pop(args[3], None)
        return len(theirs)
    raise ResponseError("the twin does not know this XGROUP")


def _create(space: Keyspace, key: bytes, name: bytes, rest: list[bytes]) -> Reply:
    kept = space.make(key, Stream)
    if name in kept.groups:
        raise ResponseError("BUSYGROUP Consumer Group name already exists")
    last = kept.last if rest[0] == b"$" else read_id(rest[0])
    kept.groups[name] = Group(last, read=None)
    return OK


@command("XREADGROUP")
def _xreadgroup(space: Keyspace, args: list[bytes]) -> Reply:
    """Never blocks: whoever waits asks again when the stream was added to."""
    name, consumer, at = args[1], args[2], [arg.upper() for arg in args].index(b"STREAMS")
    rules = [arg.upper() for arg in args[3:at]]
    most = integer(args[3 + rules.index(b"COUNT") + 1]) if b"COUNT" in rules else None
    keys = args[at + 1 :]
    found = {}
    for key, after in zip(keys[: len(keys) // 2], keys[len(keys) // 2 :], strict=True):
        kept = space.get(key, Stream)
        if kept is None or name not in kept.groups:
            raise ResponseError(f"{nogroup(key, name)} in XREADGROUP with GROUP option")
        given = _give(space, kept, (name, consumer), after, most)
        if given or after != b">":
            found[key] = given
    return found or None


def _give(space: Keyspace, kept: Stream, who: tuple[bytes, bytes], after: bytes, most: int | None) -> list[list[Any]]:
    group, now_ms = kept.groups[who[0]], space.now_ms
    asking = group.consumer(who[1], now_ms)
    if after != b">":
        mine = [key for key, given in group.ordered() if given.consumer == who[1] and key > read_id(after)]
        return [[shown(key), list(kept.entries[key]) if key in kept.entries else None] for key in mine[:most]]
    fresh = kept.between((group.last[0], group.last[1] + 1), LAST, most)
    for key, _ in fresh:
        group.pending[key] = Given(who[1], now_ms, 1)
        group.last = key
        asking.active_ms = now_ms
        if group.read is not None:
            group.read += 1
    return _entries(fresh)


@command("XACK")
def _xack(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], Stream)
    group = kept.groups.get(args[1]) if kept else None
    return 0 if group is None else sum(group.pending.pop(read_id(key), None) is not None for key in args[2:])


@command("XPENDING")
def _xpending(space: Keyspace, args: list[bytes]) -> Reply:
    group, rest = _group(space, args[0], args[1]), list(args[2:])
    if not rest:
        return _summary(group)
    idle_ms = 0
    if rest[0].upper() == b"IDLE":
        idle_ms = integer(rest[1])
        rest = rest[2:]
    first, last, most = read_id(rest[0]), read_id(rest[1], LAST[1]), integer(rest[2])
    wanted = rest[3] if len(rest) > 3 else None
    found = [
        [shown(key), given.consumer, space.now_ms - given.at_ms, given.times]
        for key, given in group.ordered()
        if first <= key <= last and wanted in {None, given.consumer} and space.now_ms - given.at_ms >= idle_ms
    ]
    return found[:most]


def _summary(group: Group) -> Reply:
    ordered = group.ordered()
    if not ordered:
        return [0, None, None, None]
    by_consumer: dict[bytes, int] = {}
    for _, given in ordered:
        by_consumer[given.consumer] = by_consumer.get(given.consumer, 0) + 1
    counts = [[name, b"%d" % count] for name, count in sorted(by_consumer.items())]
    return [len(ordered), shown(ordered[0][0]), shown(ordered[-1][0]), counts]


@command("XCLAIM")
def _xclaim(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], Stream)
    group = _group(space, args[0], args[1])
    assert kept is not None
    consumer, idle_ms, now_ms = args[2], integer(args[3]), space.now_ms
    taker = group.consumer(consumer, now_ms)
    taken = []
    for text in args[4:]:
        key = read_id(text)
        given = group.pending.get(key)
        if given is None or now_ms - given.at_ms < idle_ms:
            continue
        if key not in kept.entries:
            del group.pending[key]
            continue
        group.pending[key] = Given(consumer, now_ms, given.times + 1)
        taker.active_ms = now_ms
        taken.append((key, kept.entries[key]))
    return _entries(taken)


@command("XINFO")
def _xinfo(space: Keyspace, args: list[bytes]) -> Reply:
    verb, kept = args[0].upper(), space.get(args[1], Stream)
    if kept is None:
        raise ResponseError("no such key")
    if verb == b"GROUPS":
        return [_told(kept, name, group) for name, group in sorted(kept.groups.items())]
    if verb != b"CONSUMERS":
        raise ResponseError("the twin knows XINFO GROUPS and CONSUMERS")
    group, now_ms = kept.group(args[2], args[1]), space.now_ms
    return [
        {
            b"name": name,
            b"pending": sum(given.consumer == name for given in group.pending.values()),
            b"idle": now_ms - consumer.seen_ms,
            b"inactive": -1 if consumer.active_ms < 0 else now_ms - consumer.active_ms,
        }
        for name, consumer in sorted(group.consumers.items())
    ]


def _told(kept: Stream, name: bytes, group: Group) -> dict[bytes, Any]:
    return {
        b"name": name,
        b"consumers": len(group.consumers),
        b"pending": len(group.pending),
        b"last-delivered-id": shown(group.last),
        b"entries-read": group.read,
        b"lag": None if group.read is None else kept.added - group.read,
    }

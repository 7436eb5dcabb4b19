"""Commands on sorted sets."""

from bisect import bisect_left, bisect_right

from tests.twins.redis_twin.keyspace import Keyspace, Pairs, Reply, Single, ZSet, integer, number
from tests.twins.redis_twin.plain import command

HIGHEST = b"\xff" * 64
RULES = {b"NX", b"XX", b"GT", b"LT", b"CH"}


def _bound(text: bytes, *, upper: bool) -> tuple[float, bytes]:
    """Return the place of a bound among scores with members."""
    exclusive = text.startswith(b"(")
    score = number(text[1:] if exclusive else text)
    return score, HIGHEST if upper != exclusive else b""


def _within(space: Keyspace, key: bytes, low: bytes, high: bytes) -> list[tuple[float, bytes]]:
    first, last = _bound(low, upper=False), _bound(high, upper=True)
    order = (space.get(key, ZSet) or ZSet()).order
    return order[bisect_left(order, first) : bisect_right(order, last)]


def _rendered(found: list[tuple[float, bytes]], *, scores: bool) -> Reply:
    return Pairs((member, score) for score, member in found) if scores else [member for _, member in found]


@command("ZADD")
def _zadd(space: Keyspace, args: list[bytes]) -> Reply:
    rules, at = set(), 1
    while args[at].upper() in RULES:
        rules.add(args[at].upper())
        at += 1
    pairs = [(number(score), member) for score, member in zip(args[at::2], args[at + 1 :: 2], strict=True)]
    kept = space.make(args[0], ZSet)
    added = changed = 0
    for score, member in pairs:
        before = kept.scores.get(member)
        if not _allowed(rules, before, score):
            continue
        added += kept.put(member, score)
        changed += before != score
    space.tidy(args[0], kept)
    return changed if b"CH" in rules else added


def _allowed(rules: set[bytes], before: float | None, score: float) -> bool:
    if before is None:
        return b"XX" not in rules
    if b"NX" in rules or (b"GT" in rules and score <= before):
        return False
    return not (b"LT" in rules and score >= before)


@command("ZCARD")
def _zcard(space: Keyspace, args: list[bytes]) -> Reply:
    return len(space.get(args[0], ZSet) or ())


@command("ZSCORE")
def _zscore(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], ZSet)
    return None if kept is None else kept.scores.get(args[1])


@command("ZRANK")
def _zrank(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], ZSet)
    score = None if kept is None else kept.scores.get(args[1])
    return None if kept is None or score is None else bisect_left(kept.order, (score, args[1]))


@command("ZCOUNT")
def _zcount(space: Keyspace, args: list[bytes]) -> Reply:
    return len(_within(space, args[0], args[1], args[2]))


@command("ZRANGE")
def _zrange(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], ZSet)
    first, last = integer(args[1]), integer(args[2])
    order = kept.order if kept else []
    first, last = (at + len(order) if at < 0 else at for at in (first, last))
    return _rendered(order[max(0, first) : max(0, last + 1)], scores=len(args) > 3)


@command("ZRANGEBYSCORE")
def _zrangebyscore(space: Keyspace, args: list[bytes]) -> Reply:
    rules = [rule.upper() for rule in args[3:]]
    found = _within(space, args[0], args[1], args[2])
    if b"LIMIT" in rules:
        at = 3 + rules.index(b"LIMIT")
        skipped, most = integer(args[at + 1]), integer(args[at + 2])
        found = found[skipped:] if most < 0 else found[skipped : skipped + most]
    return _rendered(found, scores=b"WITHSCORES" in rules)


@command("ZREM")
def _zrem(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], ZSet)
    if kept is None:
        return 0
    gone = sum(kept.drop(member) for member in args[1:])
    space.tidy(args[0], kept)
    return gone


@command("ZREMRANGEBYSCORE")
def _zremrangebyscore(space: Keyspace, args: list[bytes]) -> Reply:
    found = _within(space, args[0], args[1], args[2])
    kept = space.get(args[0], ZSet) or ZSet()
    for _, member in found:
        kept.drop(member)
    space.tidy(args[0], kept)
    return len(found)


@command("ZPOPMIN")
def _zpopmin(space: Keyspace, args: list[bytes]) -> Reply:
    kept = space.get(args[0], ZSet)
    count = integer(args[1]) if len(args) > 1 else 1
    found = list(kept.order[:count]) if kept else []
    for _, member in found:
        assert kept is not None
        kept.drop(member)
    if kept is not None:
        space.tidy(args[0], kept)
    pairs = Pairs((member, score) for score, member in found)
    if len(args) > 1:
        return pairs
    return Single(pairs[0]) if pairs else []

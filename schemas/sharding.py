"""Which shard something belongs to: a connector by its name, a call or a letter by its id. Pure, and the same in every process for good.

All of a connector lies in one shard, so that its limits stay exact. An id says itself where it lies: whoever asks about a call knows no
more than its id, and asking every shard would cost each look as many round trips as there are shards.
"""

import hashlib
from functools import lru_cache
from typing import Final

MOST_SHARDS: Final = 256

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_FROM, _TO = 10, 12
"""The characters of an id that say it: the first ten bits behind its time. What comes last counts up within a millisecond."""

_SPAN: Final = len(_DIGITS) ** (_TO - _FROM)


@lru_cache(maxsize=4096)
def shard_of(connector: str, shards: int) -> int:
    """Return the shard of a connector, by its name alone; what is no connector's is in the first."""
    return int.from_bytes(hashlib.sha256(connector.encode()).digest()[:4]) % shards if connector else 0


def shard_of_tool(tool: str, shards: int) -> int:
    """Return the shard of a tool, also of one that is not known: by what stands before the first dot."""
    return shard_of(tool.partition(".")[0], shards)


def shard_of_lane(lane: str, shards: int) -> int:
    """Return the shard of a lane, limit, gate or credential: each begins with its connector."""
    return shard_of(lane.removeprefix("@").partition("|")[0], shards)


def placed(identity: str, shard: int, shards: int) -> str:
    """Return a fresh id that says that it lies in a shard; with one shard it stays as it is."""
    if shards == 1:
        return identity
    drawn = _value(identity)
    value = drawn - drawn % shards + shard
    if value >= _SPAN:
        value -= shards
    return identity[:_FROM] + _DIGITS[value // len(_DIGITS)] + _DIGITS[value % len(_DIGITS)] + identity[_TO:]


def shard_of_id(identity: str, shards: int) -> int:
    """Return where an id says that it lies; one that is none of ours is nowhere, and looked for in any."""
    return _value(identity) % shards if shards > 1 else 0


def _value(identity: str) -> int:
    value = 0
    for character in identity[_FROM:_TO]:
        value = value * len(_DIGITS) + max(0, _DIGITS.find(character))
    return value

"""What a Redis tells about itself, for `sluice doctor`: version, durability, eviction, the consumer group. Only reads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.lanes.connect import connect
from gateway.lanes.topic_reader import unread
from schemas.topics import GROUP, Unread

UNANSWERED: Final = (RedisError,)
"""Whatever comes instead of an answer: away, loading, read-only, out of memory."""

OLDEST = (7, 0)
"""The command set that the scripts use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The consumer group on a stream."""

    consumers: int
    pending: int
    lag: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One server; configuration is None when it may not be read."""

    family: str
    text: str
    version: tuple[int, int]
    appendonly: str | None
    appendfsync: str | None
    policy: str | None
    group: Group | None


async def checkup(url: str, stream: str) -> Facts | str:
    """Return the server's facts, or why it does not answer; never the URL, which may hold a password."""
    try:
        async with connect(url, timeout_s=3.0) as redis:
            info = await redis.info("server")
            config = await _config(redis)
            group = await _group(redis, stream)
    except (RedisError, OSError, ValueError) as error:
        return f"does not answer: {type(error).__name__}"
    valkey = info.get("valkey_version")
    text = str(valkey or info["redis_version"])
    return Facts(
        family="valkey" if valkey else "redis",
        text=text,
        version=_version(text),
        appendonly=config.get("appendonly"),
        appendfsync=config.get("appendfsync"),
        policy=config.get("maxmemory-policy"),
        group=group,
    )


async def behind(url: str, topics: Sequence[str]) -> tuple[list[Unread], int] | None:
    """Say how far our group is behind on each topic, and the server's time in microseconds; None: it does not answer."""
    try:
        async with connect(url, timeout_s=3.0) as redis:
            seconds, more_us = await redis.time()
            return await unread(redis, topics), int(seconds) * 1_000_000 + int(more_us)
    except (RedisError, OSError, ValueError):
        return None


async def _config(redis: Redis) -> dict[str, str]:
    try:
        found: dict[Any, Any] = await redis.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except ResponseError:  # hosted servers forbid CONFIG
        return {}
    return {_text(name): _text(value) for name, value in found.items()}


async def _group(redis: Redis, stream: str) -> Group | None:
    try:
        groups: list[dict[str, Any]] = await redis.xinfo_groups(stream)
    except ResponseError:  # no such stream
        return None
    for group in groups:
        if _text(group["name"]) == GROUP:
            return Group(consumers=group["consumers"], pending=group["pending"], lag=group.get("lag"))
    return None


def _version(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value

"""The two conservation lines, and what they are held against: the gateway's sums beside the vendor's own counts."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from tests.vendor.record import Counts

STATS = "{s0}:stats"
RUNS = "{s0}:runs"
ENDS = ("completed", "rejected", "expired", "cancelled", "failed", "escalated", "rolled_back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """The gateway's own sums."""

    counts: dict[str, int]
    live: int

    def __getitem__(self, name: str) -> int:
        return self.counts.get(name, 0)

    @property
    def received_is_explained(self) -> bool:
        """received = accepted + duplicates + conflicts + undecodable."""
        return self["received"] == sum(self[name] for name in ("accepted", "duplicates", "conflicts", "undecodable"))

    @property
    def accepted_is_explained(self) -> bool:
        """accepted = all terminal states + live."""
        return self["accepted"] == sum(self[name] for name in ENDS) + self.live


def sums(redis: "Redis") -> Sums:
    """Read both lines at one moment."""
    with redis.pipeline(transaction=True) as pipe:
        pipe.hgetall(STATS)
        pipe.hlen(RUNS)
        counts, live = pipe.execute()
    return Sums(counts={name.decode(): int(count) for name, count in counts.items()}, live=live)


def results(redis: "Redis") -> list[dict[str, Any]]:
    """Read every result once: one per id, as a consumer that deduplicates would."""
    return list({event["id"]: event for event in read(redis, "tool-results")}.values())


def letters(redis: "Redis") -> list[dict[str, Any]]:
    """Read every dead letter."""
    return read(redis, "dead-letters")


def read(redis: "Redis", topic: str, *, since: str = "-") -> list[dict[str, Any]]:
    """Read a topic from its beginning, or from an entry on."""
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", redis.xrange(topic, min=since))
    return [json.loads(fields[b"data"]) for _, fields in entries]


def effects_agree(ended: list[dict[str, Any]], counts: Counts, tool: str, operation: str) -> bool:
    """Hold what we say of one tool's effects against the vendor's count: each `executed` ran, each `not_executed` did not."""
    states = Counter(event["data"]["effect"] for event in ended if event["data"]["tool"] == tool)
    ran = sum(counts.effects.get(operation, {}).values())
    return states["executed"] <= ran <= states["executed"] + states["unknown"]

"""Watchers of many processes on one real Redis; what they look at beside the topics is set by hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from connectors.auth.token_store import Kept
from connectors.breaking.standing import Standing, State
from connectors.breaking.store import Shared, StoreAwayError
from connectors.catalog import Catalog
from gateway.app import ambient
from gateway.flow.alert_control import AlertControl
from gateway.flow.alert_watch import AlertWatch, Sources
from gateway.lanes.alert_book import AlertBook, Bounds
from gateway.lanes.places import Places
from gateway.policy.patterns import Terms
from schemas.contracts.sighting import SeenFinding
from schemas.topics import Shard, Topics

TOPICS, SHARD = Topics(), Shard()


@dataclass
class Things:
    """How things stand; every watcher looks at the same."""

    breakers: dict[str, State] = field(default_factory=dict)
    tokens: dict[str, Kept] = field(default_factory=dict)
    findings: list[SeenFinding] = field(default_factory=list)
    catalog: Catalog = field(default_factory=Catalog)
    away: bool = False
    since_s: float = 0.0
    """Since when breakers are as they are, epoch seconds."""

    async def look(self) -> Mapping[str, Shared]:
        if self.away:
            raise StoreAwayError
        return {
            key: Shared(Standing(state=state, reason="down", since=self.since_s), 0)
            for key, state in self.breakers.items()
        }

    async def read(self, name: str) -> Kept:
        return self.tokens.get(name, Kept(now_us=0))

    async def seen(self) -> list[SeenFinding]:
        return self.findings


class AlertStage:
    """A Redis, things, and any number of watchers."""

    def __init__(self, redis: "Redis", **terms: Any) -> None:
        self.redis: Any = redis
        self.things = Things()
        facts: dict[str, Any] = {"similar": 10, "window_s": 60, "breaker_open_s": 0.3, "letters_per_hour": 100}
        self.terms = Terms(**{**facts, "most_per_hour": 60, "settle_s": 0.2, **terms})

    def watch(self, worker: str = "") -> AlertWatch:
        """Make the watcher of one more process."""
        around = ambient(f"w{worker}-{id(self)}-{len(worker)}")
        return AlertWatch(self.sources(around.worker), self.book(around), self.terms, around)

    def book(self, around: Any = None) -> AlertBook:
        bounds = Bounds(most_per_hour=self.terms.most_per_hour)
        return AlertBook(self.redis, TOPICS, SHARD, bounds, around or ambient("look"))

    def sources(self, worker: str) -> Sources:
        places, things = Places(self.redis, SHARD, worker), self.things
        return Sources(
            places=places,
            windows=places,
            standings=things,
            credentials=things,
            findings=things,
            catalog=lambda: things.catalog,
            events=[TOPICS.events],
            letters=[TOPICS.letters],
        )

    @property
    def control(self) -> AlertControl:
        return AlertControl(self.book())

    async def fail(self, count: int, print_: str = "v1:ab", first: int = 0) -> None:
        """Let so many calls end alike."""
        for number in range(first, first + count):
            error = {"class": "receive.reset", "fingerprint": print_, "message": "x"}
            data = {"call": f"c{number}", "tool": "crm.echo", "state": "failed", "error": error}
            event = json.dumps({"type": "tool.call.settled", "data": data}, separators=(",", ":"))
            await self.redis.xadd(TOPICS.events, {"data": event})

    async def told(self) -> list[dict[str, Any]]:
        """Return what is on the topic."""
        return [json.loads(fields[b"data"]) for _, fields in await self.redis.xrange(TOPICS.alerts)]

    async def kinds(self) -> list[tuple[str, str]]:
        return [(one["type"].removeprefix("alert."), one["data"]["kind"]) for one in await self.told()]

"""What guards share, over all shards: breakers, credentials and findings lie where their connector does; evidence too."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from redis.asyncio import Redis

from connectors.auth.freshness import TokenState
from connectors.auth.token_store import Began, Begin, Fall, Fresh, Kept
from connectors.breaking.breaker import Move, Permit
from connectors.breaking.store import Delta, FleetSums, Probed, Shared
from gateway.lanes.breakers import Heard, RedisBreakers
from gateway.lanes.evidence import Witness
from gateway.lanes.findings import Findings
from gateway.lanes.spread.shards import Spread
from gateway.lanes.tokens import Tokens
from gateway.policy.evidence import Evidence
from gateway.policy.makespan import Supply
from schemas.contracts.sighting import FindingState, Noted, SeenFinding, Sighting
from schemas.outcome import Outcome


class AllBreakers(Spread[RedisBreakers]):
    """Implements `connectors.breaking.store.BreakerStore`."""

    async def look(self) -> Mapping[str, Shared]:
        """Read how all breakers stand."""
        found: dict[str, Shared] = {}
        for told in await self.everywhere(RedisBreakers.look):
            found |= told
        return found

    async def move(self, key: str, move: Move) -> tuple[bool, Shared]:
        """Change a standing, with its gates and its event, if nobody has before."""
        return await self.of_lane(key).move(key, move)

    async def probe(self, permit: Permit, lease_s: float) -> Probed:
        """Take the fleet's one place for a probe."""
        return await self.of_lane(permit.key).probe(permit, lease_s)

    async def flush(self, sequence: int, deltas: Sequence[Delta]) -> Sequence[FleetSums]:
        """Add evidence and return the sums."""
        return await self.sorted_out(
            deltas, lambda one: self.of_lane(one.key), lambda part, some: part.flush(sequence, some)
        )

    async def listen(self, redis: "Redis", heard: Heard, *, wait_s: float) -> None:
        """Hear of changes until cancelled, of all shards on one connection: what is published in a cluster every node tells."""
        await self.home.listen(redis, heard, wait_s=wait_s, also=[part.channel for part in self.parts[1:]])


class AllTokens(Spread[Tokens]):
    """Implements `connectors.auth.token_store.TokenStore`."""

    async def read(self, name: str) -> Kept:
        """Look at one."""
        return await self.of_lane(name).read(name)

    async def begin(self, name: str, begin: Begin) -> Began:
        """Take the lease."""
        return await self.of_lane(name).begin(name, begin)

    async def commit(self, name: str, fence: int, fresh: Fresh) -> bool:
        """Keep a new version."""
        return await self.of_lane(name).commit(name, fence, fresh)

    async def fail(self, name: str, fence: int, fall: Fall) -> bool:
        """Give the lease back."""
        return await self.of_lane(name).fail(name, fence, fall)

    async def refuse(
        self, name: str, version: int, *, wait_us: int, soon_us: int
    ) -> Literal["moved", "stale", "waits"]:
        """Note a refused version."""
        return await self.of_lane(name).refuse(name, version, wait_us=wait_us, soon_us=soon_us)

    async def put(self, name: str, fresh: Fresh, state: TokenState) -> bool:
        """Replace what is there; false when somebody else did meanwhile."""
        return await self.of_lane(name).put(name, fresh, state)

    async def agree(self, names: Sequence[str]) -> None:
        """Make the gates say what the credentials say, one shard at a time."""
        await asyncio.gather(
            *(part.agree(some) for part in self.parts if (some := [n for n in names if self.of_lane(n) is part]))
        )


class AllFindings(Spread[Findings]):
    """How answers differ from their contracts."""

    async def note(self, sightings: Sequence[Sighting]) -> list[Noted]:
        """Write down what was seen, and tell what nobody had seen before."""
        return await self.sorted_out(sightings, lambda one: self.of_tool(one.tool), Findings.note)

    async def seen(self) -> list[SeenFinding]:
        """List what is kept, newest sighting first."""
        found = [one for some in await self.everywhere(Findings.seen) for one in some]
        return found if len(self.parts) == 1 else sorted(found, key=lambda one: (-one.last_us, one.tool))

    async def judge(self, fingerprint: str, state: FindingState, event: str) -> bool:
        """Write down a decision; false when it is not known or was decided so before. A fingerprint does not say whose it is."""
        return any(await self.everywhere(lambda one: one.judge(fingerprint, state, event)))


class AllWitnesses(Spread[Witness]):
    """What attempts of all processes have shown."""

    def saw(self, lane: str, outcome: Outcome) -> None:
        """Take notice of one attempt; only counts."""
        self.of_lane(lane).saw(lane, outcome)

    async def flush(self) -> None:
        """Tell what was seen."""
        await self.everywhere(Witness.flush)

    async def seen(self, lanes: Sequence[str]) -> dict[str, Evidence]:
        """Return the evidence of each lane."""

        async def look(part: Witness, some: Sequence[str]) -> list[tuple[str, Evidence]]:
            found = await part.seen(some)
            return [(lane, found[lane]) for lane in some]

        return dict(await self.sorted_out(lanes, self.of_lane, look)) if lanes else {}

    async def supplies(self, limits: Sequence[Supply]) -> list[Supply]:
        """Return limits as they stand now."""
        return await self.sorted_out(limits, lambda one: self.of_lane(one.key), Witness.supplies)

    async def live(self, lanes: Sequence[str]) -> list[int]:
        """Count the calls of each lane that have not ended."""
        return await self.sorted_out(lanes, self.of_lane, Witness.live)

    async def may_probe(self, origin: str, every_s: float) -> bool:
        """Take the fleet's one turn to probe an origin: it may be that of connectors of several shards."""
        return await self.home.may_probe(origin, every_s)

"""The lanes of all shards: what names a connector or a call goes to its shard, what is about everything to each."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from connectors.exchange import Marked
from gateway.lanes.queue import Lanes
from gateway.lanes.reviews import Reviews
from gateway.lanes.spread.shards import Spread
from gateway.ports import Admission, Answer, Claim, Known, LaneState, Mark, Refusal, Settled, Settlement
from gateway.ports.reviews import Answer as Decided
from gateway.ports.reviews import Word
from schemas.lifecycle import HoldReason


class AllLanes(Spread[Lanes]):
    """Implements the queues of `gateway.ports.queues`. What takes calls in hand is done shard by shard, by the worker."""

    async def enqueue(self, admissions: Sequence[Admission]) -> list[Answer]:
        """Store calls and acknowledge their sources, each in the script of its shard; answers in the order given."""
        return await self.sorted_out(admissions, lambda one: self.of_lane(one.lane), Lanes.enqueue)

    async def admit(self, admission: Admission) -> Answer:
        """Store one call together with those that arrive at the same time."""
        return await self.of_lane(admission.lane).admit(admission)

    async def refuse(self, refusals: Sequence[Refusal]) -> list[str]:
        """End events that never reach a lane."""
        return await self.sorted_out(refusals, self._home_of, Lanes.refuse)

    async def declare(self) -> None:
        """Make what this process knows of limits the truth."""
        await self.everywhere(Lanes.declare)

    async def mark(self, mark: Mark) -> Marked:
        """Tell whether the claim may begin to send."""
        return await self.of_id(mark.id).mark(mark)

    async def settle(self, settlement: Settlement) -> Settled:
        """End or defer a claim."""
        return await self.of_id(settlement.id).settle(settlement)

    async def seize(self, call: str, *, lease_us: int = 10_000_000) -> Claim | Literal["busy", "gone"]:
        """Take one waiting call out of its lane."""
        return await self.of_id(call).seize(call, lease_us=lease_us)

    async def inspect(self, call: str) -> Known:
        """Look at one call."""
        return await self.of_id(call).inspect(call)

    async def lanes(self, *, cursor: int = 0, most: int = 1000) -> tuple[int, list[str]]:
        """List some lanes with live calls, one shard after the other; the cursor says in which shard, and where there."""
        number = cursor % len(self.parts)
        following, found = await self.parts[number].lanes(cursor=cursor // len(self.parts), most=most)
        if following:
            return following * len(self.parts) + number, found
        return (number + 1) % len(self.parts), found

    async def survey(self, lanes: Sequence[str]) -> tuple[int, list[LaneState]]:
        """Look at lanes: the time of the look, and how each stands."""
        now_us = 0

        async def look(part: Lanes, some: Sequence[str]) -> list[LaneState]:
            nonlocal now_us
            now_us, states = await part.survey(some)
            return states

        states = await self.sorted_out(lanes, self.of_lane, look)
        return now_us, states

    async def close(self, gate: str, reason: HoldReason, *, for_us: int, detail: str, most: int = 0) -> int | None:
        """Close a gate for `for_us`, 0 until it is opened; returns when it opens by itself."""
        return await self.of_lane(gate).close(gate, reason, for_us=for_us, detail=detail, most=most)

    async def hold(self, gate: str, reason: HoldReason, detail: str) -> None:
        """Close a gate until somebody opens it; does not return before it is closed."""
        await self.of_lane(gate).hold(gate, reason, detail)

    async def open(self, gate: str, reason: HoldReason) -> None:
        """Open a gate that was closed for this reason."""
        await self.of_lane(gate).open(gate, reason)

    async def canary(self, gate: str, read: str, *, clean: bool, enough: int) -> bool:
        """Note what a read said of a vendor whose contract is broken; true when the gate is open now because of it."""
        return await self.of_lane(gate).canary(gate, read, clean=clean, enough=enough)

    async def retire(self, stream: str, consumer: str) -> bool:
        """Forget a consumer of ours that holds nothing."""
        return await self.home.retire(stream, consumer)

    async def stats(self) -> dict[str, int]:
        """Count events by fate, and the calls that are live."""
        sums: Counter[str] = Counter()
        for counts in await self.everywhere(Lanes.stats):
            sums.update(counts)
        return dict(sums)

    def _home_of(self, refusal: Refusal) -> Lanes:
        """Whatever is said of an event a second time must find the mark of the first: its id says where that was."""
        named: Any = refusal.id or (refusal.opens.id if refusal.opens else None)
        return self.of_id(named) if named else self.home


class AllReviews(Spread[Reviews]):
    """Calls that wait for a person."""

    async def waiting(self, *, most: int, until_us: int | None = None) -> list[str]:
        """List calls that wait for a person, in each shard those whose time ends first at the top."""
        found = await self.everywhere(lambda one: one.waiting(most=most, until_us=until_us))
        return [call for calls in found for call in calls][:most]

    async def now_us(self) -> int:
        """Return Redis' time."""
        return await self.home.now_us()

    async def decide(self, word: Word, *, lease_us: int) -> Decided:
        """Write a decision down; the first one counts."""
        return await self.of_id(word.call).decide(word, lease_us=lease_us)

"""The worker's loop: claim what there is room for, deliver each claim on its own task, settle, and keep house.

Sleeps until a wake-up or the next due time; it never polls a busy queue and never blocks the loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from gateway.flow.delivery import Delivery
from gateway.lanes.fleet import Epoch
from gateway.lanes.queue import PASSING, Lanes
from gateway.lanes.signals import Agenda
from gateway.ports import Ambient, Claim, Claims

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
"""A lost wake-up is made good after this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """A small piece of housekeeping and how often it is due, in seconds."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[object]]


async def keep_house(chore: Chore) -> None:
    """Run one chore for ever; Redis being away is waited out, anything else is told and tried again."""
    task = asyncio.current_task()
    # Asked, and not only waited for: before Python 3.12 `wait_for`, which clients use, may swallow a cancellation.
    while task is None or not task.cancelling():
        try:
            await chore.run()
        except PASSING:
            pass
        except Exception:
            log.exception("chore.failed", chore=chore.name)
        await asyncio.sleep(chore.every_s)


class Worker:
    """Claims and delivers until it is told to stop."""

    def __init__(self, parts: "Parts", *, ambient: Ambient, terms: "Terms") -> None:
        """`ambient.worker` names the claims of this process."""
        self.posts = tuple(parts.posts)
        self._delivery = parts.delivery
        self._ambient = ambient
        self._terms = terms
        self._asked = 0
        """Room that claims under way may fill."""
        # A shard that does not answer must not hold the room of all others.
        self._share = min(terms.batch, max(1, terms.concurrency // len(self.posts)))
        self._under_way: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def under_way(self) -> int:
        """How many calls are being delivered now."""
        return len(self._under_way)

    async def run(self) -> None:
        """Work until `stop`; then let what is under way end, at most the drain time."""
        await asyncio.gather(*(self._man(post) for post in self.posts))
        await self._drain()

    def stop(self) -> None:
        """Claim no more."""
        self._stopping.set()
        self._room.set()
        for post in self.posts:
            post.agenda.now()

    async def reap(self, post: "Post") -> int:
        """Settle claims of one shard whose workers were lost."""
        terms = self._terms
        claims = await post.lanes.reap(
            most=terms.reap_batch, lease_us=terms.reap_lease_us, gap_us=terms.reap_gap_us, hold_us=terms.reap_hold_us
        )
        for claim in claims:
            log.warning("claim.lost", call=claim.id, crashes=claim.run.crashes + 1, marked=bool(claim.run.marked))
        await asyncio.gather(*(self._delivery.recover(claim) for claim in claims))
        return len(claims)

    async def end_overdue(self, post: "Post") -> int:
        """End waiting calls of one shard whose deadline has passed; a lane that is closed for hours does not keep them."""
        terms = self._terms
        claims = await post.lanes.overdue(most=terms.reap_batch, lease_us=terms.reap_lease_us)
        await asyncio.gather(*(self._delivery.expire(claim) for claim in claims))
        return len(claims)

    async def _man(self, post: "Post") -> None:
        """Claim from one shard, with what room the others leave."""
        post.lanes.moved = post.agenda.plan
        sequence = 0
        while not self._stopping.is_set():
            room = min(self._share, self._terms.concurrency - len(self._under_way) - self._asked)
            if room <= 0:
                await self._room_again()
                continue
            post.agenda.clear()
            asked_s = self._ambient.monotonic()
            sequence += 1
            claims = await self._claim(post, sequence, room)
            for claim in claims.claims:
                self._start(claim, asked_s)
            if len(claims.claims) < room:
                post.agenda.plan(claims.now_us, claims.due_us)
                await post.agenda.sleep(LOOK_EVERY_S)

    async def _claim(self, post: "Post", sequence: int, room: int) -> Claims:
        while True:
            try:
                claims = await self._asking(post, sequence, room)
                if not claims.forgot:
                    return claims
                await post.forgot()
            except Exception as error:
                # Whatever it is, a worker that gave up would leave its lanes to nobody.
                if not isinstance(error, PASSING):
                    log.exception("claim.failed")
                if self._stopping.is_set():
                    return Claims(now_us=0)
                await asyncio.sleep(self._terms.redis_wait_s)

    async def _asking(self, post: "Post", sequence: int, room: int) -> Claims:
        self._asked += room
        try:
            return await post.lanes.claim(
                self._ambient.worker, sequence, room=room, grace_us=self._terms.grace_us, epoch=post.epoch.name
            )
        finally:
            self._asked -= room
            if len(self.posts) > 1:
                self._room.set()

    def _start(self, claim: Claim, asked_s: float) -> None:
        task = asyncio.create_task(self._deliver(claim, asked_s))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._room.set()

    async def _deliver(self, claim: Claim, asked_s: float) -> None:
        try:
            settled = await self._delivery.deliver(claim, asked_s)
        except Exception:
            # The lease is left to end: the reaper decides with what is known, and a bug that repeats ends as poison.
            log.exception("delivery.broken", call=claim.id)
            return
        if settled != "settled":
            log.warning("claim.stale", call=claim.id, fence=claim.fence, answer=settled)

    async def _room_again(self) -> None:
        self._room.clear()
        if len(self._under_way) + self._asked >= self._terms.concurrency and not self._stopping.is_set():
            await self._room.wait()

    async def _drain(self) -> None:
        if self._under_way:
            log.info("worker.draining", under_way=len(self._under_way))
            await asyncio.wait(self._under_way, timeout=self._terms.drain_s)
        for task in self._under_way:
            task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One shard, as a worker works on it."""

    lanes: Lanes
    agenda: Agenda
    epoch: Epoch
    forgot: Callable[[], Awaitable[None]]
    """Deals with a Redis that holds another state than before; claims go on afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a worker works with."""

    posts: Sequence[Post]
    delivery: Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The worker's limits and time spans."""

    concurrency: int
    batch: int
    """Most calls of one claim."""
    grace_us: int
    """Lease beyond a call's timeout."""
    reap_batch: int
    reap_lease_us: int
    reap_gap_us: int
    """Time without reaping after which nothing is taken over for `reap_hold_us`."""
    reap_hold_us: int
    redis_wait_s: float
    drain_s: float

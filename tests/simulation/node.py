"""One simulated worker: the gateway's real parts on the twins, joined as `gateway.app` and `gateway.roles` join them.

Only three things are not the gateway's own: the client of Redis, the engine, and the loop that reads the bus, which is FastStream's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from itertools import count
from random import Random
from typing import Any, cast

from redis.exceptions import ResponseError

from connectors.auth.token_source import TokenSource
from connectors.breaking.breakers import Breakers
from connectors.contract_guard import ContractGuard
from connectors.pipeline import Guards, Pipeline
from dlq.redaction import scrub_bytes
from gateway.entrypoints.bus.alone import Alone
from gateway.entrypoints.bus.on_redis import Sweeper
from gateway.entrypoints.worker import Chore, Post, Worker, keep_house
from gateway.entrypoints.worker import Parts as WorkerParts
from gateway.entrypoints.worker import Terms as WorkerTerms
from gateway.flow.contract_watch import ContractWatch
from gateway.flow.delivery import Delivery
from gateway.flow.delivery import Parts as DeliveryParts
from gateway.flow.delivery import Terms as DeliveryTerms
from gateway.flow.intake import Entry, Intake
from gateway.flow.intake import Terms as IntakeTerms
from gateway.flow.letters import Letters
from gateway.flow.quarantine import Quarantine
from gateway.lanes.breakers import Around, RedisBreakers
from gateway.lanes.findings import Findings
from gateway.lanes.fleet import Epoch, Fleet
from gateway.lanes.overview import Overview
from gateway.lanes.queue import PASSING, Lanes
from gateway.lanes.queue import Terms as LaneTerms
from gateway.lanes.reckoning import Steady
from gateway.lanes.signals import Signals
from gateway.policy.backoff import Backoff
from gateway.policy.budget import BudgetTerms
from gateway.policy.origins import gates_by_breaker
from gateway.ports import Ambient
from gateway.roles import REAP_BATCH, REAP_GAP_S, REAP_LEASE_US
from schemas.topics import FIELD, GROUP, Shard, Topics
from tests.simulation import parts
from tests.simulation.world import Doors, World
from tests.twins.loop import PROCESS, Process
from tests.twins.redis_twin import TwinClient

TOPICS, SHARD = Topics(), Shard()
NEW_S = 0.5
"""Pause of whoever reads the bus after Redis did not answer."""


class MemoryFile:
    """A file in the data directory, as far as `Epoch` uses one."""

    def __init__(self, files: dict[str, str], name: str) -> None:
        self._files = files
        self._name = name

    def exists(self) -> bool:
        return self._name in self._files

    def read_text(self, **_: str) -> str:
        return self._files[self._name]

    def write_text(self, text: str, **_: str) -> None:
        self._files[self._name] = text

    def with_suffix(self, suffix: str) -> "MemoryFile":
        return MemoryFile(self._files, self._name + suffix)

    def replace(self, target: "MemoryFile") -> None:
        self._files[target._name] = self._files.pop(self._name)


class Node:
    """A worker process; `number` is its place, `life` how often it was started there."""

    def __init__(self, world: World, number: int, life: int, died: Callable[[], None]) -> None:
        self._world = world
        self._died = died
        self.process = Process(f"w{number}.{life}")
        self._doors = Doors(world, self.process, number, self.kill)
        self._tasks: list[asyncio.Task[None]] = []
        self._limited = world.schedule.limited
        dice = Random(f"{world.schedule.seed}/{number}/{life}")
        ids = count(1)
        self._ambient = Ambient(
            now=world.now,
            monotonic=world.loop.time,
            new_id=lambda: f"01S{number:02d}{life:02d}{next(ids):019d}",
            new_trace=lambda: f"00-{dice.getrandbits(128) | 1:032x}-{dice.getrandbits(64) | 1:016x}-01",
            uniform=dice.uniform,
            worker=self.process.name,
        )
        self._dice = dice

    def start(self) -> None:
        """Begin to work."""
        context = Context()
        context.run(PROCESS.set, self.process)
        self._tasks.append(self._world.loop.create_task(self._main(), context=context))

    def kill(self) -> None:
        """SIGKILL: not one more step."""
        if self.process.alive:
            self.process.alive = False
            self._died()

    def unwind(self) -> None:
        """Let everything end, so that nothing is left behind in the loop; no door lets it through."""
        self.process.ending = True
        self.process.go_on(self._world.loop)

    def errors(self) -> list[BaseException]:
        """Return what broke it; nothing may."""
        ended = [task.exception() for task in self._tasks if task.done() and not task.cancelled()]
        return [error for error in ended if error is not None]

    async def _main(self) -> None:
        self._join_parts()
        await self._joined()
        chores = [asyncio.create_task(keep_house(chore)) for chore in self._chores()]
        await asyncio.gather(
            self._signals.listen(), self._guards.breakers.keep(), self._read(), self._worker.run(), *chores
        )

    def _join_parts(self) -> None:
        settings, around = parts.settings(), self._ambient
        catalog = parts.catalog(limited=self._limited)
        planned = parts.planned(limited=self._limited)
        redis = cast("Any", TwinClient(self._world.redis, self._doors.wire))
        terms = LaneTerms(
            items=settings.script_batch,
            size_bytes=settings.flight_bytes,
            wait_s=settings.redis_wait,
            most_bytes=1 << 30,
            steady=Steady(self._world.loop.time, "the host"),
        )
        self._redis = redis
        self._lanes = Lanes(redis, TOPICS, shard=SHARD, terms=terms, plans=lambda: planned)
        self._fleet = Fleet(redis, SHARD, around.worker, dead_after_s=settings.dead_after)
        self._epoch = Epoch(self._lanes, cast("Any", MemoryFile(self._world.files, "epoch")), around.new_id)
        self._signals = Signals(redis, SHARD, wait_s=settings.redis_wait)
        self._guards = self._guarded(redis)
        letters = Letters(parts.sealer(), lambda: catalog, around, self._alert)
        self._intake = Intake(
            self._lanes,
            lambda: catalog,
            ambient=around,
            terms=IntakeTerms(
                max_event_bytes=settings.max_event_bytes,
                deadline_s=settings.call_deadline,
                queue_limit=settings.queue_limit,
                answer_ttl_s=settings.scope_ttl,
            ),
            letter=letters.for_entry,
        )
        delivery = self._delivery(redis, letters)
        alone = Alone(redis, SHARD, most=settings.max_alone)
        self._sweeper = Sweeper(self._lanes, redis, TOPICS.calls, self._fleet, alone)
        (agenda,) = self._signals.agendas
        self._post = Post(lanes=self._lanes, agenda=agenda, epoch=self._epoch, forgot=self._check_epoch)
        self._worker = Worker(
            WorkerParts(posts=[self._post], delivery=delivery),
            ambient=around,
            terms=_worker_terms(),
        )

    def _guarded(self, redis: Any) -> Guards:
        catalog, world = parts.catalog(limited=self._limited), self._world
        around = Around(
            worker=self._ambient.worker,
            clock=lambda: world.now().timestamp(),
            gates=lambda key: gates_by_breaker(catalog).get(key, ()),
            new_id=self._ambient.new_id,
        )
        breakers = Breakers(
            RedisBreakers(redis, TOPICS, SHARD, around),
            clock=lambda: world.now().timestamp(),
            uniform=self._ambient.uniform,
            worker=self._ambient.worker,
        )
        # The vendor asks for no credential, so nobody asks for a token.
        return Guards(breakers=breakers, tokens=cast("TokenSource", None), contracts=ContractGuard(lambda _: None))

    def _delivery(self, redis: Any, letters: Letters) -> Delivery:
        settings, around = parts.settings(), self._ambient
        catalog = parts.catalog(limited=self._limited)
        pipeline = Pipeline(
            cast("Any", self._doors),
            self._guards,
            clock=lambda: self._world.now().timestamp(),
            new_span=lambda: f"{self._dice.getrandbits(64) | 1:016x}",
            scrub=scrub_bytes,
            cap_wire_bytes=settings.wire_cap,
            cap_decoded_bytes=settings.decoded_cap,
        )
        return Delivery(
            DeliveryParts(
                queue=self._lanes,
                vendor=pipeline,
                catalog=lambda: catalog,
                letter=letters.for_call,
                contracts=ContractWatch(Findings(redis, TOPICS, SHARD), around, self._alert, lambda *_: None),
                quarantine=Quarantine(self._lanes, Overview(redis, SHARD, high_bytes=0).closed, lambda _: None),
                observe=lambda *_: None,
            ),
            ambient=around,
            terms=DeliveryTerms(
                start_within_s=settings.start_within,
                max_crashes=settings.max_crashes,
                answer_ttl_s=settings.scope_ttl,
                scope_ttl_s=settings.scope_ttl,
                backoff=Backoff(base_s=settings.backoff_base, cap_s=settings.backoff_cap),
                budget=BudgetTerms(
                    share=settings.retry_share,
                    floor_per_s=settings.retry_floor,
                    most=settings.retry_most,
                    longest_s=settings.retry_longest,
                ),
            ),
        )

    async def _joined(self) -> None:
        """Join the fleet, as a worker process does before it starts."""
        while True:
            try:
                await self._fleet.beat()
                await self._fleet.ensure_group(TOPICS.calls)
                await self._lanes.declare()
                await self._check_epoch()
            except PASSING:
                await asyncio.sleep(1.0)
            else:
                return

    def _chores(self) -> list[Chore]:
        settings = parts.settings()

        async def look_after_bus() -> None:
            await self._check_epoch()
            await self._fleet.ensure_group(TOPICS.calls)

        def chore(name: str, every_s: float, run: Callable[[], Awaitable[object]]) -> Chore:
            return Chore(name=name, every_s=every_s, run=run)

        return [
            chore("beat", settings.beat_every, self._fleet.beat),
            chore("bus", settings.beat_every, look_after_bus),
            chore("sweep", settings.beat_every, self._sweep),
            chore("reap", settings.reap_every, partial(self._worker.reap, self._post)),
            chore("overdue", settings.reap_every, partial(self._worker.end_overdue, self._post)),
        ]

    async def _sweep(self) -> int:
        return await self._sweeper.sweep(self._intake, dead_idle_ms=int(parts.settings().beat_every * 1000))

    async def _read(self) -> None:
        """Read the bus as FastStream's loop does: what the handler could not deal with stays pending."""
        stream, batch = TOPICS.calls, parts.settings().intake_batch
        while True:
            try:
                found = await self._redis.xreadgroup(GROUP, self._ambient.worker, {stream: ">"}, count=batch)
            except (*PASSING, ResponseError):
                await asyncio.sleep(NEW_S)
                continue
            if not found:
                await self._world.published(1.0)
                continue
            (given,) = found[stream.encode()]
            entries = [
                Entry(stream=stream, id=key.decode(), raw=fields.get(FIELD.encode(), b"")) for key, fields in given
            ]
            await self._intake.from_bus(entries)

    async def _check_epoch(self) -> None:
        async def lost(_expected: str, _found: str) -> None:
            self._world.forgot += 1

        await self._epoch.check(lost)

    async def _alert(self, kind: str, _: dict[str, object]) -> None:
        self._world.alerts.append(kind)


def _worker_terms() -> WorkerTerms:
    settings = parts.settings()
    return WorkerTerms(
        concurrency=settings.concurrency,
        batch=settings.script_batch,
        grace_us=parts.grace_us(),
        reap_batch=REAP_BATCH,
        reap_lease_us=REAP_LEASE_US,
        reap_gap_us=int(max(REAP_GAP_S, 4 * settings.reap_every) * 1_000_000),
        reap_hold_us=int(settings.lease_guard * 1_000_000),
        redis_wait_s=settings.redis_wait,
        drain_s=settings.drain,
    )

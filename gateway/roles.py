"""The roles of a process: a worker, an API, or everything in one process group. Joins the app's parts to their entry points."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import structlog
import uvicorn
import uvloop

from connectors.breaking.breakers import Changed
from connectors.breaking.standing import Standing, State
from gateway import logs, starting, telemetry
from gateway.app import Gateway, grace_us, open_gateway
from gateway.chores import STEERS_BUS, check_epoch, check_epoch_of, chores
from gateway.collector import spare_collector
from gateway.endings import ended
from gateway.entrypoints import api
from gateway.entrypoints.bus import Bus, BusAway, BusUnfit
from gateway.entrypoints.bus import choice as buses
from gateway.entrypoints.worker import Parts as WorkerParts
from gateway.entrypoints.worker import Post, Worker, keep_house
from gateway.entrypoints.worker import Terms as WorkerTerms
from gateway.flow import readings
from gateway.flow.breaker_control import BreakerControl
from gateway.flow.connection_control import ConnectionControl
from gateway.flow.contract_control import ContractControl, Stores
from gateway.flow.lane_control import LaneControl
from gateway.flow.status import Status
from gateway.guards import overview_of
from gateway.lanes.queue import PASSING
from gateway.lanes.spread.above import AllOverviews, unread_of
from gateway.lanes.spread.agreement import StateUnfit, agree
from gateway.planners import planners
from gateway.policy.bus_address import kafka_servers
from gateway.policy.keeping_up import behind_since, standing
from gateway.ports import Gauges
from gateway.relaying import relaying
from gateway.settings import Settings
from schemas.moment import microseconds, moment, stamp
from schemas.topics import RELAY, Unread

log = structlog.get_logger()

GRACE_S = 3
"""Seconds an open request may take to end at a stop."""

MOST_REQUESTS = 4096
"""Requests and connections of one API process at the same time; more are answered 503."""

REAP_BATCH = 200
"""Lost claims that are taken over at once."""

REAP_GAP_S = 2.0
"""Seconds without any reaping in the fleet that tell of an outage."""

REAP_LEASE_US = 10_000_000
"""How long a reaper may take to settle them."""


def worker_of(gateway: Gateway) -> Worker:
    """Build the claim loop."""
    settings = gateway.settings
    terms = WorkerTerms(
        concurrency=settings.concurrency,
        batch=settings.script_batch,
        grace_us=grace_us(settings),
        reap_batch=REAP_BATCH,
        reap_lease_us=REAP_LEASE_US,
        reap_gap_us=int(max(REAP_GAP_S, 4 * settings.reap_every) * 1_000_000),
        reap_hold_us=int(settings.lease_guard * 1_000_000),
        redis_wait_s=settings.redis_wait,
        drain_s=settings.drain,
    )
    posts = [
        Post(lanes=lanes, agenda=agenda, epoch=epoch, forgot=partial(check_epoch_of, gateway, epoch))
        for lanes, agenda, epoch in zip(gateway.lanes.parts, gateway.signals.agendas, gateway.epochs, strict=True)
    ]
    return Worker(WorkerParts(posts=posts, delivery=gateway.delivery), ambient=gateway.ambient, terms=terms)


def bus_of(gateway: Gateway) -> Bus:
    """Build the subscription to `tool-calls`."""
    return buses.bus_of(
        buses.Around(
            settings=gateway.settings,
            topics=gateway.topics,
            shards=gateway.shards,
            lanes=gateway.lanes,
            fleet=gateway.fleet,
            intake=gateway.intake,
            epochs=[partial(getattr, epoch, "name") for epoch in gateway.epochs],
            forgot=lambda: check_epoch(gateway),
        )
    )


async def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; then let what is under way end."""
    stop = stop_event()
    async with open_gateway(settings, "worker") as gateway:
        try:
            if not await joined(gateway, stop):
                return 0
        except (BusUnfit, StateUnfit) as error:
            starting.complain(str(error))
            return 2
        async with working(gateway):
            spare_collector()
            log.info("worker.started", worker=gateway.ambient.worker, tools=len(gateway.catalog().operations))
            await stop.wait()
        log.info("worker.stopped", worker=gateway.ambient.worker)
    return 0


@contextlib.asynccontextmanager
async def working(gateway: Gateway) -> AsyncIterator[None]:
    """Work for the fleet, which was joined, as long as this lasts; then let what is under way end."""
    worker, bus = worker_of(gateway), bus_of(gateway)
    await bus.start()
    house = {chore.name: asyncio.create_task(keep_house(chore)) for chore in chores(gateway, worker, bus)}
    claiming = asyncio.create_task(worker.run())
    try:
        async with relaying(gateway):
            yield
    finally:
        await ended(house.pop(name) for name in STEERS_BUS)
        await bus.stop()
        worker.stop()
        await claiming
        await ended(house.values())
        with contextlib.suppress(*PASSING, TimeoutError):
            await asyncio.wait_for(gateway.fleet.leave(), 1.0)


async def run_api(settings: Settings) -> int:
    """Serve HTTP until SIGTERM or SIGINT."""
    async with open_gateway(settings, "api") as gateway:
        try:
            with contextlib.suppress(*PASSING):  # then whoever asks whether it is ready is told
                await agree(gateway.shards)
        except StateUnfit as error:
            starting.complain(str(error))
            return 2
        app = api.build(_api_parts(gateway))
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            # Streams would hold a stop up: they are cut, and their readers ask again; long polls are answered.
            timeout_graceful_shutdown=GRACE_S,
            limit_concurrency=MOST_REQUESTS,
            lifespan="on",
        )
        await _Server(config, gateway.status, linger_s=settings.linger).serve()
    return 0


class _Server(uvicorn.Server):
    """Says that it stops before it closes its door."""

    def __init__(self, config: uvicorn.Config, status: Status, *, linger_s: float) -> None:
        super().__init__(config)
        self._status = status
        self._linger_s = linger_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the long polls with what is known, and go on answering until whoever sends requests here has noticed."""
        self._status.hurry()
        await asyncio.sleep(self._linger_s)
        await super().shutdown(sockets)


def _api_parts(gateway: Gateway) -> api.ApiParts:
    overview = overview_of(gateway.shards, gateway.settings)
    breakers, contracts = _breakers(gateway), _contracts(gateway, overview)
    health, preflight = planners(gateway, overview, breakers, contracts)
    connections = ConnectionControl(gateway.guarding.guards.tokens, gateway.catalog)

    async def gauges() -> Gauges:
        seen = await overview.gauges()
        budgets = await readings.budgets(gateway.lanes, gateway.catalog())
        expiries = await readings.expiries(connections, lambda: gateway.ambient.now().timestamp())
        return replace(seen, budgets=budgets, expiries=expiries)

    return api.ApiParts(
        intake=gateway.intake,
        status=gateway.status,
        history=gateway.history.calls,
        following=gateway.history.following,
        lanes=LaneControl(gateway.lanes, overview, gateway.catalog),
        breakers=breakers,
        connections=connections,
        contracts=contracts,
        approvals=gateway.approvals,
        alerts=gateway.alerting.control,
        health=health,
        preflight=preflight,
        letters=gateway.replaying.letters,
        replays=gateway.replaying.control,
        catalog=gateway.catalog,
        ready=lambda: readiness(gateway),
        stats=gateway.lanes.stats,
        gauges=gauges,
        asyncapi=lambda: api.asyncapi.document(gateway.topics),
        max_body_bytes=gateway.settings.max_event_bytes,
        queue_bytes=gateway.settings.queue_bytes,
        ambient=gateway.ambient,
    )


def _breakers(gateway: Gateway) -> BreakerControl:
    def report(key: str, standing: Standing, before: State) -> None:
        telemetry.record_breaker(Changed(key=key, standing=standing, before=before))

    return BreakerControl(
        gateway.guarding.standings, gateway.catalog, clock=lambda: gateway.ambient.now().timestamp(), report=report
    )


def _contracts(gateway: Gateway, overview: AllOverviews) -> ContractControl:
    guarding = gateway.guarding
    stores = Stores(findings=guarding.findings, baselines=guarding.baselines, gates=gateway.lanes, overview=overview)
    return ContractControl(stores, gateway.catalog, gateway.ambient)


async def readiness(gateway: Gateway) -> list[api.Check]:
    """Say whether calls that come in now will be worked on."""
    try:
        await gateway.redis.set(gateway.shard.key("probe"), 1, px=10_000)
        alive = await gateway.fleet.anybody()
    except PASSING as error:
        return [api.Check(name="redis", ok=False, detail=f"Redis does not answer: {type(error).__name__}")]
    if gateway.status.hurried:
        return [api.Check(name="api", ok=False, detail="this process is about to end; another one can be asked")]
    told = "a worker gave a sign of life" if alive else "no worker has given a sign of life"
    return [
        api.Check(name="redis", ok=True, detail="writes are answered"),
        api.Check(name="worker", ok=alive, detail=told),
        # Told and no reason to refuse: calls are worked on without it, and what it has not written waits for it.
        await _behind(gateway),
    ]


async def _behind(gateway: Gateway) -> api.Check:
    """Say how far those are behind who read what this Redis tells: the journal, or the relay to another bus."""
    now_us = microseconds(gateway.ambient.now())
    if kafka_servers(gateway.settings.bus_url) is None:
        behind = await unread_of(gateway.shards, lambda topics: topics.followed)
        return api.Check(name="journal", ok=True, detail=standing(behind, now_us))
    waiting = await unread_of(gateway.shards, lambda topics: topics.outgoing, RELAY)
    return api.Check(name="outbox", ok=True, detail=sent_on(waiting, now_us))


def sent_on(topics: list[Unread], now_us: int) -> str:
    """Say how much waits for the bus."""
    entries = sum(one.entries for one in topics)
    oldest_us = min((one.oldest_us for one in topics if one.oldest_us is not None), default=now_us)
    if behind_since(topics, now_us) is None:
        return "what happens is sent on to Kafka"
    return f"{entries} events wait to be sent on to Kafka, the oldest from {stamp(moment(oldest_us))}"


async def joined(gateway: Gateway, stop: asyncio.Event) -> bool:
    """Wait for Redis and the bus and join the fleet; false when a stop came first. Raises `BusUnfit` and `StateUnfit`."""
    bus = bus_of(gateway)
    while not stop.is_set():
        try:
            await agree(gateway.shards)
            await gateway.fleet.beat()
            await bus.prepare()
            await gateway.lanes.declare()
            await check_epoch(gateway)
        except (*PASSING, BusAway) as error:
            if isinstance(error, BusAway):
                log.warning("bus.away", error=str(error))
            else:
                log.warning("redis.away", error=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0)
        else:
            return True
    return False


def stop_event() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def worker(settings: Settings) -> int:
    """Be a worker process."""
    logs.configure(settings.log_level)
    if starting.complain(starting.unsupported(settings)):
        return 2
    return uvloop.run(run_worker(settings))


def serve(settings: Settings) -> int:
    """Be an API process."""
    logs.configure(settings.log_level)
    if starting.complain(starting.unsupported(settings) or starting.exposure(settings)):
        return 2
    if starting.complain(starting.taken(settings)):
        return 1
    return uvloop.run(run_api(settings))

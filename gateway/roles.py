"""The roles of a process: a worker, an API, or everything in one process group. Joins the app's parts to their entry points."""

import asyncio
import contextlib
import signal
import sys

import structlog
import uvicorn
import uvloop

from gateway import telemetry
from gateway.app import Gateway, load_catalog, open_gateway
from gateway.entrypoints import api
from gateway.entrypoints.bus import Bus, Sweeper
from gateway.entrypoints.worker import Chore, Worker, keep_house
from gateway.entrypoints.worker import Terms as WorkerTerms
from gateway.lanes.fleet import Epoch
from gateway.lanes.queue import PASSING
from gateway.settings import LOOPBACK, Settings
from schemas.topics import GROUP

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
        grace_us=int((settings.start_within + settings.lease_guard) * 1_000_000),
        reap_batch=REAP_BATCH,
        reap_lease_us=REAP_LEASE_US,
        reap_gap_us=int(max(REAP_GAP_S, 4 * settings.reap_every) * 1_000_000),
        reap_hold_us=int(settings.lease_guard * 1_000_000),
        redis_wait_s=settings.redis_wait,
        drain_s=settings.drain,
    )
    return Worker(gateway.lanes, gateway.delivery, gateway.signals, ambient=gateway.ambient, terms=terms)


def bus_of(gateway: Gateway) -> Bus:
    """Build the subscription to `tool-calls`."""
    settings = gateway.settings
    url = settings.bus_url or settings.state_url
    return Bus(url, gateway.topics.calls, gateway.intake, consumer=gateway.ambient.worker, batch=settings.intake_batch)


def chores(gateway: Gateway, worker: Worker, bus: Bus) -> list[Chore]:
    """List a worker's housekeeping."""
    settings = gateway.settings
    sweeper = Sweeper(gateway.lanes, gateway.redis, gateway.topics.calls, gateway.fleet, most_alone=settings.max_alone)
    epoch = Epoch(gateway.redis, gateway.shard, settings.data / "epoch", gateway.ambient.new_id)

    async def look_after_bus() -> None:
        await epoch.check(
            lambda expected, found: gateway.alerts.publish("gateway.epoch_lost", {"expected": expected, "found": found})
        )
        if await gateway.fleet.ensure_group(gateway.topics.calls):
            log.warning("bus.group_created", stream=gateway.topics.calls)
        if await bus.ensure_running():
            log.warning("bus.restarted", stream=gateway.topics.calls)

    async def sweep() -> None:
        await sweeper.sweep(gateway.intake, dead_idle_ms=int(settings.beat_every * 1000))

    async def trim() -> None:
        wait_us, keep_us = int(settings.foreign_wait * 1e6), int(settings.keep_events * 1e6)
        await gateway.lanes.trim(gateway.topics.calls, GROUP, keep_us=0, wait_us=wait_us)
        for stream in (gateway.topics.results, gateway.topics.events):
            await gateway.lanes.trim(stream, "", keep_us=keep_us, wait_us=wait_us)

    return [
        Chore(name="beat", every_s=settings.beat_every, run=gateway.fleet.beat),
        Chore(name="bus", every_s=settings.beat_every, run=look_after_bus),
        Chore(name="sweep", every_s=settings.beat_every, run=sweep),
        Chore(name="reap", every_s=settings.reap_every, run=worker.reap),
        Chore(name="trim", every_s=settings.trim_every, run=trim),
    ]


async def run_worker(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; then let what is under way end."""
    stop = stop_event()
    async with open_gateway(settings, "worker") as gateway:
        if not await _joined(gateway, stop):
            return
        worker, bus = worker_of(gateway), bus_of(gateway)
        await bus.start()
        house = [asyncio.create_task(keep_house(chore)) for chore in chores(gateway, worker, bus)]
        working = asyncio.create_task(worker.run())
        log.info("worker.started", worker=gateway.ambient.worker, tools=len(gateway.catalog().operations))
        await stop.wait()
        await bus.stop()
        worker.stop()
        await working
        for task in house:
            task.cancel()
        with contextlib.suppress(*PASSING, TimeoutError):
            await asyncio.wait_for(gateway.fleet.leave(), 1.0)
        log.info("worker.stopped", worker=gateway.ambient.worker)


async def run_api(settings: Settings) -> None:
    """Serve HTTP until SIGTERM or SIGINT."""
    async with open_gateway(settings, "api") as gateway:
        app = api.build(_api_parts(gateway))
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            # Long polls would hold a stop up: they are cut, and their callers ask again.
            timeout_graceful_shutdown=GRACE_S,
            limit_concurrency=MOST_REQUESTS,
            lifespan="on",
        )
        await uvicorn.Server(config).serve()


def _api_parts(gateway: Gateway) -> api.ApiParts:
    return api.ApiParts(
        intake=gateway.intake,
        status=gateway.status,
        catalog=gateway.catalog,
        ready=lambda: readiness(gateway),
        stats=gateway.lanes.stats,
        asyncapi=lambda: api.asyncapi.document(gateway.topics),
        max_body_bytes=gateway.settings.max_event_bytes,
        ambient=gateway.ambient,
    )


async def readiness(gateway: Gateway) -> list[api.Check]:
    """Say whether calls that come in now will be worked on."""
    try:
        await gateway.redis.set(gateway.shard.key("probe"), 1, px=10_000)
        alive = await gateway.fleet.anybody()
    except PASSING as error:
        return [api.Check(name="redis", ok=False, detail=f"Redis does not answer: {type(error).__name__}")]
    told = "a worker gave a sign of life" if alive else "no worker has given a sign of life"
    return [
        api.Check(name="redis", ok=True, detail="writes are answered"),
        api.Check(name="worker", ok=alive, detail=told),
    ]


async def _joined(gateway: Gateway, stop: asyncio.Event) -> bool:
    """Wait for Redis and join the fleet; false when a stop came first."""
    while not stop.is_set():
        try:
            await gateway.fleet.beat()
            await gateway.fleet.ensure_group(gateway.topics.calls)
        except PASSING as error:
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
    telemetry.configure(settings.log_level)
    if complain(unsupported(settings)):
        return 2
    uvloop.run(run_worker(settings))
    return 0


def serve(settings: Settings) -> int:
    """Be an API process."""
    telemetry.configure(settings.log_level)
    if complain(unsupported(settings) or exposure(settings)):
        return 2
    uvloop.run(run_api(settings))
    return 0


def complain(problem: str | None) -> bool:
    """Tell the person who started this what is wrong; true when something is."""
    if problem is not None:
        print(problem, file=sys.stderr)  # noqa: T201 - for the person who started it
    return problem is not None


def unsupported(settings: Settings) -> str | None:
    """Say which setting asks for what this version cannot do."""
    missing = [str(path) for path in settings.connectors if not path.exists()]
    if missing and "connectors" in settings.model_fields_set:
        # Not merely fewer tools: an agent's limits may have stood there.
        return f"SLUICE_CONNECTORS names what does not exist: {', '.join(missing)}. Correct it, or make the directory."
    if settings.bus_url is None or settings.bus_url == settings.state_url:
        return None
    return (
        "SLUICE_BUS_URL names another server than SLUICE_REDIS_URL: in this version events travel on the Redis that holds "
        "the state, so that both are written in one step. Leave SLUICE_BUS_URL unset."
    )


def exposure(settings: Settings) -> str | None:
    """Say why the API may not be bound where the settings want it."""
    if settings.host in LOOPBACK or load_catalog(settings, quiet=True).operators:
        return None
    return (
        f"The API may not listen on {settings.host}: no Operator is declared, so anybody there could call any tool. "
        "Declare one (kind: Operator) or use SLUICE_HOST=127.0.0.1."
    )

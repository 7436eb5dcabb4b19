"""The composition root: the only file that knows every concrete class, and the only one with a clock and dice."""

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from redis.asyncio import Redis
from ulid import ULID

from connectors import catalog as manifests
from connectors.catalog import Catalog
from connectors.pipeline import Pipeline
from connectors.transport import Engine
from dlq.blobs import BlobStore
from dlq.keys import KeyRing
from dlq.redaction import Sealer
from gateway import telemetry
from gateway.flow.delivery import Delivery, Parts
from gateway.flow.delivery import Terms as DeliveryTerms
from gateway.flow.intake import Intake
from gateway.flow.intake import Terms as IntakeTerms
from gateway.flow.letters import Letters
from gateway.flow.status import Status
from gateway.lanes.connect import connect
from gateway.lanes.fleet import Fleet
from gateway.lanes.queue import Lanes
from gateway.lanes.signals import Signals
from gateway.policy.backoff import Backoff
from gateway.policy.budget import BudgetTerms
from gateway.ports import Ambient
from gateway.settings import Settings
from schemas.cloudevent import CloudEvent, publishable
from schemas.lifecycle import CallState
from schemas.outcome import Outcome
from schemas.tool_call import ToolCall
from schemas.topics import FIELD, Shard, Topics

log = structlog.get_logger()


def ambient(role: str) -> Ambient:
    """Make this process's clock, dice and name; the name is new at every start."""
    started = f"{time.time_ns():x}"
    return Ambient(
        now=lambda: datetime.now(UTC),
        monotonic=lambda: time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)),
        new_id=lambda: str(ULID()),
        new_trace=lambda: f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
        uniform=random.uniform,
        worker=f"{role}-{socket.gethostname()}-{os.getpid()}-{started[-8:]}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One process's parts, joined."""

    settings: Settings
    ambient: Ambient
    redis: "Redis"
    topics: Topics
    shard: Shard
    lanes: Lanes
    fleet: Fleet
    signals: Signals
    catalog: Callable[[], Catalog]
    intake: Intake
    delivery: Delivery
    status: Status

    async def alert(self, kind: str, facts: dict[str, object]) -> None:
        """Publish an alert of the gateway itself, and log it."""
        log.error(kind, **facts)
        now = self.ambient.now().isoformat().replace("+00:00", "Z")
        event = CloudEvent(type=kind, id=self.ambient.new_id(), time=now, data=facts)
        await self.redis.xadd(self.topics.alerts, {FIELD: publishable(event)})


@asynccontextmanager
async def open_gateway(settings: Settings, role: str) -> AsyncIterator[Gateway]:
    """Join the parts for one process and take them apart again."""
    around = ambient(role)
    loaded = load_catalog(settings)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(settings.state_url))
        listener = await stack.enter_async_context(connect(settings.state_url, timeout_s=None))
        engine = Engine()
        await engine.open()
        stack.push_async_callback(engine.close)
        shard, topics = Shard(), Topics(settings.topic_prefix)
        lanes = Lanes(redis, topics, shard=shard, batch=settings.script_batch, wait_s=settings.redis_wait)
        signals = Signals(listener, shard, wait_s=settings.redis_wait)
        listening = asyncio.create_task(signals.listen())
        stack.callback(listening.cancel)
        parts = _Joined(settings, around, loaded, lanes, engine)
        yield Gateway(
            settings=settings,
            ambient=around,
            redis=redis,
            topics=topics,
            shard=shard,
            lanes=lanes,
            fleet=Fleet(redis, shard, around.worker, dead_after_s=settings.dead_after),
            signals=signals,
            catalog=parts.catalog,
            intake=parts.intake,
            delivery=parts.delivery,
            status=Status(lanes, parts.delivery, signals.settled, around),
        )


def load_catalog(settings: Settings, *, quiet: bool = False) -> Catalog:
    """Load the manifests; what is wrong with them is logged, and what is right is used."""
    loaded = manifests.load([path for path in settings.connectors if path.exists()], os.environ)
    for problem in () if quiet else loaded.problems:
        (log.error if problem.severity == "error" else log.warning)("manifest.problem", problem=str(problem))
    return loaded.catalog


class _Joined:
    """Intake and delivery over one set of lanes."""

    def __init__(self, settings: Settings, around: Ambient, catalog: Catalog, lanes: Lanes, engine: Engine) -> None:
        self.catalog: Callable[[], Catalog] = lambda: catalog
        keys = KeyRing.load(settings.keys.get_secret_value() if settings.keys else None, settings.data)
        sealer = Sealer(keys, BlobStore(settings.data / "blobs", settings.blob_cap))
        letters = Letters(sealer, self.catalog, around)
        self.intake = Intake(
            lanes, self.catalog, ambient=around, terms=_intake_terms(settings), letter=letters.for_entry
        )
        pipeline = Pipeline(
            engine,
            clock=lambda: around.now().timestamp(),
            new_span=lambda: secrets.token_hex(8),
            cap_wire_bytes=settings.wire_cap,
            cap_decoded_bytes=settings.decoded_cap,
        )
        parts = Parts(queue=lanes, vendor=pipeline, catalog=self.catalog, letter=letters.for_call, observe=_observe)
        self.delivery = Delivery(parts, ambient=around, terms=_delivery_terms(settings))


def _observe(call: ToolCall, outcome: Outcome, state: CallState | None) -> None:
    operation = call.tool.removeprefix(call.connector + ".")
    if outcome.status is not None or outcome.spends_attempt:
        telemetry.record_attempt(
            call.connector, operation, status=outcome.status, duration_s=outcome.duration_ms / 1000
        )
    if state is not None:
        telemetry.record_end(call.connector, operation, outcome=state)


def _intake_terms(settings: Settings) -> IntakeTerms:
    return IntakeTerms(
        max_event_bytes=settings.max_event_bytes,
        deadline_s=settings.call_deadline,
        queue_limit=settings.queue_limit,
        answer_ttl_s=settings.answer_ttl,
    )


def _delivery_terms(settings: Settings) -> DeliveryTerms:
    return DeliveryTerms(
        start_within_s=settings.start_within,
        max_crashes=settings.max_crashes,
        answer_ttl_s=settings.answer_ttl,
        scope_ttl_s=settings.scope_ttl,
        backoff=Backoff(base_s=settings.backoff_base, cap_s=settings.backoff_cap),
        budget=BudgetTerms(share=settings.retry_share, floor_per_s=settings.retry_floor, most=settings.retry_most),
    )

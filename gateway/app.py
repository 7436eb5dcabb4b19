"""The composition root: the only file that knows every concrete class, and the only one with a clock and dice."""

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from redis.asyncio import Redis
from ulid import ULID

from connectors import catalog as manifests
from connectors.catalog import Catalog
from connectors.pipeline import Pipeline
from connectors.reach import Reach
from connectors.transport import Engine
from dlq.blobs import BlobStore
from dlq.keys import KeyRing
from dlq.redaction import Sealer, scrub_bytes
from gateway import telemetry
from gateway.alerting import Alerting, alerting_of
from gateway.alerts import Alerts
from gateway.endings import ended
from gateway.flow.approvals import Approvals
from gateway.flow.approvals import Parts as Reviewing
from gateway.flow.delivery import Delivery, Parts
from gateway.flow.delivery import Terms as DeliveryTerms
from gateway.flow.echoes import Echoes
from gateway.flow.intake import Intake
from gateway.flow.intake import Terms as IntakeTerms
from gateway.flow.letters import Letters
from gateway.flow.recall import Past, Recall
from gateway.flow.reports import result_again
from gateway.flow.settlements import Tried
from gateway.flow.status import NOBODY, Finale, Seen, Status
from gateway.guards import Common, Guarding, open_guards
from gateway.journal.calls import Calls
from gateway.journal.database import Away, Database, Missing
from gateway.journal.follow import Following
from gateway.lanes.evidence import Witness
from gateway.lanes.fleet import Epoch, Fleet
from gateway.lanes.marks import Copies
from gateway.lanes.queue import Lanes
from gateway.lanes.queue import Terms as LaneTerms
from gateway.lanes.reviews import Reviews
from gateway.lanes.signals import Signals
from gateway.lanes.spread.above import AllTails
from gateway.lanes.spread.queue import AllLanes, AllReviews
from gateway.lanes.spread.shards import Seat, Shards, reach
from gateway.lanes.spread.stores import AllWitnesses
from gateway.lanes.topic_tail import TopicTail
from gateway.policy.backoff import Backoff
from gateway.policy.budget import BudgetTerms
from gateway.policy.bus_address import kafka_servers
from gateway.policy.plans import plans
from gateway.policy.replays import only_judged
from gateway.ports import Ambient, Plan
from gateway.replaying import Replaying, replaying
from gateway.settings import Settings
from schemas.codec import encode
from schemas.lifecycle import CallState
from schemas.moment import moment
from schemas.topics import GROUP, Shard, Topics

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
class History:
    """The reading side of the journal."""

    database: Database
    calls: Calls
    following: Following

    async def remembered(self, call: str) -> Seen:
        """Return how a call ended that Redis has forgotten; raises `Away`."""
        try:
            kept = await self.calls.ended(call)
        except Missing:
            return NOBODY
        return NOBODY if kept is None else (Finale(data=kept.data, attempts=kept.attempts), kept.agent)

    async def past(self, call: str) -> Past | None:
        """Return how a call ended, to be told again; raises `Away`, also while there is no journal."""
        kept = await self.calls.ended(call)
        if kept is None:
            return None
        traceparent = kept.trace_id and f"00-{kept.trace_id}-{secrets.token_hex(8)}-01"
        event = result_again(kept.data, moment(kept.ended_us), traceparent)
        return Past(event=event, attempts_json=encode(kept.attempts).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One process's parts, joined."""

    settings: Settings
    ambient: Ambient
    shards: Shards
    topics: Topics
    lanes: AllLanes
    fleet: Fleet
    epochs: tuple[Epoch, ...]
    """In the order of the shards."""
    signals: Signals
    catalog: Callable[[], Catalog]
    intake: Intake
    delivery: Delivery
    status: Status
    alerts: Alerts
    guarding: Guarding
    echoes: Echoes
    approvals: Approvals
    history: History
    alerting: Alerting
    witness: AllWitnesses
    reach: Reach
    replaying: Replaying

    @property
    def redis(self) -> "Redis":
        """The client of the first shard, where that is which belongs to no connector."""
        return self.shards.home.redis

    @property
    def shard(self) -> Shard:
        """The first shard."""
        return self.shards.home.shard


@asynccontextmanager
async def open_gateway(settings: Settings, role: str) -> AsyncIterator[Gateway]:
    """Join the parts for one process and take them apart again."""
    async with AsyncExitStack() as stack:
        common = await _common(stack, settings, ambient(role))
        guarding = await stack.enter_async_context(open_guards(common))
        names = [seat.shard for seat in common.shards.parts]
        signals = Signals(common.shards.home.listener, *names, wait_s=settings.redis_wait)
        stack.push_async_callback(ended, [asyncio.create_task(signals.listen())])
        sealer = Sealer(common.keys, BlobStore(settings.data / "blobs", settings.blob_cap))
        letters = Letters(sealer, common.catalog, common.ambient, common.alerts.publish)
        history = _history(common)
        stack.push_async_callback(history.database.close)
        gateway = _joined(common, guarding, signals, Kept(letters=letters, sealer=sealer, history=history))
        stack.push_async_callback(gateway.status.close)
        yield gateway


def _history(common: Common) -> History:
    database = Database(common.settings.journal, writes=False)
    calls = Calls(database)
    tails = {seat.topics: TopicTail(seat.listener, seat.topics.events) for seat in common.shards.writing}
    tail = AllTails([tails[seat.topics] for seat in common.shards.parts])
    following = Following(calls, tail, common.ambient.monotonic)
    return History(database=database, calls=calls, following=following)


async def _common(stack: AsyncExitStack, settings: Settings, around: Ambient) -> Common:
    """Make what every part stands on: Redis, the wire to vendors, the manifests, the keys."""
    loaded = load_catalog(settings)
    known = plans(loaded.operations.values(), grace_us=grace_us(settings))
    shards = await stack.enter_async_context(reach(settings.state_url, settings.topic_prefix, settings.shards))
    home, terms = shards.home, _lane_terms(settings)
    engine = Engine()
    await engine.open()
    stack.push_async_callback(engine.close)
    return Common(
        settings=settings,
        ambient=replace(around, placed=shards.placed),
        shards=shards,
        topics=Topics(settings.topic_prefix),
        lanes=AllLanes([_lanes(seat, shards, terms, known) for seat in shards.parts]),
        engine=engine,
        alerts=Alerts(home.redis, home.topics.alerts, around),
        keys=KeyRing.load(settings.keys.get_secret_value() if settings.keys else None, settings.data),
        catalog=lambda: loaded,  # asked for each call, so that a reload needs no other change
    )


def _lanes(seat: Seat, shards: Shards, terms: LaneTerms, known: Mapping[str, Plan]) -> Lanes:
    ours = {name: plan for name, plan in known.items() if shards.of_lane(name) is seat}
    return Lanes(seat.redis, seat.topics, shard=seat.shard, terms=terms, plans=lambda: ours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What outlives a call: its letter, the keys that seal it, and the journal."""

    letters: Letters
    sealer: Sealer
    history: History


def _joined(common: Common, guarding: Guarding, signals: Signals, kept: Kept) -> Gateway:
    letters = kept.letters
    settings, around, lanes, catalog = common.settings, common.ambient, common.lanes, common.catalog
    echoes = Echoes()
    shards = common.shards
    witness = AllWitnesses([Witness(seat.redis, seat.shard) for seat in shards.parts])
    parts = Parts(
        queue=lanes,
        vendor=_pipeline(common, guarding, echoes),
        catalog=catalog,
        letter=letters.for_call,
        contracts=guarding.watch,
        quarantine=guarding.quarantine,
        observe=lambda tried, state: _observe(witness, tried, state),
    )
    delivery = Delivery(parts, ambient=around, terms=_delivery_terms(settings))
    intake = Intake(lanes, catalog, ambient=around, terms=_intake_terms(settings), letter=letters.for_entry)
    intake.refused = telemetry.record_refusal
    intake.recall = _recall(common, kept.history).endings
    return Gateway(
        settings=settings,
        ambient=around,
        shards=shards,
        topics=common.topics,
        lanes=lanes,
        fleet=Fleet(shards.home.redis, shards.home.shard, around.worker, dead_after_s=settings.dead_after),
        epochs=_epochs(common),
        signals=signals,
        catalog=catalog,
        intake=intake,
        delivery=delivery,
        status=Status(lanes, delivery, signals.settled, around, kept.history.remembered),
        alerts=common.alerts,
        guarding=guarding,
        echoes=echoes,
        approvals=Approvals(_reviewing(common, delivery), around),
        history=kept.history,
        alerting=alerting_of(common, guarding),
        witness=witness,
        reach=Reach(around.monotonic),
        replaying=replaying(common, intake, kept.sealer, kept.history.database),
    )


def _reviewing(common: Common, delivery: Delivery) -> Reviewing:
    pairs = zip(common.shards.parts, common.lanes.parts, strict=True)
    queue = AllReviews([Reviews(seat.redis, seat.shard, lanes) for seat, lanes in pairs])
    return Reviewing(queue=queue, inspect=common.lanes.inspect, end=delivery.reviewed)


def _epochs(common: Common) -> tuple[Epoch, ...]:
    data, new_id = common.settings.data, common.ambient.new_id
    names = [f"epoch.{number}" if number else "epoch" for number in range(len(common.lanes.parts))]
    return tuple(Epoch(lanes, data / name, new_id) for lanes, name in zip(common.lanes.parts, names, strict=True))


def _recall(common: Common, history: History) -> Recall:
    return Recall(
        history.past,
        away=(Away,),
        monotonic=common.ambient.monotonic,
        answer_ttl_s=common.settings.answer_ttl,
    )


def load_catalog(settings: Settings, *, quiet: bool = False) -> Catalog:
    """Load the manifests; what is wrong with them is logged, and what is right is used."""
    loaded = manifests.load([path for path in settings.connectors if path.exists()], os.environ)
    for problem in () if quiet else loaded.problems:
        (log.error if problem.severity == "error" else log.warning)("manifest.problem", problem=str(problem))
    return loaded.catalog


def _pipeline(common: Common, guarding: Guarding, echoes: Echoes) -> Pipeline:
    settings, around = common.settings, common.ambient
    return Pipeline(
        common.engine,
        guarding.guards,
        clock=lambda: around.now().timestamp(),
        new_span=lambda: secrets.token_hex(8),
        scrub=scrub_bytes,
        cap_wire_bytes=settings.wire_cap,
        cap_decoded_bytes=settings.decoded_cap,
        answered=echoes.heard,
    )


def _observe(witness: AllWitnesses, tried: Tried, state: CallState | None) -> None:
    call, outcome = tried.call, tried.outcome
    if tried.tried and not tried.crashed:
        witness.saw(call.lane, outcome)
    operation = call.tool.removeprefix(call.connector + ".")
    if tried.tried and tried.claim.run.tries == 0:
        wait_s = max(0, tried.started_us - call.accepted_us) / 1_000_000
        telemetry.record_wait(call.connector, operation, wait_s=wait_s)
    if (outcome.status is not None or outcome.spends_attempt) and not only_judged(call):
        telemetry.record_attempt(
            call.connector, operation, status=outcome.status, duration_s=outcome.duration_ms / 1000
        )
    if outcome.limited:
        telemetry.record_limited(call.connector, operation)
    if state is not None:
        telemetry.record_end(call.connector, operation, outcome=state, replay=call.replay_of is not None)


def _lane_terms(settings: Settings) -> LaneTerms:
    return LaneTerms(
        items=settings.script_batch,
        size_bytes=settings.flight_bytes,
        wait_s=settings.redis_wait,
        most_bytes=settings.queue_bytes,
        group=GROUP if kafka_servers(settings.bus_url) is None else "",
        copies=Copies(needed=settings.redis_replicas, wait_ms=int(settings.replica_wait * 1000)),
    )


def grace_us(settings: Settings) -> int:
    """Return what a lease has beyond the call's timeout: the time to start, and the guard."""
    return int((settings.start_within + settings.lease_guard) * 1_000_000)


def _intake_terms(settings: Settings) -> IntakeTerms:
    return IntakeTerms(
        max_event_bytes=settings.max_event_bytes,
        deadline_s=settings.call_deadline,
        queue_limit=settings.queue_limit,
        answer_ttl_s=settings.scope_ttl,
    )


def _delivery_terms(settings: Settings) -> DeliveryTerms:
    return DeliveryTerms(
        start_within_s=settings.start_within,
        max_crashes=settings.max_crashes,
        answer_ttl_s=settings.scope_ttl,  # the journal may shorten it, since it knows what it has written
        scope_ttl_s=settings.scope_ttl,
        backoff=Backoff(base_s=settings.backoff_base, cap_s=settings.backoff_cap),
        budget=BudgetTerms(
            share=settings.retry_share,
            floor_per_s=settings.retry_floor,
            most=settings.retry_most,
            longest_s=settings.retry_longest,
        ),
    )

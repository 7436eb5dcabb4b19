"""Which bus: the one place where a scheme becomes parts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from gateway.entrypoints.bus.alone import Alone
from gateway.entrypoints.bus.on_redis import Bus as Subscription
from gateway.entrypoints.bus.on_redis import RedisBus, Sweeper
from gateway.entrypoints.bus.port import Bus
from gateway.flow.intake import Intake
from gateway.lanes.fleet import Fleet
from gateway.lanes.offsets import Offsets
from gateway.lanes.queue import Lanes
from gateway.policy.bus_address import kafka_servers
from gateway.settings import Settings
from schemas.topics import GROUP, Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a bus stands among."""

    settings: Settings
    topics: Topics
    redis: "Redis"
    lanes: Lanes
    fleet: Fleet
    intake: Intake
    epoch: Callable[[], str]
    """The name of the state this process works on."""
    forgot: Callable[[], Awaitable[None]]
    """Asks for it again."""


def bus_of(around: Around) -> Bus:
    """Build the subscription to `tool-calls`."""
    return _redis(around) if kafka_servers(around.settings.bus_url) is None else _kafka(around)


def _redis(around: Around) -> Bus:
    settings, stream, fleet = around.settings, around.topics.calls, around.fleet
    url = settings.bus_url or settings.state_url
    bus = Subscription(url, stream, around.intake, consumer=fleet.worker, batch=settings.intake_batch)
    sweeper = Sweeper(around.lanes, around.redis, stream, fleet, most_alone=settings.max_alone)
    return RedisBus(bus, sweeper, fleet, intake=around.intake, dead_idle_ms=int(settings.beat_every * 1000))


def _kafka(around: Around) -> Bus:
    from gateway.entrypoints.bus.on_kafka import KafkaBus, Parts, Terms  # noqa: PLC0415 - a Redis bus does not pay for it
    from gateway.entrypoints.bus.rereading import Rereading  # noqa: PLC0415 - as above
    from gateway.entrypoints.bus.rereading import Terms as LossTerms  # noqa: PLC0415 - as above
    from gateway.kafka.cluster import cluster_of  # noqa: PLC0415 - as above
    from gateway.kafka.topics import Wanted  # noqa: PLC0415

    settings, topics, shard = around.settings, around.topics, around.lanes.shard
    cluster = cluster_of(settings)
    assert cluster is not None  # noqa: S101 - the URL's scheme was looked at
    wanted = Wanted(
        names=(topics.calls, *topics.outgoing), partitions=settings.bus_partitions, copies=settings.kafka_copies
    )
    terms = Terms(
        cluster=cluster,
        topic=topics.calls,
        group=topics.prefix + GROUP,
        consumer=around.fleet.worker,
        batch=settings.intake_batch,
        session_s=settings.bus_session,
        poll_within_s=settings.bus_poll_within,
        wanted=wanted,
    )
    offsets = Offsets(around.redis, shard, around.epoch)
    parts = Parts(
        intake=around.intake,
        offsets=offsets,
        rereading=Rereading(offsets, LossTerms(seconds=settings.kafka_reread, forgot=around.forgot)),
        alone=Alone(around.redis, shard, most=settings.max_alone),
    )
    return KafkaBus(terms, parts)

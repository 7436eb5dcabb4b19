"""Which bus: the one place where a scheme becomes parts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.entrypoints.bus.alone import Alone
from gateway.entrypoints.bus.on_redis import Bus as Subscription
from gateway.entrypoints.bus.on_redis import RedisBus, Sweeper
from gateway.entrypoints.bus.port import Bus
from gateway.flow.intake import Intake
from gateway.lanes.fleet import Fleet
from gateway.lanes.offsets import Offsets
from gateway.lanes.spread.above import AllOffsets
from gateway.lanes.spread.queue import AllLanes
from gateway.lanes.spread.shards import Shards
from gateway.policy.bus_address import kafka_servers
from gateway.settings import Settings
from schemas.topics import GROUP, Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a bus stands among."""

    settings: Settings
    topics: Topics
    shards: Shards
    lanes: AllLanes
    fleet: Fleet
    intake: Intake
    epochs: Sequence[Callable[[], str]]
    """The name of the state this process works on, of each shard."""
    forgot: Callable[[], Awaitable[None]]
    """Asks for it again."""


def bus_of(around: Around) -> Bus:
    """Build the subscription to `tool-calls`."""
    return _redis(around) if kafka_servers(around.settings.bus_url) is None else _kafka(around)


def _redis(around: Around) -> Bus:
    settings, stream, fleet = around.settings, around.topics.calls, around.fleet
    url = settings.bus_url or settings.state_url
    bus = Subscription(url, stream, around.intake, consumer=fleet.worker, batch=settings.intake_batch)
    home = around.shards.home
    alone = Alone(home.redis, home.shard, most=settings.max_alone)
    sweeper = Sweeper(around.lanes, home.redis, stream, fleet, alone)
    return RedisBus(bus, sweeper, fleet, intake=around.intake, dead_idle_ms=int(settings.beat_every * 1000))


def _kafka(around: Around) -> Bus:
    from gateway.entrypoints.bus.on_kafka import KafkaBus, Parts, Terms  # noqa: PLC0415 - a Redis bus does not pay for it
    from gateway.entrypoints.bus.rereading import Rereading  # noqa: PLC0415 - as above
    from gateway.entrypoints.bus.rereading import Terms as LossTerms  # noqa: PLC0415 - as above
    from gateway.kafka.cluster import brokers_of  # noqa: PLC0415 - as above
    from gateway.kafka.topics import Wanted  # noqa: PLC0415

    settings, topics, home = around.settings, around.topics, around.shards.home
    cluster = brokers_of(settings)
    wanted = Wanted(
        names=(topics.calls, *topics.outgoing), partitions=settings.bus_partitions, copies=settings.kafka_copies
    )
    offsets = AllOffsets(
        [Offsets(seat.redis, seat.shard, epoch) for seat, epoch in zip(around.shards.parts, around.epochs, strict=True)]
    )
    # With one shard the script that refuses sees the mark itself.
    stored = offsets.stored if len(offsets.parts) > 1 else None
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
    parts = Parts(
        intake=around.intake,
        offsets=offsets,
        rereading=Rereading(offsets, LossTerms(seconds=settings.kafka_reread, forgot=around.forgot)),
        alone=Alone(home.redis, home.shard, most=settings.max_alone, stored=stored),
    )
    return KafkaBus(terms, parts)

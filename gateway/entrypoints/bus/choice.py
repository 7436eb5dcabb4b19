"""Which bus: the one place where a scheme becomes parts."""

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


def bus_of(around: Around) -> Bus:
    """Build the subscription to `tool-calls`."""
    servers = kafka_servers(around.settings.bus_url)
    return _redis(around) if servers is None else _kafka(around, servers)


def _redis(around: Around) -> Bus:
    settings, stream, fleet = around.settings, around.topics.calls, around.fleet
    url = settings.bus_url or settings.state_url
    bus = Subscription(url, stream, around.intake, consumer=fleet.worker, batch=settings.intake_batch)
    home = around.shards.home
    alone = Alone(home.redis, home.shard, most=settings.max_alone)
    sweeper = Sweeper(around.lanes, home.redis, stream, fleet, alone)
    return RedisBus(bus, sweeper, fleet, intake=around.intake, dead_idle_ms=int(settings.beat_every * 1000))


def _kafka(around: Around, servers: list[str]) -> Bus:
    from gateway.entrypoints.bus.on_kafka import KafkaBus, Parts, Terms  # noqa: PLC0415 - a Redis bus does not pay for it
    from gateway.kafka.topics import Wanted  # noqa: PLC0415

    settings, topics, home = around.settings, around.topics, around.shards.home
    offsets = AllOffsets([Offsets(seat.redis, seat.shard) for seat in around.shards.parts])
    # With one shard the script that refuses sees the mark itself.
    stored = offsets.stored if len(offsets.parts) > 1 else None
    terms = Terms(
        servers=servers,
        topic=topics.calls,
        group=topics.prefix + GROUP,
        consumer=around.fleet.worker,
        batch=settings.intake_batch,
        session_s=settings.bus_session,
        poll_within_s=settings.bus_poll_within,
        wanted=Wanted(names=(topics.calls, *topics.outgoing), partitions=settings.bus_partitions),
    )
    parts = Parts(
        intake=around.intake,
        offsets=offsets,
        alone=Alone(home.redis, home.shard, most=settings.max_alone, stored=stored),
    )
    return KafkaBus(terms, parts)

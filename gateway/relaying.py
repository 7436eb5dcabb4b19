"""The relays of one worker process, one for each set of topics, where events travel on another bus than Redis; nothing otherwise."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gateway import telemetry
from gateway.app import Gateway
from gateway.endings import ended
from gateway.entrypoints.relay import SEND_S, Relay
from gateway.lanes.fleet import Fleet
from gateway.lanes.outbox import Outbox, Wires
from gateway.lanes.spread.shards import Seat
from gateway.policy.bus_address import kafka_servers


@contextlib.asynccontextmanager
async def relaying(gateway: Gateway) -> AsyncIterator[None]:
    """Send the outbox on as long as this lasts; then what is in hand is sent."""
    settings, topics = gateway.settings, gateway.topics
    if kafka_servers(settings.bus_url) is None:
        yield
        return
    from gateway.kafka.cluster import brokers_of  # noqa: PLC0415 - a Redis bus does not pay for it
    from gateway.kafka.producer import Producer  # noqa: PLC0415 - a Redis bus does not pay for it
    from gateway.kafka.topics import Wanted, ensure  # noqa: PLC0415

    cluster = brokers_of(settings)
    wanted = Wanted(names=topics.outgoing, partitions=settings.bus_partitions, copies=settings.kafka_copies)

    def relay_of(seat: Seat) -> Relay:
        # Each has a producer of its own: who loses the turn at one shard closes it, and goes on at the others.
        name = f"{gateway.ambient.worker}-{seat.shard.number}"
        producer = Producer(cluster, name=name, within_s=SEND_S, measure=lambda: ensure(cluster, wanted))
        fleet = Fleet(seat.redis, seat.shard, gateway.ambient.worker, dead_after_s=settings.dead_after)
        outbox = Outbox(Wires(redis=seat.redis, listener=seat.listener), seat.shard, seat.topics.outgoing, fleet)
        pairs = zip(seat.topics.outgoing, topics.outgoing, strict=True)
        return Relay(
            outbox, producer, telemetry.record_relayed, {here: there for here, there in pairs if here != there}
        )

    relays = [relay_of(seat) for seat in gateway.shards.writing]
    running = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for relay in relays:
            relay.stop()
        await asyncio.wait(running, timeout=STOP_S)
        await ended(running)


STOP_S = 2.0
"""How long the entries in hand may take at a stop; what is not sent then another relay sends."""

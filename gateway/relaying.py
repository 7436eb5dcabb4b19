"""The relay of one worker process, where events travel on another bus than the state's Redis; nothing otherwise."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gateway import telemetry
from gateway.app import Gateway
from gateway.endings import ended
from gateway.entrypoints.relay import SEND_S, Relay
from gateway.lanes.connect import connect
from gateway.lanes.outbox import Outbox, Wires
from gateway.policy.bus_address import kafka_servers


@contextlib.asynccontextmanager
async def relaying(gateway: Gateway) -> AsyncIterator[None]:
    """Send the outbox on as long as this lasts; then what is in hand is sent."""
    settings, topics = gateway.settings, gateway.topics
    if kafka_servers(settings.bus_url) is None:
        yield
        return
    from gateway.kafka.cluster import cluster_of  # noqa: PLC0415 - a Redis bus does not pay for it
    from gateway.kafka.producer import Producer  # noqa: PLC0415 - a Redis bus does not pay for it
    from gateway.kafka.topics import Wanted, ensure  # noqa: PLC0415

    cluster = cluster_of(settings)
    assert cluster is not None  # noqa: S101 - as above
    wanted = Wanted(names=topics.outgoing, partitions=settings.bus_partitions, copies=settings.kafka_copies)
    producer = Producer(cluster, name=gateway.ambient.worker, within_s=SEND_S, measure=lambda: ensure(cluster, wanted))
    async with connect(settings.state_url, timeout_s=None) as listener:
        wires = Wires(redis=gateway.redis, listener=listener)
        relay = Relay(Outbox(wires, gateway.shard, topics.outgoing, gateway.fleet), producer, telemetry.record_relayed)
        running = asyncio.create_task(relay.run())
        try:
            yield
        finally:
            relay.stop()
            await asyncio.wait([running], timeout=STOP_S)
            await ended([running])


STOP_S = 2.0
"""How long the entries in hand may take at a stop; what is not sent then another relay sends."""

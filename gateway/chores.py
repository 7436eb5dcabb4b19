"""A worker's housekeeping: signs of life, the state's name, what was left behind, what is overdue, the watermark,
credentials, patterns, the webhook, trims.
"""

from functools import partial

import structlog

from gateway.app import Gateway
from gateway.entrypoints.bus import Bus
from gateway.entrypoints.worker import Chore, Worker
from gateway.flow.quarantine import EVERY_S as QUARANTINES_EVERY_S
from gateway.flow.token_care import TokenCare
from gateway.lanes.fleet import Epoch
from gateway.lanes.queue import Lanes
from gateway.lanes.spread.above import AllWatermarks
from gateway.lanes.spread.agreement import agree
from gateway.lanes.spread.shards import Seat, together
from gateway.lanes.watermark import Watermark
from gateway.policy.bus_address import kafka_servers
from gateway.settings import Settings
from schemas.topics import GROUP, RELAY

log = structlog.get_logger()

EVIDENCE_EVERY_S = 0.5
"""How often a worker tells what its calls have shown of vendors."""

TOKENS_EVERY_S = 5.0
"""How often credentials are looked after: a token that lives shorter is renewed by the calls that use it."""

REVIEWS_EVERY_S = 1.0
"""How late a decision that nobody made may be noticed."""

REPLAYS_EVERY_S = 0.5
"""How often the next step of a replay is taken: more often only asks whether there is one."""

ORPHANS_EVERY_S = 600.0
"""How often files are looked for that no letter names: only what died between file and letter leaves any."""

STEERS_BUS = frozenset({"bus", "watermark"})
"""Chores that start and stop the bus: they end before it does."""


def chores(gateway: Gateway, worker: Worker, bus: Bus) -> list[Chore]:
    """List what is to be done, and how often."""
    settings = gateway.settings
    watermark = AllWatermarks(
        [
            Watermark(seat.redis, seat.shard, high_bytes=settings.memory_high, low_share=settings.memory_low)
            for seat in gateway.shards.parts
        ]
    )

    care = _care(gateway)

    async def look_after_bus() -> None:
        await check_epoch(gateway)
        await bus.look_after()

    return [
        Chore(name="beat", every_s=settings.beat_every, run=gateway.fleet.beat),
        Chore(name="bus", every_s=settings.beat_every, run=look_after_bus),
        Chore(name="sweep", every_s=settings.beat_every, run=bus.sweep),
        Chore(name="watermark", every_s=settings.beat_every, run=lambda: hold_back(watermark, bus)),
        *_of_each_shard(worker, settings.reap_every),
        Chore(name="reviews", every_s=REVIEWS_EVERY_S, run=gateway.approvals.expire),
        Chore(name="replays", every_s=REPLAYS_EVERY_S, run=gateway.replaying.runner.tick),
        Chore(name="tokens", every_s=TOKENS_EVERY_S, run=care.run),
        Chore(name="alerts", every_s=settings.alert_every, run=gateway.alerting.watch.run),
        Chore(name="webhook", every_s=min(1.0, settings.alert_every), run=gateway.alerting.webhook.run),
        Chore(name="quarantines", every_s=QUARANTINES_EVERY_S, run=gateway.guarding.quarantine.look),
        Chore(name="evidence", every_s=EVIDENCE_EVERY_S, run=gateway.witness.flush),
        Chore(name="trim", every_s=settings.trim_every, run=lambda: trim(gateway)),
        Chore(name="letters.forget", every_s=settings.trim_every, run=gateway.replaying.care.forget),
        Chore(name="letters.sweep", every_s=ORPHANS_EVERY_S, run=gateway.replaying.care.sweep),
    ]


def _of_each_shard(worker: Worker, every_s: float) -> list[Chore]:
    """What takes calls in hand: a shard that does not answer keeps no other one waiting."""
    return [
        Chore(name=name if number == 0 else f"{name}.{number}", every_s=every_s, run=partial(take, post))
        for number, post in enumerate(worker.posts)
        for name, take in (("reap", worker.reap), ("overdue", worker.end_overdue))
    ]


async def trim(gateway: Gateway) -> None:
    """Forget what is done with on the topics; what the journal has not written, or the bus not taken, stays however long that takes."""
    await together(
        gateway.shards.writing, lambda seat: _trim(gateway.settings, seat, gateway.lanes.parts[seat.shard.number])
    )


async def _trim(settings: Settings, seat: Seat, lanes: Lanes) -> None:
    topics = seat.topics
    wait_us, keep_us = int(settings.foreign_wait * 1e6), int(settings.keep_events * 1e6)
    if kafka_servers(settings.bus_url) is None:
        await lanes.trim(topics.calls, GROUP, keep_us=0, wait_us=wait_us)
        await lanes.trim(topics.results, GROUP, keep_us=keep_us, wait_us=wait_us)
        await lanes.trim(topics.events, GROUP, keep_us=keep_us, wait_us=wait_us)
    else:
        # Nobody reads results here; alerts and those who follow a call read events.
        await lanes.trim(topics.results, RELAY, keep_us=0, wait_us=wait_us)
        await lanes.trim(topics.events, RELAY, keep_us=keep_us, wait_us=wait_us)


def _care(gateway: Gateway) -> TokenCare:
    return TokenCare(gateway.guarding.guards.tokens, gateway.guarding.tokens.agree, gateway.catalog)


async def check_epoch(gateway: Gateway) -> None:
    """Find out whether Redis has forgotten, in any shard; then limits start full, and it is told."""
    await together(gateway.epochs, partial(check_epoch_of, gateway))


async def check_epoch_of(gateway: Gateway, epoch: Epoch) -> None:
    """Find out whether one shard was forgotten."""

    async def lost(expected: str, found: str) -> None:
        shard = {"shard": gateway.epochs.index(epoch)} if len(gateway.epochs) > 1 else {}
        await gateway.alerts.publish("gateway.epoch_lost", {"expected": expected, "found": found, **shard})
        await _care(gateway).forgot()
        await agree(gateway.shards)

    await epoch.check(lost)


async def hold_back(watermark: AllWatermarks, bus: Bus) -> None:
    """Pause the bus while the queue is flooded, and read it again when it has drained."""
    level = await watermark.look()
    if level.flooded == bus.paused:
        return
    facts = {"used_bytes": level.used_bytes, "queue_bytes": level.queue_bytes, "high_bytes": level.high_bytes}
    if level.flooded:
        await bus.pause()
        log.warning("queue.flooded", **facts)
    else:
        await bus.resume()
        log.warning("queue.drained", **facts)

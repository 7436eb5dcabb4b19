"""A worker's housekeeping: signs of life, the state's name, what was left behind, what is overdue, the watermark,
credentials, patterns, the webhook, trims.
"""

import structlog

from gateway.app import Gateway
from gateway.entrypoints.bus import Bus
from gateway.entrypoints.worker import Chore, Worker
from gateway.flow.quarantine import EVERY_S as QUARANTINES_EVERY_S
from gateway.flow.token_care import TokenCare
from gateway.lanes.watermark import Watermark
from gateway.policy.bus_address import kafka_servers
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
    watermark = Watermark(gateway.redis, gateway.shard, high_bytes=settings.memory_high, low_share=settings.memory_low)

    care = _care(gateway)

    async def look_after_bus() -> None:
        await check_epoch(gateway)
        await bus.look_after()

    return [
        Chore(name="beat", every_s=settings.beat_every, run=gateway.fleet.beat),
        Chore(name="bus", every_s=settings.beat_every, run=look_after_bus),
        Chore(name="sweep", every_s=settings.beat_every, run=bus.sweep),
        Chore(name="watermark", every_s=settings.beat_every, run=lambda: hold_back(watermark, bus)),
        Chore(name="reap", every_s=settings.reap_every, run=worker.reap),
        Chore(name="overdue", every_s=settings.reap_every, run=worker.end_overdue),
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


async def trim(gateway: Gateway) -> None:
    """Forget what is done with on the topics; what the journal has not written, or the bus not taken, stays however long that takes."""
    settings, topics, lanes = gateway.settings, gateway.topics, gateway.lanes
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
    """Find out whether Redis has forgotten; then limits start full, and it is told."""

    async def lost(expected: str, found: str) -> None:
        await gateway.alerts.publish("gateway.epoch_lost", {"expected": expected, "found": found})
        await _care(gateway).forgot()

    await gateway.epoch.check(lost)


async def hold_back(watermark: Watermark, bus: Bus) -> None:
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

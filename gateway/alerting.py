"""Alerts of one process, joined: what watches for patterns, what sends them to a webhook, and what people look at."""

from dataclasses import dataclass

from gateway.flow.alert_control import AlertControl
from gateway.flow.alert_watch import AlertWatch, Sources
from gateway.flow.webhook import Mail, Webhook
from gateway.guards import Common, Guarding
from gateway.lanes.alert_book import AlertBook, Bounds
from gateway.lanes.places import Places
from gateway.lanes.spread.above import AllPlaces
from gateway.policy.patterns import Terms
from gateway.policy.webhooks import Target, keys_of
from gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """The parts that chores and the API need."""

    watch: AlertWatch
    webhook: Webhook
    control: AlertControl


def alerting_of(common: Common, guarding: Guarding) -> Alerting:
    """Join the parts."""
    settings = common.settings
    home = common.shards.home
    readers = [Places(seat.redis, seat.shard, common.ambient.worker) for seat in common.shards.parts]
    places = AllPlaces(
        readers,
        {
            topic: reader
            for seat, reader in zip(common.shards.parts, readers, strict=True)
            for topic in seat.topics.outgoing
        },
    )
    bounds = Bounds(most_per_hour=settings.alert_most_per_hour)
    book = AlertBook(home.redis, home.topics, home.shard, bounds, common.ambient)
    sources = Sources(
        places=places,
        windows=places,
        standings=guarding.standings,
        credentials=guarding.tokens,
        findings=guarding.findings,
        catalog=common.catalog,
        events=[seat.topics.events for seat in common.shards.writing],
        letters=[seat.topics.letters for seat in common.shards.writing],
    )
    alerts = [seat.topics.alerts for seat in common.shards.writing]
    mail = Mail(places=places, send=common.engine.send, alerts=alerts, target=target_of(settings))
    return Alerting(
        watch=AlertWatch(sources, book, _terms(settings), common.ambient),
        webhook=Webhook(mail, common.ambient),
        control=AlertControl(book),
    )


def target_of(settings: Settings) -> Target | None:
    """Return where alerts are sent; None without a webhook, or with settings that no role starts with."""
    url, secret = settings.alert_webhook, settings.alert_webhook_secret
    keys = keys_of(secret.get_secret_value()) if secret else ""
    if url is None or isinstance(keys, str):
        return None
    return Target(url=url.get_secret_value(), keys=keys, private=settings.alert_webhook_private)


def _terms(settings: Settings) -> Terms:
    return Terms(
        similar=settings.alert_similar,
        window_s=settings.alert_window,
        breaker_open_s=settings.alert_breaker_open,
        letters_per_hour=settings.alert_letters_per_hour,
        most_per_hour=settings.alert_most_per_hour,
        settle_s=settings.alert_settle,
    )

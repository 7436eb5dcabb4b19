"""Whether a process may start: what its settings ask for and cannot have, said in words that tell what to do."""

import socket
import sys

from dlq.keys import KeyRing, KeyRingError
from gateway.app import load_catalog
from gateway.journal.database import Misplaced, url_of
from gateway.lanes.connect import connect
from gateway.policy.bus_address import Misnamed, kafka_servers
from gateway.policy.state_address import Unreadable, cluster_of
from gateway.policy.webhooks import misfit
from gateway.settings import LOOPBACK, Settings


def complain(problem: str | None) -> bool:
    """Tell the person who started this what is wrong; true when something is."""
    if problem is not None:
        print(problem, file=sys.stderr)  # noqa: T201 - for the person who started it
    return problem is not None


def unsupported(settings: Settings) -> str | None:
    """Say which setting asks for what this version cannot do."""
    missing = [str(path) for path in settings.connectors if not path.exists()]
    if missing and "connectors" in settings.model_fields_set:
        # Not merely fewer tools: an agent's limits may have stood there.
        return f"SLUICE_CONNECTORS names what does not exist: {', '.join(missing)}. Correct it, or make the directory."
    try:
        url_of(settings.journal)
        kafka = _kafka_is_meant(settings)
    except (Misplaced, Misnamed) as error:
        return str(error)
    if problem := _webhook(settings) or _clustered(settings) or _unopened(settings):
        return problem
    if kafka or settings.bus_url is None or settings.bus_url == settings.state_url:
        return None
    return (
        "SLUICE_BUS_URL names another server than SLUICE_REDIS_URL: in this version events travel on the Redis that holds "
        "the state, so that both are written in one step, or on Kafka. Leave SLUICE_BUS_URL unset, or set kafka://host:port."
    )


def taken(settings: Settings) -> str | None:
    """Say why the API could not listen where the settings want it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((settings.host, settings.port))
        except OSError as error:
            return (
                f"The API cannot listen on {settings.host}:{settings.port}: {error.strerror}. Another gateway, perhaps? "
                "Stop it, or choose another: --port (SLUICE_PORT)."
            )
    return None


def _unopened(settings: Settings) -> str | None:
    """Say which address of Redis, or which keys, cannot be used as they are written. Makes nothing."""
    try:
        if cluster_of(settings.state_url) is None:
            connect(settings.state_url)
    except ValueError:  # its words may quote the password
        return "SLUICE_REDIS_URL is no address of a Redis: redis://[user:password@]host:port/0, rediss://… or unix://…"
    if settings.keys is None:
        return None
    try:
        KeyRing.load(settings.keys.get_secret_value(), settings.data)
    except KeyRingError as error:
        return str(error)
    return None


def _kafka_is_meant(settings: Settings) -> bool:
    """Tell whether the bus is Kafka; raises `Misnamed` where it could not be reached so."""
    if kafka_servers(settings.bus_url) is None:
        return False
    from gateway.kafka.cluster import brokers_of  # noqa: PLC0415 - a Redis bus does not pay for it

    brokers_of(settings)
    return True


def _clustered(settings: Settings) -> str | None:
    try:
        clustered = cluster_of(settings.state_url) is not None
    except Unreadable as error:
        return str(error)
    if clustered and kafka_servers(settings.bus_url) is None:
        return (
            "SLUICE_REDIS_URL names a Redis Cluster, which cannot be the bus: a stream lies on one node, and no script writes it "
            "together with a call that lies on another. Set SLUICE_BUS_URL=kafka://host:port, or one Redis as SLUICE_REDIS_URL."
        )
    return None


def _webhook(settings: Settings) -> str | None:
    url, secret = settings.alert_webhook, settings.alert_webhook_secret
    return misfit(
        url.get_secret_value() if url else None,
        secret.get_secret_value() if secret else None,
        private=settings.alert_webhook_private,
    )


def exposure(settings: Settings) -> str | None:
    """Say why the API may not be bound where the settings want it."""
    if settings.host in LOOPBACK or load_catalog(settings, quiet=True).operators:
        return None
    return (
        f"The API may not listen on {settings.host}: no Operator is declared, so anybody there could call any tool. "
        "Declare one (kind: Operator) or use SLUICE_HOST=127.0.0.1."
    )

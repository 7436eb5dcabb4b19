"""Whom to speak to and how: the brokers, TLS, and the login; and why they do not let this client in, in terms of settings.

The password is read from a file at the start and shown nowhere.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from gateway.policy.bus_address import Misnamed, kafka_servers, over_tls
from gateway.settings import Settings

REQUEST_MS: Final = 10_000
"""How long one request may take."""

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who this client is."""

    mechanism: Mechanism
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The brokers, and how they let one in."""

    servers: tuple[str, ...]
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    login: Login | None = None

    def options(self) -> dict[str, Any]:
        """Return what every client of the library is made with."""
        return {"bootstrap_servers": list(self.servers), "request_timeout_ms": REQUEST_MS, **self.way()}

    def way(self) -> dict[str, Any]:
        """Return how to connect, whichever server it is."""
        protocol = "SSL" if self.tls is not None else "PLAINTEXT"
        if self.login is None:
            return {"security_protocol": protocol, "ssl_context": self.tls}
        return {
            "security_protocol": "SASL_SSL" if self.tls is not None else "SASL_PLAINTEXT",
            "ssl_context": self.tls,
            "sasl_mechanism": self.login.mechanism,
            "sasl_plain_username": self.login.user,
            "sasl_plain_password": self.login.password,
        }


def brokers_of(settings: Settings) -> Cluster:
    """Return what the settings say where the bus is Kafka. Raises `Misnamed`."""
    servers = kafka_servers(settings.bus_url)
    assert servers is not None, "who asks has looked at the scheme"  # noqa: S101
    tls = over_tls(settings.bus_url)
    return Cluster(
        servers=tuple(servers), tls=_trust(settings.kafka_ca) if tls else None, login=_login(settings, tls=tls)
    )


def _trust(path: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # also for what is no certificate
        reason = error.strerror or "it holds no certificate"
        raise Misnamed(f"SLUICE_KAFKA_CA names {path}, which cannot be read: {reason}.") from None


def _login(settings: Settings, *, tls: bool) -> Login | None:
    user, path = settings.kafka_user, settings.kafka_password_file
    if user is None and path is None:
        return None
    if user is None or path is None:
        missing = "SLUICE_KAFKA_USER" if user is None else "SLUICE_KAFKA_PASSWORD_FILE"
        raise Misnamed(f"{missing} is missing: a login to Kafka needs both a user and a file with the password.")
    if settings.kafka_mechanism == "PLAIN" and not tls:
        raise Misnamed(
            "SLUICE_KAFKA_MECHANISM=PLAIN sends the password as it is: set SLUICE_BUS_URL to kafka+ssl://…, or use SCRAM-SHA-512."
        )
    try:
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise Misnamed(f"SLUICE_KAFKA_PASSWORD_FILE names {path}, which cannot be read: {reason}.") from None
    if not password:
        raise Misnamed(f"SLUICE_KAFKA_PASSWORD_FILE names {path}, which is empty.")
    return Login(mechanism=settings.kafka_mechanism, user=user, password=password)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a server that answers does not let this client in."""

    why: str
    sure: bool
    """Waiting does not help."""


async def refusal(cluster: Cluster) -> Refusal | None:
    """Ask the first server that answers; None: nobody does."""
    for server in cluster.servers:
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(
                host.strip("[]"), int(port), client_id="sluice", request_timeout_ms=REQUEST_MS, **cluster.way()
            )
        except (OSError, KafkaError, TimeoutError) as error:
            if why := _why(error, server, cluster.login):
                return Refusal(why, sure=True)
            if isinstance(error, (ConnectionResetError, KafkaError)):
                return Refusal(_closed(server), sure=False)
        else:
            connection.close()
            return Refusal(_closed(server), sure=False)
    return None


def _closed(server: str) -> str:
    return (
        f"Kafka at {server} closes the connection. If that goes on: it may want TLS (SLUICE_BUS_URL=kafka+ssl://…) or a login "
        "(SLUICE_KAFKA_USER), or not speak what these settings say."
    )


def _why(error: Exception, server: str, login: Login | None) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"The certificate of Kafka at {server} is not trusted: {error.verify_message}. "
                "SLUICE_KAFKA_CA names the file with the certificates to trust."
            )
        case ssl.SSLError():
            return f"Kafka at {server} does not speak TLS there: {error.reason}. SLUICE_BUS_URL says kafka+ssl://."
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            return f"Kafka at {server} does not take this login: {error}. Look at SLUICE_KAFKA_MECHANISM and SLUICE_KAFKA_USER."
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            user = login.user if login is not None else None
            return (
                f"Kafka at {server} does not accept the user {user!r} with this password. "
                "Look at SLUICE_KAFKA_USER, SLUICE_KAFKA_PASSWORD_FILE and SLUICE_KAFKA_MECHANISM."
            )
        case _:
            return None

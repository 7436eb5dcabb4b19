"""How Kafka lets one in, in FastStream's words."""

from typing import Final

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from gateway.kafka.cluster import Cluster, Mechanism

LOGINS: Final[dict[Mechanism, type[SASLPlaintext | SASLScram256 | SASLScram512]]] = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}


def security_of(cluster: Cluster) -> BaseSecurity:
    """Say it."""
    login, tls = cluster.login, cluster.tls
    if login is None:
        return BaseSecurity(ssl_context=tls, use_ssl=tls is not None)
    return LOGINS[login.mechanism](login.user, login.password, ssl_context=tls, use_ssl=tls is not None)

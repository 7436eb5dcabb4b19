"""Where the working state lies, by `SLUICE_REDIS_URL`: one server, or a Redis Cluster by some of its nodes. Pure."""

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

PLAIN, SEALED = "redis-cluster", "rediss-cluster"
PORT = 6379


class Unreadable(ValueError):  # noqa: N818 - it names a situation
    """The URL names no cluster; the message says what would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAddress:
    """Some nodes of a cluster, and how to enter it."""

    nodes: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str | None = None
    password: str | None = None


def cluster_of(url: str) -> ClusterAddress | None:
    """Return the cluster of `redis-cluster://[user:password@]host:port[,host:port]`; None: one server. Raises `Unreadable`."""
    scheme, _, rest = url.partition("://")
    if scheme not in {PLAIN, SEALED}:
        return None
    secrets, _, nodes = rest.rstrip("/").rpartition("@")
    if "/" in nodes or "?" in nodes:
        # Never the URL itself: what stands before an @ may be a password.
        raise Unreadable(
            f"SLUICE_REDIS_URL is {scheme}://[user:password@]host:port[,host:port] and nothing more: a cluster has no "
            "databases, and takes no parameters."
        )
    username, _, password = secrets.partition(":")
    return ClusterAddress(
        nodes=tuple(_node(part) for part in nodes.split(",")),
        tls=scheme == SEALED,
        username=unquote(username) or None,
        password=unquote(password) or None,
    )


def node_url(address: ClusterAddress, node: tuple[str, int]) -> str:
    """Return the URL of one node alone."""
    secrets = f"{quote(address.username or '', safe='')}:{quote(address.password or '', safe='')}@"
    host = f"[{node[0]}]" if ":" in node[0] else node[0]
    return f"{'rediss' if address.tls else 'redis'}://{secrets if address.password else ''}{host}:{node[1]}"


def _node(part: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{part.strip()}")
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise Unreadable(
            f"SLUICE_REDIS_URL names no node where it says {part.strip()!r}; it is redis-cluster://host:port[,host:port]."
        )
    return host, port

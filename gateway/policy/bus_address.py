"""Where events travel, by the scheme of `SLUICE_BUS_URL`: the one place that knows which buses there are. Pure."""

from urllib.parse import urlsplit

KAFKA = "kafka"
KAFKA_TLS = "kafka+ssl"
PORT = 9092


class Misnamed(ValueError):  # noqa: N818 - it names a situation
    """The URL names no bus that there is; the message says what would."""


def kafka_servers(url: str | None) -> list[str] | None:
    """Return the bootstrap servers of `kafka://host:port[,host:port]`, with `+ssl` too; None: the bus is a Redis. Raises `Misnamed`."""
    if url is None or _scheme(url) not in {KAFKA, KAFKA_TLS}:
        return None
    rest = url.partition("://")[2]
    if "@" in rest or "/" in rest.rstrip("/") or "?" in rest:
        # Never the URL itself: what stands before an @ may be a password.
        raise Misnamed(
            "SLUICE_BUS_URL is kafka://host:port[,host:port] or kafka+ssl://…, and nothing more: no user, no path, no parameters. "
            "A login is in SLUICE_KAFKA_USER and SLUICE_KAFKA_PASSWORD_FILE."
        )
    return [_server(part) for part in rest.rstrip("/").split(",")]


def over_tls(url: str | None) -> bool:
    """Tell whether the bus is spoken to over TLS."""
    return url is not None and _scheme(url) == KAFKA_TLS


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:  # whose words quote the address, and with it what may be a password
        raise Misnamed("SLUICE_BUS_URL cannot be read as an address.") from None


def _server(part: str) -> str:
    try:
        parts = urlsplit(f"//{part.strip()}")
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise Misnamed(
            f"SLUICE_BUS_URL names no server where it says {part.strip()!r}; it is kafka://host:port[,host:port]."
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

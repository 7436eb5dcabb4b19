"""Addresses in manifests: where a connector says it goes, held against where it says it may go.

Pure text. The transport judges again what is really dialled; this room only spares people the surprise.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

_HOST = r"(?:\*\.)?[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]"
_ALLOWED = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII | re.IGNORECASE)
_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?(?P<path>/[^?#\s]*)?", re.ASCII | re.IGNORECASE
)
_PORTS = {"http": "80", "https": "443"}


def url_fault(url: str, *, allow_private: bool) -> str | None:
    """Return why this cannot be a base_url."""
    if "${" in url:
        return "only secrets can be references; write the address itself"
    if "@" in url.partition("://")[2].partition("/")[0]:
        return "must not hold a user or a password; use auth and a Connection's secrets"
    return _form_fault(url) or (None if allow_private else _private_fault(url))


def _form_fault(url: str) -> str | None:
    found = _URL.fullmatch(url)
    if found is None or found["host"].startswith("*") or int(found["port"] or 1) not in range(1, 65_536):
        return "must be an address such as https://api.example.com/v2, without query or fragment"
    if {".", ".."} & set((found["path"] or "").split("/")):
        return "must not hold . or .. segments"
    return None


def _private_fault(url: str) -> str | None:
    if url.lower().startswith("http:"):
        return "plain http is only allowed with egress.allow_private: true"
    if _is_private(host_of(url) or ""):
        return "a loopback or private address is only allowed with egress.allow_private: true"
    return None


def host_of(url: str) -> str | None:
    """Return the host of a URL in lower case."""
    found = _URL.fullmatch(url)
    return found["host"].lower() if found else None


def covered(url: str, allow_hosts: Iterable[str]) -> bool:
    """Tell whether one of the allowed hosts covers the host and port of a URL."""
    found = _URL.fullmatch(url)
    if found is None:
        return False
    host, port = found["host"].lower(), found["port"] or _PORTS[found["scheme"].lower()]
    return any(_covers(entry.lower(), host, port) for entry in allow_hosts)


def allowed_host_fault(entry: str) -> str | None:
    """Return why this cannot be an entry of allow_hosts."""
    found = _ALLOWED.fullmatch(entry)
    if found is None or int(found["port"] or 1) not in range(1, 65_536):
        return "must be a host or host:port such as api.example.com or api.example.com:8443, without scheme or path"
    return None


def is_absolute(url: str) -> bool:
    return bool(urlsplit(url).scheme)


def _covers(entry: str, host: str, port: str) -> bool:
    found = _ALLOWED.fullmatch(entry)
    if found is None or found["port"] not in {None, port}:
        return False
    name = found["host"]
    return host.endswith(name[1:]) and host != name[2:] if name.startswith("*.") else host == name


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ip_address(host.strip("[]")).is_global
    except ValueError:
        return False

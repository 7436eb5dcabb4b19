"""Where a connector may connect to: the declared hosts, judged by name before, and by address when it is dialled.

The name check alone proves nothing: what a name resolves to is only known at the dial, and `0x7f000001` is a name
to us and 127.0.0.1 to the resolver. Pure; the transport asks.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from connectors.declared import Egress
from connectors.manifest.origin import covered, host_of

_ORIGIN = re.compile(r"(https?)://[^/?#]*")

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, GCP, Azure and most others
        "169.254.170.2",  # AWS container credentials
        "168.63.129.16",  # Azure's host agent, on a public address
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # GCP
    )
)
_PRIVATE = tuple(
    ip_network(text) for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
# Named, because what `is_global` knows differs between patch versions of Python.
_NEVER = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "64:ff9b:1::/48",
        "100::/64",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")

_Address = IPv4Address | IPv6Address


def allowed(url: str, egress: Egress) -> str | None:
    """Return why `url` may not be called, or None when its scheme and host are declared."""
    origin = _ORIGIN.match(url)
    if origin is None:
        return "The address is neither http nor https."
    if origin[1] == "http" and not egress.allow_private:
        return "Plain http is only allowed with `egress.allow_private: true`."
    return _judge(origin[0], egress.allow_hosts)


@lru_cache(maxsize=1024)
def _judge(origin: str, allow_hosts: tuple[str, ...]) -> str | None:
    # No user info, percent-encoding, backslash or letter beyond ASCII gets past this: parsers disagree about them.
    host = host_of(origin)
    if host is None:
        return "The host of the address is not written as a plain host name."
    # The same rule by which manifests are checked.
    if covered(origin, allow_hosts):
        return None
    return f"The host {host} is not in the connector's `egress.allow_hosts`, or not with this port."


@lru_cache(maxsize=4096)
def vet(address: str, *, allow_private: bool) -> str | None:
    """Return why the address about to be dialled must not be, or None.

    It must be global unicast, also in what it embeds; `allow_private` adds loopback, RFC 1918 and unique local
    addresses, never link-local, multicast, unspecified or metadata addresses.
    """
    try:
        given = ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address!r} is not an address."
    real = _unwrap(given)
    shown = str(given) if real == given else f"{given} (which is {real})"
    if given in _METADATA or real in _METADATA:
        return f"{shown} is the metadata service of a cloud; it is never called."
    if any(real in network for network in _PRIVATE):
        return None if allow_private else f"{shown} is a private address; `egress.allow_private` is not set."
    return None if _is_global_unicast(real) else f"{shown} is not a public address."


def _unwrap(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address carries, if it carries one."""
    if isinstance(address, IPv4Address):
        return address
    if embedded := address.ipv4_mapped or address.sixtofour:
        return embedded
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_global_unicast(address: _Address) -> bool:
    if any(address in network for network in _NEVER) or address.is_multicast or address.is_unspecified:
        return False
    return address.is_global and (isinstance(address, IPv4Address) or address in _GLOBAL_V6)

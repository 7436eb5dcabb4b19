"""Where a connector may go: declared hosts by name, public addresses by number."""

import pytest

from connectors.declared import Egress
from connectors.egress import allowed, vet


def egress(*hosts: str, private: bool = False) -> Egress:
    return Egress(allow_hosts=hosts, allow_private=private)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://crm.example.com/v1?x=y", ["crm.example.com"]),
        ("https://CRM.example.com", ["crm.Example.com"]),
        ("https://crm.example.com:8443/", ["crm.example.com"]),
        ("https://crm.example.com:8443/", ["crm.example.com:8443"]),
        ("https://crm.example.com/", ["crm.example.com:443"]),
        ("https://eu.crm.example.com/", ["other.example.com", "*.crm.example.com"]),
        ("https://[2606:4700::1111]:8443/", ["[2606:4700::1111]:8443"]),
        ("https://[2606:4700::1111]/", ["[2606:4700::1111]"]),
    ],
)
def test_a_declared_host_is_allowed(url: str, hosts: list[str]) -> None:
    assert allowed(url, egress(*hosts)) is None


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://evil.example.com/", ["crm.example.com"]),
        ("https://crm.example.com.evil.net/", ["crm.example.com"]),
        ("https://crm.example.com@evil.net/", ["crm.example.com"]),
        ("https://evil.net\\@crm.example.com/", ["crm.example.com"]),
        ("https://evil.net#@crm.example.com/", ["crm.example.com"]),
        ("https://crm%2eexample.com/", ["crm.example.com"]),
        ("https://crm.example。com/", ["crm.example.com"]),
        ("https://crm.example.com:8444/", ["crm.example.com:8443"]),
        ("https://crm.example.com:/", ["crm.example.com"]),
        ("https://crm.example.com/", []),
        ("https://crm.example.com/", ["*.crm.example.com"]),
        ("https://.crm.example.com/", ["*.crm.example.com"]),
        ("https://notcrm.example.com/", ["*.crm.example.com", "*crm.example.com"]),
        ("http://crm.example.com/", ["crm.example.com"]),
        ("ftp://crm.example.com/", ["crm.example.com"]),
        ("file:///etc/passwd", [""]),
        ("https:///path", [""]),
        ("//crm.example.com/", ["crm.example.com"]),
        ("", ["crm.example.com"]),
    ],
)
def test_anything_else_is_refused_with_a_sentence(url: str, hosts: list[str]) -> None:
    refusal = allowed(url, egress(*hosts))
    assert refusal
    assert refusal.endswith(".")


def test_plain_http_needs_allow_private() -> None:
    assert allowed("http://127.0.0.1:9000/", egress("127.0.0.1:9000", private=True)) is None
    assert "allow_private" in (allowed("http://127.0.0.1:9000/", egress("127.0.0.1:9000")) or "")


NEVER = [
    "0.0.0.0", "0.1.2.3", "::", "169.254.1.1", "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200",
    "192.0.0.192", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "fd00:ec2::254", "fd20:ce::254", "2001:db8::1", "100::1", "64:ff9b:1::1", "5f00::1", "4000::1",
    "::ffff:169.254.169.254", "::169.254.169.254", "2002:a9fe:a9fe::", "64:ff9b::a9fe:a9fe",
    "2001:0:0:0:0:0:5601:5601", "::ffff:0.0.0.0", "not-an-address", "",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::1", "fc00::1",
    "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::", "2002:c0a8:101::1",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "2001:0:0:0:0:0:80ff:fffe",
]  # fmt: skip
PUBLIC = [
    "93.184.216.34", "8.8.8.8", "172.32.0.1", "172.15.0.1", "2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8",
    "64:ff9b::808:808", "2002:808:808::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_dialled(address: str) -> None:
    assert vet(address, allow_private=False)
    assert vet(address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_also_in_disguise_need_allow_private(address: str) -> None:
    assert vet(address, allow_private=False)
    assert vet(address, allow_private=True) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_dialled(address: str) -> None:
    assert vet(address, allow_private=False) is None
    assert vet(address, allow_private=True) is None

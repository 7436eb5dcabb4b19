"""One scheme, one bus: what `SLUICE_BUS_URL` may say."""

import pytest

from gateway.policy.bus_address import Misnamed, kafka_servers


@pytest.mark.parametrize("url", [None, "redis://h:6379", "rediss://u:p@h/0", "unix:///tmp/redis.sock"])
def test_anything_but_kafka_is_a_redis(url: str | None) -> None:
    assert kafka_servers(url) is None


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://a:9092", ["a:9092"]),
        ("kafka://a", ["a:9092"]),
        ("kafka://a:1,b:2/", ["a:1", "b:2"]),
        ("kafka://[::1]:9", ["[::1]:9"]),
        ("kafka+ssl://a,b:1", ["a:9092", "b:1"]),
    ],
)
def test_servers_are_read(url: str, servers: list[str]) -> None:
    assert kafka_servers(url) == servers


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://a,", "kafka://a:x", "kafka://me:secret@a:1", "kafka://a:1/topic", "kafka://a?x=1"]
)
def test_what_is_no_address_is_told_without_a_password(url: str) -> None:
    with pytest.raises(Misnamed) as told:
        kafka_servers(url)
    assert "secret" not in str(told.value)
    assert "kafka://host:port" in str(told.value)

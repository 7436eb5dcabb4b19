"""Which shard something belongs to: by a connector's name for good, and by an id that says so itself."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from gateway.policy.state_address import ClusterAddress, Unreadable, cluster_of
from schemas.sharding import MOST_SHARDS, placed, shard_of, shard_of_id, shard_of_lane, shard_of_tool

SHARDS = st.integers(1, MOST_SHARDS)


@given(SHARDS, st.integers(0, MOST_SHARDS))
def test_an_id_says_where_it_was_placed_and_stays_a_ulid_of_its_time(shards: int, drawn: int) -> None:
    fresh, shard = str(ULID()), drawn % shards
    made = placed(fresh, shard, shards)
    assert shard_of_id(made, shards) == shard
    assert ULID.from_str(made).milliseconds == ULID.from_str(fresh).milliseconds


def test_ids_of_one_millisecond_stay_different() -> None:
    # The library counts up within a millisecond: what comes last is not random.
    made = [placed(str(ULID()), 3, 16) for _ in range(5000)]
    assert len(set(made)) == len(made)


def test_with_one_shard_an_id_stays_as_it_is() -> None:
    fresh = str(ULID())
    assert placed(fresh, 0, 1) == fresh
    assert shard_of_id(fresh, 1) == 0


@given(st.text(max_size=40), SHARDS)
def test_whatever_somebody_asks_for_is_looked_for_in_one_shard(identity: str, shards: int) -> None:
    assert 0 <= shard_of_id(identity, shards) < shards


def test_what_is_of_one_connector_lies_together() -> None:
    for connector in ("crm", "chat", "erp-1", "a_b"):
        named = (
            f"{connector}|-|x",
            f"@{connector}",
            f"@{connector}||x",
            f"{connector}|core",
            f"{connector}|https://a.b",
        )
        assert {shard_of_lane(one, 16) for one in named} == {shard_of(connector, 16)}
        assert shard_of_tool(f"{connector}.a.b", 16) == shard_of(connector, 16)


def test_a_connector_stays_where_it_is_for_good() -> None:
    # Numbers that changed would lose every call that waits: these are those of the first version.
    assert [shard_of(name, 16) for name in ("", "crm", "erp", "jira")] == [0, 15, 1, 7]


def test_connectors_spread() -> None:
    counts = Counter(shard_of(f"connector-{number}", 8) for number in range(400))
    assert min(counts.values()) > 25


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://a:1/0", None),
        ("unix:///x", None),
        ("redis-cluster://a:1,b", ClusterAddress(nodes=(("a", 1), ("b", 6379)))),
        ("redis-cluster://[::1]:7000/", ClusterAddress(nodes=(("::1", 7000),))),
        (
            "rediss-cluster://me:p%40ss@a:1",
            ClusterAddress(nodes=(("a", 1),), tls=True, username="me", password="p@ss"),
        ),
        ("redis-cluster://:secret@a:1", ClusterAddress(nodes=(("a", 1),), password="secret")),
    ],
)
def test_a_url_names_a_cluster_or_one_server(url: str, address: ClusterAddress | None) -> None:
    assert cluster_of(url) == address


@pytest.mark.parametrize("url", ["redis-cluster://", "redis-cluster://u:secret@a:1/0", "redis-cluster://a:x"])
def test_what_is_no_cluster_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(Unreadable) as told:
        cluster_of(url)
    assert "redis-cluster://" in str(told.value)
    assert "secret" not in str(told.value)

"""What the machine does when Redis has no room left on its disk: nothing acknowledged is lost, and nothing runs twice."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from tests.faults.conftest import Workers, publish, until_quiet
from tests.redis_pair import Server, until
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

CALLS = 60
ROOM = 200_000
"""Bytes of the disk: the calls and some of their marks fit, their ends do not."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path, "redis")
    yield started
    started.kill()


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_redis_without_room_on_its_disk_loses_no_call_and_repeats_none(
    fsync: str, workers: Workers, server: Server, vendor: VendorProcess
) -> None:
    server.kill()
    server.start(most_bytes=ROOM, fsync=fsync)
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.1, forever=True))
    workers.environment.update({"SLUICE_REDIS_URL": server.url, "SLUICE_LEASE_GUARD": "10"})
    workers.start()
    publish(server.client, "crm.messages.send", range(CALLS))
    until(lambda: _full(server))
    time.sleep(2)  # what was under way has ended by then
    sent = vendor.counts().arrivals
    time.sleep(1)
    assert vendor.counts().arrivals == sent < CALLS  # nothing goes out whose mark has no room
    server.give_room()
    sums = until_quiet(server.client, CALLS, timeout_s=60)
    assert (sums["received"], sums["completed"]) == (CALLS, CALLS), sums
    assert set(vendor.counts().effects_by_ref["messages.send"].values()) == {1}
    assert len(vendor.counts().effects_by_ref["messages.send"]) == CALLS


def _full(server: Server) -> bool:
    """Tell whether it has ended, or refuses to write."""
    with contextlib.suppress(RedisError):
        server.client.set("probe-of-the-test", 1)
        return False
    return True

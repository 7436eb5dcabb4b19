"""Above the watermark the bus is not read, what is published waits there, and nothing of it is lost when the queue has drained."""

import time
from typing import Any

import pytest
from redis import Redis

from tests.faults.conftest import Workers, publish, soon, until_quiet

pytestmark = pytest.mark.faults


def test_the_bus_is_paused_above_the_watermark_and_read_again_below(workers: Workers, books: "Redis") -> None:
    server: Any = books
    used = int(server.info("memory")["used_memory"])
    workers.environment["SLUICE_MEMORY_HIGH"] = str(used + 40_000_000)
    workers.environment["SLUICE_MEMORY_LOW"] = "0.8"
    workers.start()
    publish(server, "crm.contacts.get", range(20))
    until_quiet(books, 20)
    server.setrange("ballast", 50_000_000, "x")
    server.hset("{s0}:runs", mapping=dict.fromkeys(range(1000), ""))  # as many calls wait as would be worth waiting for
    assert soon(lambda: "queue.flooded" in workers.log)
    time.sleep(1.5)  # a read that had begun may still come back
    publish(server, "crm.contacts.get", range(20, 50))
    time.sleep(1.5)
    (group,) = server.xinfo_groups("tool-calls")
    assert (group["lag"], group["pending"]) == (30, 0)
    server.delete("ballast", "{s0}:runs")
    sums = until_quiet(books, 50)
    assert (sums["received"], sums["completed"]) == (50, 50)
    assert "queue.drained" in workers.log

"""What the machine does when its ground gives way: Redis without memory, a disk without room, a clock that jumps."""

import contextlib
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.faults.conftest import Workers, publish, soon, until_quiet
from tests.vendor.client import ROOT, VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

CALLS = 80
SEND = "crm.messages.send"


@pytest.fixture
def server(books: "Redis") -> Iterator[Any]:
    """The Redis, with as much memory as it likes before and afterwards."""
    yield books
    books.config_set("maxmemory", 0)


def test_a_redis_without_memory_in_the_middle_of_calls_costs_none_of_them(
    workers: Workers, server: Any, vendor: VendorProcess
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.2, forever=True))
    workers.environment["SLUICE_LEASE_GUARD"] = "10"  # its worker lives, and only cannot write
    workers.start()
    publish(server, SEND, range(CALLS))
    vendor.until(arrivals=CALLS // 4)
    server.config_set("maxmemory", int(server.info("memory")["used_memory"]) // 2)
    time.sleep(3)
    arrived = vendor.counts().arrivals
    time.sleep(1)
    assert vendor.counts().arrivals == arrived  # an unsafe call is not sent when its mark cannot be written
    server.config_set("maxmemory", 0)
    sums = until_quiet(server, CALLS, timeout_s=60)
    assert (sums["received"], sums["completed"]) == (CALLS, CALLS), sums
    assert set(vendor.counts().effects_by_ref["messages.send"].values()) == {1}
    assert len(vendor.counts().effects_by_ref["messages.send"]) == CALLS


@pytest.mark.parametrize("step_s", [-7200, 7200], ids=["two hours back", "two hours on"])
def test_a_clock_that_jumps_ends_no_call_and_repeats_none(
    workers: Workers, server: Any, vendor: VendorProcess, step_s: int
) -> None:
    clock = workers.folder / "clock"
    _set(clock, 0)
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.1, forever=True))
    for _ in range(2):
        workers.start_module("tests.faults.shifted", str(clock))
    publish(server, SEND, range(CALLS))
    vendor.until(arrivals=CALLS // 4)
    _set(clock, step_s)
    publish(server, SEND, range(CALLS, 2 * CALLS))
    sums = until_quiet(server, 2 * CALLS, timeout_s=60)
    assert (sums["received"], sums["completed"]) == (2 * CALLS, 2 * CALLS), sums
    assert set(vendor.counts().effects_by_ref["messages.send"].values()) == {1}


def _set(clock: Path, seconds: int) -> None:
    """Set the clock at once: a file that is written in place is empty for a moment, and no clock reads as nothing."""
    ahead = clock.with_suffix(".next")
    ahead.write_text(str(seconds))
    ahead.rename(clock)


def test_a_journal_without_room_on_its_disk_writes_everything_when_there_is_some(
    workers: Workers, server: Any, vendor: VendorProcess
) -> None:
    workers.start()
    full = _journal(workers, most_bytes=400_000)
    try:
        publish(server, SEND, range(300))
        sums = until_quiet(server, 300, timeout_s=60)
        assert sums["completed"] == 300  # no call waits for the journal
        assert soon(lambda: "journal.sql_away" in workers.log)
        assert full.poll() is None, workers.log  # it tries on by itself
    finally:
        full.kill()
        full.wait()
    roomy = _journal(workers, most_bytes=resource.RLIM_INFINITY)
    try:
        assert soon(lambda: _written(workers) == 300, within_s=30)
    finally:
        roomy.kill()
        roomy.wait()
    assert len(vendor.counts().effects_by_ref["messages.send"]) == 300


def _journal(workers: Workers, *, most_bytes: int) -> "subprocess.Popen[bytes]":
    """Start a journal whose files cannot grow beyond so many bytes, as on a disk that is full."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))

    with (workers.folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", "journal"],
            cwd=ROOT, env=workers.environment, stdout=log, stderr=log,
            preexec_fn=bound,  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip


def _written(workers: Workers) -> int:
    opened = sqlite3.connect(workers.folder / "data" / "journal.db")
    with contextlib.closing(opened) as journal, contextlib.suppress(sqlite3.OperationalError):
        return int(journal.execute("SELECT count(*) FROM calls WHERE state = 'completed'").fetchone()[0])
    return 0

"""Eight worker processes before a vendor in trouble: one probe at a time, as the vendor counts, and nobody's death is in the way."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from connectors.breaking.breakers import PROBE_GRACE_S, key_of
from tests.demo import ledger
from tests.faults.cases import Stream, body
from tests.faults.conftest import Workers, until_quiet
from tests.outage import changes, declared, is_a_path, moment_us, one_at_a_time, reopened, since, too_many
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

TIMEOUT_S = 1
HEARD_US = 300_000
"""So long after a trip other processes may still send."""
KEYED = Stream(operation="contacts.create", calls=1)
DOWN = Behaviour(do=Kind.STATUS, status=503, seconds=0.05, forever=True)
WELL = Behaviour(do=Kind.DELAY, seconds=0.05, forever=True)


class Scene:
    """Workers before a vendor, and what a test asks them."""

    def __init__(self, workers: Workers, vendor: VendorProcess, books: "Redis", breaker: dict[str, Any]) -> None:
        self.workers = workers
        self.vendor = vendor
        self.books: Any = books
        self.received = 0
        connector = declared(vendor.url, breaker, timeout=f"{TIMEOUT_S}s", retry={"max_attempts": 4})
        (workers.folder / "connectors.d" / "crm.yaml").write_text(json.dumps(connector), encoding="utf-8")

    def start(self, count: int) -> None:
        for _ in range(count):
            self.workers.start()
        wait(lambda: self.workers.log.count("worker.started") == count, 30)

    def publish(self, count: int) -> None:
        with self.books.pipeline(transaction=False) as pipe:
            for _ in range(count):
                self.received += 1
                pipe.xadd("tool-calls", {"data": body(f"n{self.received:04}", KEYED)})
            pipe.execute()

    @property
    def events(self) -> list[dict[str, Any]]:
        return ledger.read(self.books, "tool-events")

    @property
    def told(self) -> list[tuple[str, str]]:
        return changes(self.events)

    def prober(self) -> int:
        """Return the process that holds the place of the probe."""
        worker: bytes | None = self.books.hget(f"{{s0}}:breaker:{key_of('crm', self.vendor.url)}", "worker")
        assert worker is not None
        return int(worker.decode().split("-")[-2])

    def assert_all_completed(self) -> None:
        """Every call has ended well, and no effect was repeated."""
        sums = until_quiet(self.books, self.received, timeout_s=30)
        assert sums.received_is_explained
        assert sums.accepted_is_explained
        assert Counter(event["data"]["state"] for event in ledger.results(self.books)) == {"completed": self.received}
        counts = self.vendor.counts()
        assert (counts.effects_total, counts.repeated_effects, counts.repeated_refs) == (self.received, [], [])


def wait(enough: Callable[[], bool], seconds: float = 15.0) -> None:
    give_up = time.monotonic() + seconds
    while not enough():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_of_eight_processes_one_probes_at_a_time_as_the_vendor_counts(
    workers: Workers, vendor: VendorProcess, books: "Redis"
) -> None:
    scene = Scene(workers, vendor, books, {"open": "500ms"})
    vendor.script("contacts.create", Behaviour(do=Kind.DELAY, seconds=0.05, count=60), DOWN)
    scene.start(8)
    scene.publish(200)
    wait(lambda: reopened(scene.told) >= 2)
    vendor.script("contacts.create", WELL)
    scene.assert_all_completed()
    events, told = scene.events, scene.told
    assert is_a_path(told), told
    assert told[-1] == ("half_open", "closed")
    arrivals = vendor.arrivals("contacts.create")
    deaf, closed = moment_us(events, "open") + HEARD_US, moment_us(events, "closed", last=True)
    assert len([one for one in since(arrivals, deaf) if one.status == 503]) == reopened(told)
    assert one_at_a_time(since(arrivals, deaf, closed))
    assert too_many(since(arrivals, closed)) == []
    # What eight processes did together each of them has told once, and only one of them.
    lines = [line for line in workers.log.splitlines() if "breaker.changed" in line]
    assert len(lines) == len(told)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_when_the_process_that_probes_is_gone_another_takes_over_after_its_lease(
    workers: Workers, vendor: VendorProcess, books: "Redis", fate: signal.Signals
) -> None:
    scene = Scene(workers, vendor, books, {"open": "1s"})
    vendor.script("contacts.create", DOWN)
    scene.start(3)
    scene.publish(60)
    wait(lambda: len(scene.told) >= 1)
    time.sleep(HEARD_US / 1e6)
    seen = vendor.counts(names=False).arrivals
    vendor.script("contacts.create", Behaviour(do=Kind.HOLD, executes=False), WELL)
    vendor.until(arrivals=seen + 1, held=1)
    lost, begun = scene.prober(), time.monotonic()
    os.kill(lost, fate)
    vendor.until(arrivals=seen + 2, timeout=TIMEOUT_S + PROBE_GRACE_S + 5)
    assert time.monotonic() - begun > TIMEOUT_S + PROBE_GRACE_S - 0.5, "no earlier than the lease ends"
    assert scene.prober() != lost
    wait(lambda: scene.told[-1][1] == "closed")
    if fate is signal.SIGSTOP:
        # All that it had under way has timed out meanwhile, which nobody holds against the vendor.
        os.kill(lost, signal.SIGCONT)
        time.sleep(0.5)
    vendor.release()
    scene.assert_all_completed()
    assert is_a_path(scene.told), scene.told
    assert reopened(scene.told) == 0, "a lost probe says nothing"
    arrivals = vendor.arrivals("contacts.create")
    assert too_many(since(arrivals, moment_us(scene.events, "closed"))) == []

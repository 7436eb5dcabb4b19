"""The primary dies and its replica takes over under a running worker: what the vendor counts is doubled nowhere, what was lost is told."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.demo import ledger
from tests.faults.conftest import Workers, until_quiet
from tests.faults.test_kill_points import body
from tests.redis_pair import Pair, pair, until
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

LIMITED = "limits: {core: {rate: 8/s, per: connector}}\noperations:\n  contacts.create:\n    limits: {core: 1}\n"
PER_S = 8


@pytest.fixture
def both() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder, pair(Path(folder)) as started:
        yield started


@pytest.fixture
def workers(both: Pair, vendor: VendorProcess) -> Iterator[Workers]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        started = Workers(both.door.url, Path(folder), vendor.url)
        manifest = Path(folder) / "connectors.d" / "crm.yaml"
        text = manifest.read_text(encoding="utf-8")
        assert text.count("operations:\n  contacts.create:\n") == 1
        manifest.write_text(text.replace("operations:\n  contacts.create:\n", LIMITED), encoding="utf-8")
        yield started
        started.stop()


def load(start: int, count: int) -> list[bytes]:
    """Calls of a keyed, an unsafe and a verifiable operation in turn."""
    bodies = []
    for number in range(start, start + count):
        bodies += [
            body(f"k{number}", "contacts.create", {"email": f"k{number}@example.com"}),
            body(f"u{number}", "messages.send", {"ref": f"u{number}", "text": "hi"}),
            body(f"v{number}", "orders.create", {"ref": f"v{number}", "item": "x"}),
        ]
    return bodies


def publish(redis: "Redis", bodies: list[bytes]) -> None:
    for raw in bodies:
        redis.xadd("tool-calls", {"data": raw})


def alerts(redis: "Redis") -> list[str]:
    return [alert["type"] for alert in ledger.read(redis, "gateway-alerts")]


def asked(redis: "Redis") -> dict[str, list[dict[str, Any]]]:
    """Return the results of each event, by its id."""
    told: dict[str, list[dict[str, Any]]] = {}
    for event in ledger.results(redis):
        told.setdefault(event["data"]["request"]["id"], []).append(event["data"])
    return told


def test_a_primary_that_is_killed_under_load_doubles_nothing_and_loses_no_call_that_is_published_again(
    both: Pair, workers: Workers, vendor: VendorProcess
) -> None:
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    bodies = load(0, 14)
    victim = workers.start()
    workers.start()
    publish(both.primary.client, bodies)
    until(lambda: vendor.counts().effects_total >= 8)
    victim.kill()
    both.fail_over()
    books = both.replica.client
    until(lambda: "gateway.epoch_lost" in alerts(books))
    # What a producer does whose events have no result: the same ids again.
    publish(books, bodies)
    until(lambda: ledger.sums(books)["received"] >= len(bodies))
    sums, counts = until_quiet(books, len(bodies), timeout_s=30), vendor.counts()
    assert counts.repeated_effects == counts.repeated_refs == []
    assert sums.accepted_is_explained, sums
    assert alerts(books) == ["gateway.epoch_lost"]
    told = asked(books)
    assert len(told) == len(bodies)
    assert {len({result["call"] for result in results}) for results in told.values()} == {1}
    assert sums["completed"] + sums["escalated"] == sums["accepted"] == len(bodies)
    # Only what the killed worker had begun to send, or may have.
    assert sums["escalated"] <= 16
    for tool, operation in (("crm.messages.send", "messages.send"), ("crm.orders.create", "orders.create")):
        assert ledger.effects_agree(ledger.results(books), counts, tool, operation)
    assert vendor.window(1.0, "contacts.create") <= PER_S


def test_what_no_replica_has_is_not_sent_and_what_was_lost_is_told_and_can_be_published_again(
    both: Pair, workers: Workers, vendor: VendorProcess
) -> None:
    workers.start()
    first, second = load(0, 2), load(10, 8)
    publish(both.primary.client, first)
    until_quiet(both.primary.client, len(first))
    both.replica.client.replicaof("127.0.0.1", "1")  # goes on by itself, and hears nothing any more
    began = vendor.counts().by_operation
    publish(both.primary.client, second)
    until(lambda: vendor.counts().by_operation["contacts.create"] - began["contacts.create"] >= 8)
    time.sleep(1.0)
    cut = vendor.counts().by_operation
    for operation in ("messages.send", "orders.create"):
        assert cut[operation] == began[operation], "nothing leaves that the replica has no mark of"
    waiting = [json.loads(line) for line in workers.log.splitlines() if '"mark.unconfirmed"' in line]
    assert waiting, workers.log[-2000:]
    assert ledger.sums(both.primary.client)["escalated"] == 0
    both.fail_over()
    books = both.replica.client
    until(lambda: "gateway.epoch_lost" in alerts(books))
    publish(books, first + second)
    until(lambda: ledger.sums(books)["received"] >= len(first + second) + len(first))
    sums, counts = until_quiet(books, len(first + second) + len(first), timeout_s=30), vendor.counts()
    assert (sums["duplicates"], sums["completed"]) == (len(first), len(first + second))
    assert counts.repeated_effects == counts.repeated_refs == []
    assert counts.effects_total == len(first + second)
    # The slots of what the lost server had sent are lost as well: limits start full.
    assert vendor.window(1.0, "contacts.create") <= PER_S

"""Redis loses what Kafka believes to be taken in: it is read again, nothing is lost, and by the vendor's counts nothing is doubled."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Workers
from tests.faults.test_failover import load
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import NUMBERS
from tests.kafka.stage import Stage
from tests.kafka.test_intake import until
from tests.redis_pair import Pair, pair
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.fixture
def both() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder, pair(Path(folder)) as started:
        yield started


@pytest.fixture
def copied(broker: KafkaBroker, both: Pair, vendor: VendorProcess, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose state has a replica."""
    workers = Workers(both.door.url, tmp_path, vendor.url)
    yield Stage(broker, workers, both.primary.client, vendor, f"l{next(NUMBERS)}-")
    workers.stop()


def states(stage: Stage, results: int) -> dict[str, set[str]]:
    """Return how each event ended that was asked for, by its id."""
    told: dict[str, set[str]] = {}
    until(lambda: len({event["data"]["request"]["id"] for event in stage.read(stage.topics.results)}) >= results, 60)
    for event in stage.read(stage.topics.results):
        told.setdefault(event["data"]["request"]["id"], set()).add(event["data"]["state"])
    return told


@pytest.mark.parametrize("survives", [True, False], ids=["the-worker-lives", "another-worker-goes-on"])
def test_what_no_replica_had_when_it_took_over_is_read_again_and_nothing_is_doubled(
    copied: Stage, both: Pair, *, survives: bool
) -> None:
    stage, first, second, third = copied, load(0, 10), load(100, 8), load(200, 4)
    bodies = first + second + third
    stage.create()
    worker = stage.workers.start()
    stage.publish(first)
    stage.until(len(first))
    both.replica.client.replicaof("127.0.0.1", "1")  # goes on by itself, and hears nothing any more
    stage.publish(second)
    until(lambda: stage.sums()["received"] == len(first + second))
    until(lambda: stage.vendor.counts().by_operation["contacts.create"] == 18)
    # Kafka believes that everything is taken in: nobody would ever read it again.
    until(lambda: sum(stage.committed().values()) == len(first + second))
    if not survives:
        worker.kill()
    both.fail_over()
    stage.books = both.replica.client
    assert stage.sums()["received"] == len(first)
    if not survives:
        stage.workers.start()
    stage.publish(third)  # a batch of a reader that may not have found out yet
    sums, counts = stage.until(len(bodies)), stage.vendor.counts()
    assert (sums["received"], sums["completed"]) == (len(bodies),) * 2
    assert counts.repeated_effects == counts.repeated_refs == []
    assert counts.effects_total == len(bodies)
    told = states(stage, len(bodies))
    assert set(map(frozenset, told.values())) == {frozenset({"completed"})}
    assert stage.workers.log.count("bus.read_again") == 4, "each partition once"


def test_where_marks_did_not_wait_nothing_that_was_lost_is_doubled(copied: Stage, both: Pair) -> None:
    """Nobody can know whether it was sent: what may be repeated is, what can be asked is asked, the rest goes to a person."""
    stage = copied
    stage.workers.environment["SLUICE_REDIS_REPLICAS"] = "0"
    stage.create()
    stage.workers.start()
    stage.publish(load(0, 2))
    stage.until(6)
    both.replica.client.replicaof("127.0.0.1", "1")
    stage.publish(load(100, 8))
    stage.until(30)
    until(lambda: sum(stage.committed().values()) == 30)
    both.fail_over()
    stage.books = both.replica.client
    sums, counts = stage.until(30), stage.vendor.counts()
    assert counts.repeated_effects == counts.repeated_refs == []
    assert counts.effects_total == 30
    assert (sums["completed"], sums["escalated"]) == (22, 8)


def test_a_state_that_is_gone_is_filled_again_from_kafka_and_nothing_is_doubled(stage: Stage) -> None:
    stage.vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.1, forever=True))
    bodies = load(0, 20)
    stage.create()
    stage.workers.start()
    stage.publish(bodies)
    until(lambda: sum(stage.committed().values()) == len(bodies) and stage.vendor.counts().effects_total >= 20)
    stage.books.flushall()
    stage.until(len(bodies))
    counts = stage.vendor.counts()
    assert counts.repeated_effects == counts.repeated_refs == []
    told = states(stage, len(bodies))
    assert len(told) == len(bodies)
    lost = {name for name, ended in told.items() if "completed" not in ended}
    assert all(told[name] == {"escalated"} and name.startswith("u") for name in lost)


def test_how_far_back_is_read_is_a_setting(stage: Stage) -> None:
    stage.workers.environment["SLUICE_KAFKA_REREAD"] = "0s"
    stage.create()
    stage.workers.start()
    stage.publish(load(0, 5))
    stage.until(15)
    until(lambda: sum(stage.committed().values()) == 15)
    stage.books.flushall()
    until(lambda: stage.workers.log.count("bus.read_again") == 4)
    stage.publish(load(100, 1))
    assert stage.until(3)["completed"] == 3
    assert stage.sums()["received"] == 3

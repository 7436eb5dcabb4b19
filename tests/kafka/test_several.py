"""Three brokers: one dies while it leads, and neither an event nor a result is lost, nor a call doubled."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.kafka.broker import KafkaBroker, KafkaMissing, jars, several
from tests.kafka.conftest import NUMBERS
from tests.kafka.stage import Stage, staged
from tests.kafka.test_commands import sluice
from tests.kafka.test_intake import sends
from tests.vendor.client import VendorProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[KafkaBroker]]:
    """Three JVMs of about 300 MB each."""
    try:
        jars()
    except KafkaMissing as error:
        pytest.skip(f"NO KAFKA HERE: {error}")
    folder = Path(tempfile.mkdtemp(prefix="sluice-kafka-"))
    started = several(folder, 3)
    yield started
    for node in started:
        node.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def trio(nodes: list[KafkaBroker], redis_url: str, vendor: VendorProcess, tmp_path: Path) -> Iterator[Stage]:
    with staged(nodes[0], redis_url, vendor, tmp_path, f"n{next(NUMBERS)}-") as made:
        yield made


def described(stage: Stage, topic: str) -> list[dict[str, Any]]:
    """Return the partitions of a topic."""

    async def ask() -> list[dict[str, Any]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=stage.broker.servers)
        await admin.start()
        try:
            (told,) = await admin.describe_topics([topic])
        finally:
            await admin.close()
        return list(told["partitions"])

    return asyncio.run(ask())


def test_the_leader_dies_while_results_are_sent_and_calls_are_read(trio: Stage, nodes: list[KafkaBroker]) -> None:
    stage = trio
    stage.workers.start()
    stage.wait_for("worker.started")
    assert {len(one["replicas"]) for one in described(stage, stage.topics.calls)} == {3}
    stage.publish(sends(0, 60))
    give_up = time.monotonic() + 60
    while stage.sums()["completed"] < 20:
        assert time.monotonic() < give_up, stage.workers.log[-4000:]
        time.sleep(0.005)
    leads = [one["leader"] for one in described(stage, stage.topics.results)]
    victim = next(node for node in nodes if node.node == max(leads, key=leads.count))
    victim.kill()
    stage.publish(sends(60, 60))
    sums = stage.until(120)
    assert (sums["received"], sums["completed"], sums["duplicates"]) == (120, 120, 0)
    assert stage.vendor.counts().repeated_refs == []
    told = stage.until_told(stage.topics.results, 120)
    assert {event["data"]["request"]["id"] for event in told} == {f"u{n}" for n in range(120)}
    victim.start()
    stage.publish(sends(120, 10))
    assert stage.until(130)["completed"] == 130


def test_how_many_copies_a_topic_gets_is_a_setting(trio: Stage) -> None:
    trio.workers.environment["SLUICE_KAFKA_COPIES"] = "2"
    trio.workers.start()
    trio.wait_for("worker.started")
    assert {len(one["replicas"]) for one in described(trio, trio.topics.results)} == {2}
    done = sluice(trio, "worker", SLUICE_KAFKA_COPIES="4", SLUICE_TOPIC_PREFIX=f"n{next(NUMBERS)}-")
    assert done.returncode == 2
    assert "cannot have 4 copies: 3 brokers are there. Correct SLUICE_KAFKA_COPIES" in done.stderr

"""One broker for the whole run. Where it cannot be, a stand-in serves what it can, and the report names that and what is skipped."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.kafka.broker import KafkaBroker, KafkaMissing, Secured, jars
from tests.kafka.mock import MockBroker
from tests.kafka.stage import Stage, staged
from tests.vendor.client import VendorProcess

NUMBERS = itertools.count(1)

USER, PASSWORD = "sluice", "7Kz-not-a-secret"
"""Who is let in by the listener with TLS."""

STOOD_IN: dict[str, str] = {}
"""Tests that had no real broker, and why."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say by name what a stand-in served: it passed there, and nobody has seen it on a Kafka."""
    for name, why in STOOD_IN.items():
        terminalreporter.write_line(f"SKIPPED [1] {name}: NO KAFKA HERE, run on librdkafka's mock cluster: {why}")


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[KafkaBroker]:
    """Start it once: a start costs seconds."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-kafka-"))
    self_signed(folder)
    keystore = b"".join((folder / name).read_bytes() for name in ("key.pem", "certificate.pem"))
    broker = KafkaBroker(folder, secured=Secured(user=USER, password=PASSWORD, keystore=keystore))
    try:
        try:
            jars()
        except KafkaMissing as error:
            broker = MockBroker(folder, why=str(error))
        broker.start()
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def broker(request: pytest.FixtureRequest, shared_broker: KafkaBroker) -> KafkaBroker:
    """The broker, running, whatever the test before has done to it."""
    if isinstance(shared_broker, MockBroker):
        if request.node.get_closest_marker("stand_in") is None:
            pytest.skip(f"NO KAFKA HERE, and librdkafka's mock cluster cannot do this: {shared_broker.why}")
        STOOD_IN[request.node.nodeid] = shared_broker.why
    if not shared_broker.running:
        shared_broker.start()
    return shared_broker


@pytest.fixture
def stage(broker: KafkaBroker, redis_url: str, vendor: VendorProcess, tmp_path: Path) -> Iterator[Stage]:
    """Workers on topics of this test's own."""
    with staged(broker, redis_url, vendor, tmp_path, f"t{next(NUMBERS)}-") as made:
        yield made

"""One broker for the whole run; where it cannot be, every test here is skipped by name with the reason."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.kafka.broker import KafkaBroker, KafkaMissing, Secured, missing
from tests.kafka.stage import Stage, staged
from tests.vendor.client import VendorProcess

NUMBERS = itertools.count(1)

USER, PASSWORD = "sluice", "7Kz-not-a-secret"
"""Who is let in by the listener with TLS."""


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[KafkaBroker]:
    """Start it once: a start costs seconds."""
    if why := missing():
        pytest.skip(f"NO KAFKA HERE: {why}")
    folder = Path(tempfile.mkdtemp(prefix="sluice-kafka-"))
    self_signed(folder)
    keystore = b"".join((folder / name).read_bytes() for name in ("key.pem", "certificate.pem"))
    broker = KafkaBroker(folder, secured=Secured(user=USER, password=PASSWORD, keystore=keystore))
    try:
        broker.start()
        yield broker
    except KafkaMissing as error:
        pytest.skip(f"NO KAFKA HERE: {error}")
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def broker(shared_broker: KafkaBroker) -> KafkaBroker:
    """The broker, running, whatever the test before has done to it."""
    if not shared_broker.running:
        shared_broker.start()
    return shared_broker


@pytest.fixture
def stage(broker: KafkaBroker, redis_url: str, vendor: VendorProcess, tmp_path: Path) -> Iterator[Stage]:
    """Workers on topics of this test's own."""
    with staged(broker, redis_url, vendor, tmp_path, f"t{next(NUMBERS)}-") as made:
        yield made

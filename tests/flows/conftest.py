"""The stage on which every flow is tried."""

from collections.abc import AsyncIterator

import pytest

from dlq.blobs import BlobStore
from dlq.keys import KeyRing
from dlq.redaction import Sealer
from tests.flows.stage import Stage, open_stage


@pytest.fixture(scope="session")
def sealer(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    return Sealer(KeyRing({"k1": bytes(range(32))}), BlobStore(tmp_path_factory.mktemp("blobs"), 1 << 20))


@pytest.fixture
async def stage(redis_url: str, sealer: Sealer) -> AsyncIterator[Stage]:
    async with open_stage(redis_url, sealer) as opened:
        yield opened

"""Fixtures of the pure rooms' tests."""

import pytest

from dlq.blobs import BlobStore
from dlq.keys import KeyRing
from dlq.redaction import Sealer


@pytest.fixture(scope="module")
def seal(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    return Sealer(KeyRing({"k1": bytes(range(32))}), BlobStore(tmp_path_factory.mktemp("blobs"), 1 << 30))

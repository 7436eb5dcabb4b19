"""One running gateway for all files here that only ask: those that change what it holds come later in the alphabet."""

from collections.abc import Iterator

import pytest

from tests.security.bomber import Bomber, bomber, connector
from tests.security.estate import Estate, estate
from tests.vendor.client import VendorProcess


@pytest.fixture(scope="session")
def attacker() -> Iterator[Bomber]:
    with bomber() as one:
        yield one


@pytest.fixture(scope="session")
def shared(attacker: Bomber) -> Iterator[Estate]:
    """Two tenants on a `sluice up`."""
    with VendorProcess() as vendor, estate(vendor, connector(attacker.url)) as one:
        yield one

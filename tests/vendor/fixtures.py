"""Pytest fixtures for whoever wants a vendor: `pytest_plugins = ["tests.vendor.fixtures"]` in the test module."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.vendor.client import VendorProcess


@pytest.fixture(scope="module")
def running_vendor() -> Iterator[VendorProcess]:
    with VendorProcess() as process:
        yield process


@pytest.fixture
def vendor(running_vendor: VendorProcess) -> VendorProcess:
    """A vendor with empty books and no script; the process is shared by the module."""
    running_vendor.reset()
    return running_vendor


@pytest.fixture
async def vendor_session(vendor: VendorProcess) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain caller, for tests of the vendor itself."""
    async with aiohttp.ClientSession(vendor.url, timeout=aiohttp.ClientTimeout(total=5)) as opened:
        yield opened

"""A gateway opened for an SDK: alone, beside others, with the work left to others, and as the documents show it."""

import asyncio
import re
from importlib import import_module
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.sdk.ending import REFUSED
from gateway.settings import Settings
from tests.sdks import SDKS, Sdk, opened
from tests.served import served
from tests.vendor.client import ROOT, VendorProcess

pytestmark = pytest.mark.wire


@pytest.fixture(params=SDKS, ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Each of the two."""
    found: Sdk = request.param
    return found


@pytest.fixture
def data(redis: "Redis", tmp_path: Path) -> Path:
    """A data directory, on an empty Redis."""
    return tmp_path / "data"


def arrived(vendor: VendorProcess, operation: str = "chat.complete") -> int:
    return vendor.counts().by_operation.get(operation, 0)


async def test_no_other_process_is_needed_and_one_that_runs_is_joined(
    sdk: Sdk, data: Path, vendor: VendorProcess
) -> None:
    async with opened(sdk, None, data, vendor) as one, opened(sdk, None, data, vendor) as other:
        await asyncio.gather(one.complete("a"), other.complete("b"))
    assert vendor.counts().effects_by_ref["chat.complete"] == {"a": 1, "b": 1}


async def test_the_work_may_be_left_to_the_fleet(sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess) -> None:
    async with opened(sdk, redis_url, data, vendor, door={"works": False}) as one:
        manifests = (data / "manifests.yaml").read_text()
        async with served(redis_url, data.with_name("fleet"), manifests):
            assert (await one.complete("hello")).choices[0].message.content == "You said: hello"
            with pytest.raises(sdk.errors.NotFoundError) as caught:
                await one.client.models.retrieve("missing-1")
            assert caught.value.response.headers[REFUSED] == "http.404"
            assert "dlq show" in caught.value.response.text or "check the arguments" in caught.value.response.text
    assert vendor.counts().arrivals == 2


async def test_the_example_of_the_readme_runs(redis_url: str, data: Path, vendor: VendorProcess) -> None:
    example = import_module("examples.unmodified_sdk")
    data.mkdir(mode=0o700)
    file = data / "chat.yaml"
    file.write_text((ROOT / "examples/chat.yaml").read_text().replace("http://127.0.0.1:9090", vendor.url))
    settings = Settings(redis_url=redis_url, data=data, connectors=[file])
    assert await example.main(settings, f"{vendor.url}/v1") == "You said: hello"
    assert arrived(vendor) == 1
    readme = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    written = (ROOT / "examples/unmodified_sdk.py").read_text()
    assert [line for line in shown.splitlines() if line.strip() not in written] == []

"""`sluice up` from outside, as a user has it: stopping, a second start, and every one of its processes killed in turn."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.demo import ledger
from tests.demo.ground import ROOT, Ground
from tests.faults.conftest import SHORT, until_quiet
from tests.faults.test_kill_points import body
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults


@pytest.fixture
def ground(vendor: VendorProcess) -> Iterator[Ground]:
    text = manifest(vendor.url).replace("timeout: 2s", "timeout: 1s")
    with Ground(text, SHORT) as running:
        yield running


def reads(count: int, first: int = 0) -> list[bytes]:
    return [body(f"r{number}", "contacts.get", {"id": f"c{number}"}) for number in range(first, first + count)]


def publish(ground: Ground, bodies: list[bytes]) -> None:
    with ground.redis as redis:
        for raw in bodies:
            redis.xadd("tool-calls", {"data": raw})


def test_ctrl_c_drains_and_stops_within_ten_seconds_and_the_next_start_goes_on(
    ground: Ground, vendor: VendorProcess
) -> None:
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.3, forever=True))
    publish(ground, reads(60))
    time.sleep(0.5)
    started = time.monotonic()
    assert ground.stop() == 0
    assert time.monotonic() - started < 10
    vendor.script("*")
    ground.start()
    sums = until_quiet(ground.redis, 60)
    assert (sums["completed"], vendor.counts().arrivals) == (60, 60)


def test_a_second_up_on_the_same_directory_says_so_and_harms_nothing(ground: Ground) -> None:
    command = [sys.executable, "-m", "gateway", "up"]
    second = subprocess.run(
        command, cwd=ROOT, env=ground.environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert second.returncode == 1
    assert "already works on" in second.stderr
    publish(ground, reads(5))
    assert until_quiet(ground.redis, 5)["completed"] == 5


@pytest.mark.parametrize("name", ["worker-1", "api", "journal"])
def test_a_process_that_is_killed_is_started_again_and_work_goes_on(name: str, ground: Ground) -> None:
    before = ground.processes[name]
    publish(ground, reads(30))
    ground.kill(name)
    publish(ground, reads(30, 30))
    assert until_quiet(ground.redis, 60)["completed"] == 60
    ground.until_ready()
    give_up = time.monotonic() + 10
    while ground.processes[name] == before and time.monotonic() < give_up:
        time.sleep(0.05)  # the API may be ready before another process is back
    assert ground.processes[name] != before


def test_of_several_workers_each_that_is_killed_is_started_again_and_nothing_is_lost_or_doubled(
    vendor: VendorProcess,
) -> None:
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    text = manifest(vendor.url).replace("timeout: 2s", "timeout: 1s")
    messages = [body(f"u{n}", "messages.send", {"ref": f"u{n}", "text": "x"}) for n in range(40)]
    with Ground(text, {**SHORT, "SLUICE_WORKERS": "2"}) as ground:
        names = {"worker-1", "worker-2"}
        before = {name: ground.processes[name] for name in names}
        assert names | {"up", "api", "journal"} == set(ground.processes)
        publish(ground, messages)
        for done, name in enumerate(sorted(names), 1):
            vendor.until(arrivals=8 * done)
            ground.kill(name)
        give_up = time.monotonic() + 10
        while any(ground.processes[name] == before[name] for name in names) and time.monotonic() < give_up:
            time.sleep(0.05)
        sums = until_quiet(ground.redis, 40)
        assert all(ground.processes[name] != before[name] and _alive(ground.processes[name]) for name in names)
        assert sums["completed"] + sums["escalated"] == 40
        assert vendor.counts().repeated_refs == []
        assert ledger.effects_agree(ledger.results(ground.redis), vendor.counts(), "crm.messages.send", "messages.send")


def test_a_redis_that_dies_is_started_again_and_nothing_acknowledged_is_lost(ground: Ground) -> None:
    publish(ground, reads(40))
    with ground.redis as redis:
        redis_pid = redis.info("server")["process_id"]
    os.kill(redis_pid, signal.SIGKILL)
    published = 40
    give_up = time.monotonic() + 15
    while published < 60 and time.monotonic() < give_up:
        try:
            publish(ground, reads(1, published))
        except (RedisConnectionError, OSError):
            time.sleep(0.1)
        else:
            published += 1
    sums = until_quiet(ground.redis, 60, timeout_s=30)
    assert (sums["completed"], sums.received_is_explained, sums.accepted_is_explained) == (60, True, True)


def test_after_a_kill_of_up_itself_the_next_up_goes_on(ground: Ground, vendor: VendorProcess) -> None:
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    publish(ground, reads(60))
    time.sleep(0.3)
    children = ground.processes
    os.kill(ground.up_pid, signal.SIGKILL)
    ground.wait()
    ground.start()
    sums = until_quiet(ground.redis, 60)
    assert (sums["completed"], sums.accepted_is_explained) == (60, True)
    give_up = time.monotonic() + 12
    while (orphans := [name for name, pid in children.items() if _alive(pid)]) and time.monotonic() < give_up:
        time.sleep(0.1)  # an orphan drains as at any stop, then ends
    assert orphans == []


async def test_an_api_killed_under_load_runs_no_call_twice(ground: Ground, vendor: VendorProcess) -> None:
    async with httpx2.AsyncClient(base_url=ground.url, timeout=10) as client:

        async def post(number: int) -> str:
            data = {"tool": "crm.contacts.create", "arguments": {"email": f"p{number}@example.com"}}
            headers = {"Idempotency-Key": f"p{number}", "Prefer": "wait=5"}
            for _ in range(100):
                try:
                    answer = await client.post("/v1/calls", json=data, headers=headers)
                except httpx2.TransportError:
                    await asyncio.sleep(0.1)
                    continue
                if answer.status_code == 200:
                    state: str = answer.json()["state"]
                    return state
                await asyncio.sleep(0.1)
            return "never"

        posts = [asyncio.create_task(post(number)) for number in range(80)]
        await asyncio.sleep(0.05)
        ground.kill("api")
        states = await asyncio.gather(*posts)
    assert states == ["completed"] * 80
    counts = vendor.counts()
    assert (counts.effects_total, counts.repeated_effects, counts.repeated_refs) == (80, [], [])
    sums = ledger.sums(ground.redis)
    assert sums.received_is_explained
    assert sums.accepted_is_explained


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("SLUICE_HOST", "0.0.0.0", "no Operator is declared"),
        ("SLUICE_BUS_URL", "redis://127.0.0.1:1/0", "Leave SLUICE_BUS_URL unset"),
    ],
)
def test_what_would_not_be_safe_is_refused_with_the_reason(setting: str, value: str, told: str, ground: Ground) -> None:
    environment = {**ground.environment, "SLUICE_DATA": str(ground.folder / "other"), setting: value}
    command = [sys.executable, "-m", "gateway", "up"]
    refused = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert refused.returncode == 2
    assert told in refused.stderr

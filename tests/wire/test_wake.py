"""Workers are woken, they do not poll: a lone call is claimed at once, and an idle worker costs next to nothing."""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.lanes.connect import connect
from gateway.lanes.queue import Lanes, Terms
from gateway.lanes.signals import Agenda, Signals
from gateway.ports import Admission
from schemas.topics import Shard, Topics
from tests.vendor.client import ROOT, manifest
from tests.wire.test_fairness import settled

pytestmark = pytest.mark.timed

TERMS = Terms(items=256, size_bytes=8_000_000, wait_s=0.01, most_bytes=10**9)
FAR = 10**17
WATCHED_S = 12
"""The kernel counts in hundredths of a second: over so long that is little beside the claim."""


def admission(number: int) -> Admission:
    name = f"c{number:05}"
    return Admission(
        id=name,
        lane="crm|-|echo",
        scope=name,
        print="p",
        body="{}",
        event="{}",
        timeout_us=1_000_000,
        deadline_us=FAR,
        limit=1000,
        flow="f",
        weight=4,
    )


async def test_a_lone_call_on_an_idle_system_is_claimed_within_two_milliseconds(redis: "Redis", redis_url: str) -> None:
    lanes = Lanes(redis, Topics(), shard=Shard(), terms=TERMS, plans=dict)
    claimed: asyncio.Queue[int] = asyncio.Queue()

    async def work(agenda: Agenda) -> None:
        for sequence in count():
            agenda.clear()
            claims = await lanes.claim("w", sequence, room=8, grace_us=1_000_000)
            for claim in claims.claims:
                claimed.put_nowait(claims.now_us)
                await lanes.settle(settled(claim))
            agenda.plan(claims.now_us, claims.due_us)
            await agenda.sleep(30)

    took_us = []
    async with connect(redis_url, timeout_s=None) as listener:
        signals = Signals(listener, Shard(), wait_s=0.1)
        listening, working = asyncio.create_task(signals.listen()), asyncio.create_task(work(signals.agendas[0]))
        await asyncio.sleep(0.2)
        for number in range(100):
            seconds, micros = await redis.time()
            await lanes.enqueue([admission(number)])
            # From before the call was stored until it was claimed, on one clock: that of Redis.
            took_us.append(await claimed.get() - (seconds * 1_000_000 + micros))
            await asyncio.sleep(0.005)
        listening.cancel()
        working.cancel()
    assert statistics.median(took_us) < 2_000


@pytest.mark.parametrize("waiting", [0, 50], ids=["nothing waits", "calls wait for a limit"])
def test_an_idle_worker_costs_less_than_one_percent_of_a_core(redis_url: str, tmp_path: Path, waiting: int) -> None:
    connectors, data = tmp_path / "connectors.d", tmp_path / "data"
    connectors.mkdir()
    data.mkdir()
    limits = "limits: {core: {rate: 1/d, per: connector}}\ndefaults: {limits: {core: 1}, "
    text = manifest("http://127.0.0.1:9").replace("defaults: {", limits, 1)
    (connectors / "crm.yaml").write_text(text, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    places = {"SLUICE_REDIS_URL": redis_url, "SLUICE_DATA": str(data), "SLUICE_CONNECTORS": str(connectors)}
    asyncio.run(_fill(redis_url, waiting))
    worker = subprocess.Popen(
        [sys.executable, "-m", "gateway", "worker"], cwd=ROOT, env={**clean, **places}, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(4)
        before = _cpu_s(worker.pid)
        time.sleep(WATCHED_S)
        assert (_cpu_s(worker.pid) - before) / WATCHED_S < 0.01
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()


async def _fill(redis_url: str, calls: int) -> None:
    async with connect(redis_url) as redis:
        await redis.flushall()
        lanes = Lanes(redis, Topics(), shard=Shard(), terms=TERMS, plans=dict)
        if calls:
            await lanes.enqueue([admission(number) for number in range(calls)])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

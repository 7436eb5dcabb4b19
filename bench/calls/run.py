"""The rounds, the ratios and their gates; see DESIGN's table of speed in `docs/benchmarks.md`."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop
from redis.asyncio import Redis

from bench.calls import latency
from bench.calls.contest import AT_ONCE, CLIENTS, Contender, Cost, by_hand, journalled, sluice
from bench.calls.latency import Steady
from bench.ground import ROOT, facts, server
from bench.report import Line, markdown, plain, write
from tests.authorized import CLIENT, SECRETS, declared
from tests.vendor.client import VendorProcess
from tests.vendor.tokens import DeskRequest

DOCUMENT = ROOT / "docs" / "benchmarks.md"
LIMITS = "limits: {core: {rate: 1000000/s}, open: {concurrency: 1000}}\ndefaults: {limits: {core: 1, open: 1}, "
GATES = {"httpx": 7.0, "httpx2": 3.0, "aiohttp": 1.3, "bare": 0.30}
CPU_GATE_US = 235.0
STEADY = 1000.0
"""Calls a second of the steady load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is measured."""

    rounds: int = 7
    calls: int = 4000
    warm: int = 1000
    """Calls before the first round: until there are connections and a token, and the code is warm."""
    seconds: float = 3.0
    """Of each steady load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that runs."""

    redis: "Redis"
    vendor: VendorProcess
    environment: dict[str, str]
    ours: Contender
    others: Sequence[Contender]


def main(arguments: Sequence[str]) -> int:
    """Return 0 when every gate was kept."""
    parser = argparse.ArgumentParser(prog="./dev bench calls", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, and the document stays as it is")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="what the table is dated")
    given = parser.parse_args(list(arguments))
    load = Load(rounds=1, calls=200, warm=100, seconds=1.0) if given.quick else Load()
    lines, told = uvloop.run(_measured(load, given.date))
    sys.stdout.write(plain(lines, told) + "\n")
    if not given.quick:
        write(DOCUMENT, "calls", markdown(lines, told))
    return 0 if given.quick or all(line.kept is not False for line in lines) else 1


@asynccontextmanager
async def _scene() -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, VendorProcess() as vendor:
        folder = Path(name)
        vendor.desk(DeskRequest(client_id=SECRETS["client_id"], client_secret=SECRETS["client_secret"]))
        names = ("client_id", "client_secret")
        text = declared(vendor.url, folder, auth=CLIENT, names=names).replace("defaults: {", LIMITS, 1)
        (folder / "crm.yaml").write_text(text, encoding="utf-8")
        async with server() as redis:
            url = f"unix://{redis.connection_pool.connection_kwargs['path']}"
            places = {"SLUICE_REDIS_URL": url, "SLUICE_DATA": str(folder), "SLUICE_CONNECTORS": f"{folder}/crm.yaml"}
            contenders = [
                await sluice(places),
                *[await by_hand(client, redis, (url, vendor.url)) for client in CLIENTS],
            ]
            try:
                yield Scene(redis=redis, vendor=vendor, environment=places, ours=contenders[0], others=contenders[1:])
            finally:
                for one in contenders:
                    one.process.kill()
                    one.process.wait()


async def _measured(load: Load, date: str) -> tuple[list[Line], dict[str, str]]:
    async with _scene() as scene:
        found: dict[str, list[Cost]] = {name: [] for name in ("bare", "sluice", *CLIENTS)}
        contenders = [scene.ours, *scene.others]
        for one in contenders:
            await one.work(scene.redis, 0, load.warm)
        for number in range(load.rounds):
            first = (number + 1) * 1_000_000
            found["bare"].append(await _bare(scene.vendor, load.calls))
            for one in [*contenders[number % 4 :], *contenders[: number % 4]]:
                found[one.name].append(await one.work(scene.redis, first, load.calls))
        lines = [
            *_throughput(found),
            *await _delays(scene, 1e6 / median(c.wall_us for c in found["sluice"]), load.seconds),
        ]
        journal_us = await journalled(scene.redis, scene.environment, load.warm + load.rounds * load.calls)
        told = {
            **await facts(scene.redis, date),
            "rounds": f"{load.rounds} of {load.calls:,} calls, {AT_ONCE} at once",
            "journal": f"{journal_us:,.0f} us of its own process a call, measured while it caught up",
            "without a result": ", ".join(f"{name} {sum(one.lost for one in costs)}" for name, costs in found.items()),
            "columns": "*by the clock* is calls a second, or what is added to a direct call; *server time* is processor "
            "time of the contender's process a call, and of Redis",
        }
        return lines, told


async def _bare(vendor: VendorProcess, calls: int) -> Cost:
    command = [sys.executable, "-m", "bench.calls.bare", vendor.url, str(calls), str(AT_ONCE)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    told = json.loads(out)
    return Cost(1e6 * told["wall_s"] / calls, 1e6 * told["cpu_s"] / calls)


def _throughput(found: dict[str, list[Cost]]) -> list[Line]:
    ours = found["sluice"]
    lines = []
    for name, costs in found.items():
        ratio = median(other.wall_us / one.wall_us for one, other in zip(ours, costs, strict=True))
        cpu_us = median(one.cpu_us for one in costs)
        gate = GATES.get(name)
        redis = f" + {median(one.redis_us for one in costs):,.0f}" if costs[0].redis_us else ""
        lines.append(
            Line(
                measure={"bare": "(a) bare aiohttp loop", "sluice": "(c) Sluice, every guard"}.get(name, f"(b) {name}"),
                clock=f"{1e6 / median(one.wall_us for one in costs):,.0f}/s",
                server=f"{cpu_us:,.0f}{redis} us",
                ratio="" if gate is None else f"{ratio:.2f}",
                gate="" if gate is None else f">= {gate}",
                kept=None if gate is None else ratio >= gate,
            )
        )
    cpu_us = median(one.cpu_us for one in ours)
    lines.append(
        Line(
            measure="worker CPU per call",
            server=f"{cpu_us:,.0f} us",
            ratio=f"{median(one.cpu_us / bare.cpu_us for one, bare in zip(ours, found['bare'], strict=True)):.2f} x (a)",
            gate=f"<= {CPU_GATE_US:.0f}",
            kept=cpu_us <= CPU_GATE_US,
        )
    )
    return lines


async def _delays(scene: Scene, most: float, seconds: float) -> list[Line]:
    lines = []
    for name, rate, gates in (("half load", most / 2, (10, 25)), ("1,000 calls/s", STEADY, (6, 20))):
        added, again = await latency.through(scene.ours, scene.redis, 900_000_000 + int(rate), Steady(rate, seconds))
        plainly = await latency.direct(scene.vendor.url, Steady(rate, seconds))
        for at, gate, more in zip(
            ("p50", "p99"), gates, (added.p50 - plainly.p50, added.p99 - plainly.p99), strict=True
        ):
            lines.append(
                Line(
                    measure=f"added at {name}, {at}",
                    clock=f"{more * 1000:.1f} ms",
                    ratio=f"{again} again" if again else "",
                    gate=f"<= {gate} ms",
                    kept=more * 1000 <= gate,
                )
            )
    return lines

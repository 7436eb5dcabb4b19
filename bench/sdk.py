"""`./dev bench sdk`: what a call of an HTTP client costs through the gateway in its process, beside the same call without it.

Rounds are interleaved, on the same vendor and cores, and medians are compared. The gateway's Redis writes every script through to the
disk, as it does for everybody.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2

from gateway.sdk.httpx2_transport import GatewayTransport
from gateway.settings import Settings
from tests.vendor.client import VendorProcess

ROUNDS = 5
ALONE, TOGETHER, FLIGHT = 100, 512, 64
MANIFEST = """
apiVersion: sluice/v1
kind: Connector
metadata: {{name: chat}}
base_url: {url}/v1
egress: {{allow_hosts: ["127.0.0.1"], allow_private: true}}
limits: {{calls: {{rate: 1000000/s}}}}
operations:
  completions.create: {{request: {{method: POST, path: /chat/completions}}, class: idempotent, limits: {{calls: 1}}}}
"""
BODY = {"model": "m-1", "messages": [{"role": "user", "content": "x" * 500}]}


def main(options: Sequence[str]) -> int:
    """Print the table; there are no gates and no options."""
    del options
    sys.stdout.write(asyncio.run(_measured()))
    return 0


async def _measured() -> str:
    with VendorProcess() as vendor, tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        manifest = Path(folder) / "chat.yaml"
        manifest.write_text(MANIFEST.format(url=vendor.url), encoding="utf-8")
        settings = Settings(data=Path(folder) / "data", connectors=[manifest])
        async with (
            GatewayTransport.open(settings, agent="bench") as transport,
            httpx2.AsyncClient(transport=transport, timeout=60) as through,
            httpx2.AsyncClient(timeout=60, trust_env=False) as direct,
        ):
            url = f"{vendor.url}/v1/chat/completions"
            found = [[await _round(client, url) for client in (direct, through)] for _ in range(ROUNDS + 1)][1:]
    lines = ["| measure | direct | through the gateway | added |", "| --- | --- | --- | --- |"]
    for index, name in enumerate(
        ("alone, p50", f"{FLIGHT} at once, by the clock", f"{FLIGHT} at once, CPU of the process")
    ):
        one, two = (statistics.median(pair[side][index] for pair in found) * 1e6 for side in (0, 1))
        lines.append(f"| {name} | {one:,.0f} us | {two:,.0f} us | {two - one:,.0f} us |")
    return "\n".join(lines) + "\n"


async def _round(client: httpx2.AsyncClient, url: str) -> tuple[float, float, float]:
    """Return seconds a call: the median of calls one after another; then of many at once, by the clock and of this process."""
    single = [await _call(client, url) for _ in range(ALONE)]
    room = asyncio.Semaphore(FLIGHT)

    async def one() -> None:
        async with room:
            await _call(client, url)

    began, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(TOGETHER)))
    clock, cpu = time.perf_counter() - began, time.process_time() - spent
    return statistics.median(single), clock / TOGETHER, cpu / TOGETHER


async def _call(client: httpx2.AsyncClient, url: str) -> float:
    began = time.perf_counter()
    (await client.post(url, json=BODY)).raise_for_status()
    return time.perf_counter() - began

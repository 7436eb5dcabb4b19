"""Contracts on a real Redis and a real API, without a vendor: a gateway whose answers are written down by the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
from redis.asyncio import Redis

from connectors.contract_files import BaselineFiles
from connectors.contract_guard import Checked, ContractGuard
from gateway import roles
from gateway.entrypoints import api
from gateway.flow.contract_control import ContractControl, Stores
from gateway.flow.contract_watch import ContractWatch
from gateway.lanes.findings import Findings
from gateway.lanes.overview import Overview
from tests.served import Served, listening, served

JSON = {"content-type": "application/json"}


@dataclass
class ContractStage:
    """The guard of one process beside the API of another."""

    gateway: Served
    guard: ContractGuard
    watch: ContractWatch
    findings: Findings
    http: httpx2.AsyncClient
    url: str
    alerts: list[dict[str, object]] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)

    async def answer(
        self, tool: str, result: Any, *, call: str = "c1", headers: dict[str, str] | None = None
    ) -> Checked:
        """Let a vendor answer, as the pipeline and the delivery would take it."""
        operation = self.gateway.gateway.catalog().operations[tool]
        checked = self.guard.check(operation, 200, JSON | (headers or {}), result)
        await self.watch.met(tool, call, checked.findings)
        return checked


@asynccontextmanager
async def contract_stage(redis: "Redis", redis_url: str, data: Path, manifests: str) -> AsyncIterator[ContractStage]:
    """Serve the API with contract control, and set the guard beside it."""
    async with served(redis_url, data, manifests, works=False) as running:
        gateway = running.gateway
        findings, files = Findings(redis, gateway.topics, gateway.shard), data / "contracts"
        stores = Stores(
            findings=findings,
            baselines=BaselineFiles(files),
            gates=gateway.lanes,
            overview=Overview(redis, gateway.shard, high_bytes=1 << 30),
        )
        control = ContractControl(stores, gateway.catalog, gateway.ambient)
        alerts: list[dict[str, object]] = []
        counted: list[str] = []

        async def alert(kind: str, facts: dict[str, object]) -> None:
            alerts.append({"type": kind, **facts})

        watch = ContractWatch(
            findings, gateway.ambient, alert, lambda tool, found: counted.append(f"{tool} {found.kind}")
        )
        parts = replace(roles._api_parts(gateway), contracts=control)
        async with (
            listening(api.build(parts)) as url,
            httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False) as http,
        ):
            yield ContractStage(
                running, ContractGuard(BaselineFiles(files).of), watch, findings, http, url, alerts, counted
            )

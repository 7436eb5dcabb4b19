"""Scenes for preflight and health: the scripted vendor's manifest with limits and credentials, and what can be wrong with it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from schemas.contracts.finding import Change, finding
from schemas.contracts.sighting import Sighting
from schemas.lifecycle import HoldReason
from tests.served import Served, served
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.limiter import LimitRequest
from tests.vendor.script import Behaviour
from tests.vendor.script import Kind as Do
from tests.vendor.tokens import DeskRequest

Serve = Callable[..., AbstractAsyncContextManager[Served]]
ECHO: dict[str, Any] = {"tool": "crm.echo", "count": 5}
CREATE: dict[str, Any] = {"tool": "crm.contacts.create", "count": 5}
CLIENT = "{type: oauth2, grant: client_credentials, token_url: /oauth/token}"
CONSENT = "{type: oauth2, grant: refresh_token, token_url: /oauth/token}"
SECRETS = """
---
apiVersion: sluice/v1
kind: Connection
metadata: {name: main, connector: crm}
secrets: {client_id: "${file:%(folder)s/id}", client_secret: "${file:%(folder)s/secret}"%(more)s}
"""


def declare(url: str, *, limits: str = "", auth: str = "{type: none}", more: str = "", tail: str = "") -> str:
    """Write the manifest of the scripted vendor; every operation uses the limit `core` where there is one."""
    text = manifest(url, auth=auth)
    if limits:
        text = text.replace("retry: {max_attempts: 5}}", "retry: {max_attempts: 5}, limits: {core: 1}}")
        more = f"limits: {{core: {limits}}}\n{more}"
    return text.replace("operations:\n", f"{more}operations:\n", 1) + tail


def secrets(folder: Path, *, refresh: bool = False) -> str:
    for name, text in (("id", "client"), ("secret", "s3cret/with+signs"), ("refresh", "refresh-0")):
        (folder / name).write_text(text)
    more = f', refresh_token: "${{file:{folder}/refresh}}"' if refresh else ""
    return SECRETS % {"folder": folder, "more": more}


BEARER = (
    '\n---\napiVersion: sluice/v1\nkind: Connection\nmetadata: {name: main, connector: crm}\nsecrets: {token: "%s"}\n'
)


def serving(redis_url: str, folder: Path) -> Serve:
    """Return what starts a gateway with these manifests."""

    def start(text: str, **more: Any) -> AbstractAsyncContextManager[Served]:
        return served(redis_url, folder / "data", text, **more)

    return start


async def ask(gateway: Served, *steps: Mapping[str, Any], headers: Any = None, **more: Any) -> dict[str, Any]:
    answer = await gateway.http.post("/v1/preflight", json={"steps": list(steps), **more}, headers=headers or {})
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


def checks(report: Mapping[str, Any], step: int = 0) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in report["steps"][step]["checks"]}


@dataclass(frozen=True)
class Scene:
    gateway: Served
    vendor: VendorProcess
    redis: Any


async def opened(scene: Scene) -> None:
    body = {"connector": "crm", "reason": "they migrate"}
    assert (await scene.gateway.http.post("/v1/breakers/open", json=body)).status_code == 200


async def tripped(scene: Scene) -> None:
    await scene.vendor.aio.script("*", Behaviour(do=Do.STATUS, status=503, forever=True))
    for _ in range(6):
        await scene.gateway.http.post("/v1/calls", json={"tool": "crm.echo", "arguments": {}})
    for _ in range(100):
        await asyncio.sleep(0.05)
        found = (await scene.gateway.http.get("/v1/breakers")).json()["breakers"]
        if found[0]["state"] == "open":
            return
    raise AssertionError("the breaker did not open")


async def paused(scene: Scene) -> None:
    body = {"tool": "crm.echo", "reason": "wrong import"}
    assert (await scene.gateway.http.post("/v1/lanes/pause", json=body)).status_code == 200


async def limited(scene: Scene) -> None:
    await scene.vendor.aio.limit(LimitRequest(most=0, window=30.0, retry_after="30"))
    await scene.gateway.http.post("/v1/calls", json={"tool": "crm.echo", "arguments": {}})
    for _ in range(100):
        await asyncio.sleep(0.05)
        gauges = (await scene.gateway.http.get("/v1/lanes/crm.echo")).json()
        if gauges["hold"] and gauges["hold"]["limit"] is None:
            return
    raise AssertionError("the limit was not closed")


async def waits(scene: Scene, calls: int = 8, tool: str = "crm.echo", **arguments: Any) -> None:
    await scene.gateway.gateway.fleet.beat()
    body = {"tool": tool, "arguments": arguments}
    await asyncio.gather(*(scene.gateway.http.post("/v1/calls", json=body) for _ in range(calls)))


async def flooded(scene: Scene) -> None:
    await scene.redis.set("{s0}:watermark", 1)


async def flooded_and_alive(scene: Scene) -> None:
    await flooded(scene)
    await alive(scene)


async def alive(scene: Scene) -> None:
    await scene.gateway.gateway.fleet.beat()


async def quarantined(scene: Scene) -> None:
    detail = "/id was text and is now a number"
    await scene.gateway.gateway.lanes.hold("@crm||contacts.create", HoldReason.CONTRACT_QUARANTINE, detail)


def seen(change: Change, tool: str = CREATE["tool"]) -> Callable[[Scene], Awaitable[None]]:
    async def note(scene: Scene) -> None:
        found = finding(change, tool)
        text = msgspec.json.encode(found).decode()
        sighting = Sighting(
            fingerprint=found.fingerprint, tool=tool, call="c1", count=1, finding=text, event="{}", alert=""
        )
        await scene.gateway.gateway.guarding.findings.note([sighting])

    return note


async def revoked(scene: Scene) -> None:
    await scene.vendor.aio.revoke()


async def no_client(scene: Scene) -> None:
    await scene.vendor.aio.desk(DeskRequest(client_secret="another"))


async def dying(scene: Scene) -> None:
    """Give a token of a minute, five minutes ago as far as anybody can tell, and let the endpoint fail from then on."""
    await scene.vendor.aio.desk(DeskRequest(lifetime=600.0))
    assert (await scene.gateway.http.post("/v1/connections/crm/main/check")).json()["worked"]
    key = "{s0}:token:crm|main"
    issued = int(await scene.redis.hget(key, "issued_us"))
    await scene.redis.hset(key, "issued_us", issued - 400_000_000)
    await scene.vendor.aio.script("token", Behaviour(do=Do.STATUS, status=503, forever=True, body={}))


async def refused(scene: Scene) -> None:
    await scene.vendor.aio.auth("bearer", "another")
    await scene.gateway.publish("crm.echo", {})
    await asyncio.sleep(1.2)

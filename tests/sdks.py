"""Two real SDKs from PyPI, one on each of httpx and httpx2, on a gateway in the test's own process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import groq
import httpx
import httpx2
import openai

from gateway.sdk import httpx2_transport, httpx_transport
from gateway.sdk.door import Door
from gateway.settings import Settings
from tests.vendor.client import VendorProcess

DUMMY = "dummy-key-of-the-sdk"
REAL = "real-key-of-the-vendor"
BREAKER = "{consecutive: 3, min_calls: 100, open: 1s}"


@dataclass(frozen=True, slots=True)
class Sdk:
    """One SDK with the library it is built on."""

    name: str
    errors: Any
    library: Any
    transport: Any
    prefix: str
    """Where its requests go below the vendor's URL."""
    make: Callable[..., Any]

    def client(self, transport: Any, url: str, **more: Any) -> Any:
        """Make its asynchronous client, exactly as its manual says, but for the transport."""
        base_url = url + self.prefix if self.name == "openai" else url
        http = self.library.AsyncClient(transport=transport)
        return self.make(api_key=DUMMY, base_url=base_url, http_client=http, **more)


SDKS = [
    Sdk("openai", openai, httpx2, httpx2_transport.GatewayTransport, "/v1", openai.AsyncOpenAI),
    Sdk("groq", groq, httpx, httpx_transport.GatewayTransport, "/openai/v1", groq.AsyncGroq),
]


def declared(url: str, sdk: Sdk, **changes: str) -> str:
    """Give the manifests of the connector `chat` for one SDK; `changes` are lines in YAML."""
    lines = {
        "auth": "{type: bearer}",
        "limits": "{calls: {rate: 1000/s}}",
        "timeout": "2s",
        "completion": "class: unsafe",
        "model": "class: safe",
        "secrets": "{}",
        "more": "",
        **changes,
    }
    return f"""
apiVersion: sluice/v1
kind: Connector
metadata: {{name: chat}}
base_url: {url}{sdk.prefix}
auth: {lines["auth"]}
egress: {{allow_hosts: ["127.0.0.1"], allow_private: true}}
limits: {lines["limits"]}
defaults: {{timeout: {lines["timeout"]}, limits: {{calls: 1}}, breaker: {BREAKER}}}
operations:
  completions.create: {{request: {{method: POST, path: /chat/completions}}, {lines["completion"]}}}
  models.get: {{request: {{method: GET, path: "/models/{{model}}"}}, {lines["model"]}}}
---
apiVersion: sluice/v1
kind: Connection
metadata: {{name: main, connector: chat}}
secrets: {lines["secrets"]}
{lines["more"]}
"""


@dataclass(frozen=True, slots=True)
class Opened:
    """A gateway in this process, and an SDK on it."""

    sdk: Sdk
    url: str
    door: Door
    transport: Any
    client: Any

    @property
    def gateway(self) -> Any:
        return self.door._gateway

    def other(self, **more: Any) -> Any:
        """Make another client on the same gateway."""
        return self.sdk.client(self.transport, self.url, **more)

    async def complete(self, said: str = "hello", **more: Any) -> Any:
        """Ask for a completion."""
        return await asked(self.client, said, **more)


async def asked(client: Any, said: str = "hello", **more: Any) -> Any:
    """Ask for a completion; `user` names it in the vendor's books."""
    messages = [{"role": "user", "content": said}]
    return await client.chat.completions.create(model="m-1", messages=messages, user=more.pop("user", said), **more)


@asynccontextmanager
async def opened(
    sdk: Sdk, redis_url: str | None, data: Path, vendor: VendorProcess, **more: Any
) -> AsyncIterator[Opened]:
    """Open a gateway for one SDK; what is not a setting of it goes into the manifest."""
    data.mkdir(mode=0o700, exist_ok=True)
    file, client = data / "manifests.yaml", more.pop("client", {})
    door: dict[str, Any] = {"agent": "tester", **more.pop("door", {})}
    known = {name: more.pop(name) for name in list(more) if name in Settings.model_fields}
    (data / "key").write_text(REAL)
    more.setdefault("secrets", f"{{token: '${{file:{data / 'key'}}}'}}")
    file.write_text(declared(vendor.url, sdk, **more), encoding="utf-8")
    settings = Settings(redis_url=redis_url, data=data, connectors=[file], **{"backoff_base": 0.05, **known})
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(sdk.transport.open(settings, **door))
        made = await stack.enter_async_context(sdk.client(transport, vendor.url, **client))
        yield Opened(sdk, vendor.url, transport._door, transport, made)

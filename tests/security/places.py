"""Every place where an address can come in, and what is done there with each: as far as the wire, if it is let through.

A place takes an address, drives the product's own code with it, and ends. Whether anything was dialled is not its business.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from connectors import catalog as manifests
from connectors.arguments import SchemaError, compile_schema
from connectors.auth.refresher import Client, Code, Refresher
from connectors.catalog import Catalog
from connectors.declared import Connection, Egress, OAuth2
from connectors.exchange import Lease, Marked, SendPolicy
from connectors.matching import Matcher, Sent, Unmatched
from connectors.pipeline import Pipeline
from connectors.reach import Reach
from connectors.secret import Secret
from connectors.transport import Engine
from gateway.policy.webhooks import Message, Target, misfit, request
from schemas.effect import OperationClass
from schemas.outcome import Outcome
from tests.examples import operation, tool_call
from tests.security.watched import authority
from tests.tiny_vendor import Vendor, get, vendor

POLICY = SendPolicy(timeout_s=1.0, allow_private=False, fresh=False, cap_wire_bytes=4096, cap_decoded_bytes=4096)
SECRET = "whsec_" + "c2x1aWNlLWFsZXJ0cy1hcmUtc2lnbmVkLWhlcmUh"
LOCAL = Egress(allow_hosts=("127.0.0.1",), allow_private=True)
EVERYWHERE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "path": {"path": "/v1/{where}"},
        "query": {"method": "GET", "query": {"next": "{where}"}},
        "header": {"headers": {"X-Next": "{where}"}},
        "body": {},
    }
)


@dataclass(frozen=True)
class Ground:
    """What the places work with."""

    engine: Engine
    pipeline: Pipeline
    folder: Path
    vendor: Vendor
    hint: list[str]
    """The address that the vendor's next answer points at, in every header and field that could be followed."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.vendor.port}"


Place = Callable[[Ground, str], Awaitable[None]]


async def marked() -> Marked:
    return "marked"


async def attempt(ground: Ground, arguments: dict[str, Any], **changes: Any) -> Outcome:
    """Run one call through the whole pipeline."""
    owner = changes.pop("connection", None)
    asked = {"op_class": OperationClass.SAFE, **changes}
    call = tool_call(arguments, timeout_us=1_000_000)
    return await ground.pipeline.attempt(call, operation(**asked), owner, Lease(mark=marked, holds=lambda: True))


async def wire(ground: Ground, url: str) -> None:
    """The transport itself, as if no name had been checked before it."""
    for fresh in (False, True):
        with suppress(ValueError):  # what is no URL at all; `egress.allowed` has refused it long before
            await ground.engine.send(get(url), replace(POLICY, fresh=fresh))


async def base_url(ground: Ground, url: str) -> None:
    """A connector's own address, which its author has also put on the list of allowed hosts."""
    await attempt(ground, {}, base_url=url, egress=Egress(allow_hosts=(authority(url),), allow_private=False))


async def connection(ground: Ground, url: str) -> None:
    """The address of a connection, which stands in for the connector's."""
    mine = Connection(name="main", connector="crm", base_url=url)
    for hosts in (("crm.example.com",), (authority(url),)):
        egress = Egress(allow_hosts=hosts, allow_private=False)
        await attempt(ground, {}, base_url="https://crm.example.com", connection=mine, egress=egress)


async def manifest(ground: Ground, url: str) -> None:
    """A manifest as a file; what is wrong with it is told, and what is not is called."""
    for name, text in _manifests(url).items():
        file = ground.folder / f"{name}.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        loaded = manifests.load([file], {})
        for declared in loaded.catalog.operations.values():
            owner = next(iter(loaded.catalog.connections.values()), None)
            call = tool_call({}, timeout_us=1_000_000)
            await ground.pipeline.attempt(call, declared, owner, Lease(mark=marked, holds=lambda: True))


def _manifests(url: str) -> dict[str, str]:
    quoted, host = msgspec.json.encode(url).decode(), msgspec.json.encode(authority(url)).decode()
    head = "apiVersion: sluice/v1\nkind: Connector\nmetadata: {name: crm, version: 1.0.0}\n"
    body = "operations: {x: {request: {method: GET, path: /}, class: safe}}\n"
    free = f"{head}base_url: {quoted}\nauth: {{type: none}}\negress: {{allow_hosts: [{host}]}}\n{body}"
    own = f"{head}base_url: https://crm.example.com\nauth: {{type: none}}\negress: {{allow_hosts: [crm.example.com, {host}]}}\n{body}"
    own += f"---\napiVersion: sluice/v1\nkind: Connection\nmetadata: {{name: m, connector: crm}}\nbase_url: {quoted}\n"
    reference = f"{head}base_url: https://crm.example.com\nauth: {{type: none}}\noperations:\n  x:\n"
    reference += "    request: {method: GET, path: /}\n    class: safe\n"
    reference += f"    input: {{$ref: {quoted}}}\n    output: {{properties: {{a: {{$ref: {quoted}}}}}}}\n"
    return {"free": free, "own": own, "reference": reference}


async def schema(_: Ground, url: str) -> None:
    """A `$ref` in a contract or in the schema of arguments. Its library is not Python: here only the listener counts."""
    for keyword in ("$ref", "$dynamicRef", "$schema", "$id"):
        with suppress(SchemaError):
            compile_schema({keyword: url, "type": "object"}).is_valid({})


async def token_url(ground: Ground, url: str) -> None:
    """The token endpoint of a connector."""
    client = client_of(url, Egress(allow_hosts=(authority(url),), allow_private=False))
    await Refresher(ground.engine, timeout_s=1.0).fresh(client, None, now_s=0.0)


async def webhook(ground: Ground, url: str) -> None:
    """The address that alerts are sent to."""
    misfit(url, SECRET, private=False)
    target = Target(url=url, keys=(b"k" * 24,), private=False)
    if target.refusal is None:
        message = Message(id="m", type="alert.opened", body=b"{}")
        await ground.engine.send(request(message, 1_795_000_000, target), POLICY)


async def reach(ground: Ground, url: str) -> None:
    """What preflight and health dial to see whether somebody is there."""
    await Reach(lambda: 0.0).look(url, Egress(allow_hosts=(authority(url),), allow_private=False))


async def sdk(ground: Ground, url: str) -> None:
    """The request of an SDK that runs through the gateway."""
    found = Matcher(Catalog(operations={"crm.contacts.create": operation()})).match(
        Sent(method="POST", url=url, headers={}), max_bytes=1 << 20
    )
    assert isinstance(found, Unmatched), found


async def arguments(ground: Ground, url: str) -> None:
    """What an agent writes, wherever the template puts it."""
    for changes in EVERYWHERE.values():
        await attempt(ground, {"where": url}, **{"base_url": ground.base, "egress": LOCAL, **changes})


async def answer(ground: Ground, url: str) -> None:
    """What a vendor answers: redirects, links, a next page, an endpoint to ask."""
    ground.hint[:] = [url]
    await attempt(ground, {}, method="GET", base_url=ground.base, egress=LOCAL)
    await Refresher(ground.engine, timeout_s=1.0).fresh(client_of(ground.base + "/token", LOCAL), None, now_s=0.0)


async def redirect_uri(ground: Ground, url: str) -> None:
    """Where a browser is sent after a person's consent: told to the token endpoint, and to nobody else."""
    code = Code(code=Secret("c"), verifier=Secret("v"), redirect_uri=url)
    await Refresher(ground.engine, timeout_s=1.0).redeem(client_of(ground.base + "/token", LOCAL), code, now_s=0.0)


def client_of(url: str, egress: Egress) -> Client:
    return Client(
        oauth2=OAuth2(grant="client_credentials", token_url=url),
        token_url=url,
        egress=egress,
        client_id=Secret("id"),
        secret=Secret("s"),
    )


DIALLED: Mapping[str, Place] = {
    "transport": wire,
    "base_url": base_url,
    "connection": connection,
    "manifest": manifest,
    "token_url": token_url,
    "webhook": webhook,
    "reach": reach,
}
"""Places whose address the product would dial."""
ONLY_SAID: Mapping[str, Place] = {
    "schema": schema,
    "sdk": sdk,
    "arguments": arguments,
    "answer": answer,
    "redirect_uri": redirect_uri,
}
"""Places whose address is text to the product."""

_STATUSES = (301, 302, 303, 307, 308, 300, 305, 200, 401, 429, 503)


def pointing(hint: list[str]) -> Any:
    """Return how a vendor answers that points at `hint` in all ways there are, by another status each time."""
    said = [0]

    async def reply(_: Vendor, __: bytes, writer: Any) -> None:
        url = hint[0] if hint else "/"
        plain = url.replace("\r", "").replace("\n", "").encode("utf-8", "surrogatepass")
        said[0] += 1
        status = _STATUSES[said[0] % len(_STATUSES)]
        names = (b"Location", b"Content-Location", b"Refresh: 0; url", b"X-Accel-Redirect", b"Alt-Svc", b"Retry-After")
        lines = [name + (b"=" if b":" in name else b": ") + plain for name in names]
        lines += [b"Link: <" + plain + b'>; rel="next"', b'WWW-Authenticate: Bearer resource_metadata="' + plain + b'"']
        body = msgspec.json.encode({"next": url, "token_endpoint": url, "$ref": url, "$schema": url})
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
        writer.write(b"HTTP/1.1 %d X\r\n" % status + b"\r\n".join(lines) + b"\r\n\r\n" + body)
        await writer.drain()

    return reply


@asynccontextmanager
async def pointing_vendor(hint: list[str]) -> AsyncIterator[Vendor]:
    async with vendor(pointing(hint)) as upstream:
        yield upstream

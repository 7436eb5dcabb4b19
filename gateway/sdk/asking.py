"""A request of an HTTP client, as the door takes it: the same for every client with the shape of httpx."""

from collections.abc import Mapping
from typing import Any, Protocol

from connectors.matching import Sent
from gateway.sdk.door import Door, Patience
from gateway.sdk.ending import Reply


class Asked(Protocol):
    """What is read of a client's request."""

    method: str

    @property
    def url(self) -> object:
        """Its address, which reads as a text."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, in any case."""

    @property
    def extensions(self) -> Mapping[str, Any]:
        """What the client wants of its transport; its timeouts, in seconds."""

    async def aread(self) -> bytes:
        """Read the body."""


async def asked(door: Door, request: Asked) -> Reply:
    """Make the request as a call; raises `Broken`."""
    timeout = request.extensions.get("timeout", {})
    sent = Sent(
        method=request.method,
        url=str(request.url),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.aread(),
    )
    return await door.ask(sent, Patience(start_s=timeout.get("pool"), answer_s=timeout.get("read")))

"""The transport for httpx: `httpx.AsyncClient(transport=…)` makes its calls through the gateway. The only httpx file here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx

from gateway.sdk.asking import asked
from gateway.sdk.door import Caller, Door
from gateway.sdk.ending import Broken, Kind
from gateway.sdk.opening import open_door
from gateway.settings import Settings

_RAISED: Final[dict[Kind, type[httpx.TransportError]]] = {kind: getattr(httpx, kind) for kind in Kind}


class GatewayTransport(httpx.AsyncBaseTransport):
    """Give it to an `httpx.AsyncClient`, and that to an SDK. Closing the client leaves the gateway open."""

    def __init__(self, door: Door) -> None:
        """`door` may be shared with other transports."""
        self._door = door

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings | None = None,
        *,
        agent: str,
        connector: str | None = None,
        connection: str | None = None,
        works: bool = True,
    ) -> AsyncIterator["GatewayTransport"]:
        """Open a gateway in this process until the end of the context; see `Caller` and `open_door`."""
        caller = Caller(agent=agent, connector=connector, connection=connection)
        async with open_door(caller, settings, works=works) as door:
            yield cls(door)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make the request as a call; raises what httpx would for a vendor that cannot be reached or does not answer."""
        try:
            reply = await asked(self._door, request)
        except Broken as broken:
            raise _RAISED[broken.kind](broken.message, request=request) from None
        return httpx.Response(reply.status, headers=dict(reply.headers), content=reply.body, request=request)

"""The transport for httpx2: `httpx2.AsyncClient(transport=…)` makes its calls through the gateway. The only httpx2 file here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2

from gateway.sdk.asking import asked
from gateway.sdk.door import Caller, Door
from gateway.sdk.ending import Broken, Kind
from gateway.sdk.opening import open_door
from gateway.settings import Settings

_RAISED: Final[dict[Kind, type[httpx2.TransportError]]] = {kind: getattr(httpx2, kind) for kind in Kind}


class GatewayTransport(httpx2.AsyncBaseTransport):
    """Give it to an `httpx2.AsyncClient`, and that to an SDK. Closing the client leaves the gateway open."""

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

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make the request as a call; raises what httpx2 would for a vendor that cannot be reached or does not answer."""
        try:
            reply = await asked(self._door, request)
        except Broken as broken:
            raise _RAISED[broken.kind](broken.message, request=request) from None
        return httpx2.Response(reply.status, headers=dict(reply.headers), content=reply.body, request=request)

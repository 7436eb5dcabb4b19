"""Looking after credentials between calls: renews what is due, finishes what was left half done, and keeps the gates in step."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from connectors.auth.token_source import Credential, TokenSource, credential
from connectors.catalog import Catalog
from gateway.flow.connection_control import pairs

AT_ONCE: Final = 16
"""Connections looked after at the same time: one slow vendor must not keep the others waiting."""


class TokenCare:
    """A chore of every worker; what two do at once, the store's lease makes one of."""

    def __init__(
        self, source: TokenSource, agree: Callable[[Sequence[str]], Awaitable[None]], catalog: Callable[[], Catalog]
    ) -> None:
        """`agree` makes the gates of these connections say what their credentials say."""
        self._source = source
        self._agree = agree
        self._catalog = catalog
        self._first = True

    async def run(self) -> None:
        """Look once at every connection that uses tokens."""
        first, self._first = self._first, False
        found = self._credentials()
        for at in range(0, len(found), AT_ONCE):
            await asyncio.gather(*(self._source.tend(one, first=first) for one in found[at : at + AT_ONCE]))
        await self._agree([one.name for one in found])

    async def forgot(self) -> None:
        """Redis has lost its state: whose refresh token stood nowhere else needs a consent."""
        for one in self._credentials():
            await self._source.forgotten(one)

    def _credentials(self) -> list[Credential]:
        return [credential(*pair) for pair in pairs(self._catalog()) if pair[0].auth.oauth2 is not None]

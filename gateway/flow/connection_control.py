"""Connections in the hands of people: how their credentials stand; set, check, authorize and revoke them. Shows no secret."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import structlog

from connectors.auth.consent import consent_url
from connectors.auth.freshness import SHUT, TokenState
from connectors.auth.grants import MOST_CHARACTERS
from connectors.auth.refresher import Code
from connectors.auth.token_source import TokenSource, credential
from connectors.auth.token_store import AccessToken
from connectors.catalog import Catalog
from connectors.declared import Connection, Operation
from connectors.secret import Secret
from gateway.flow.refusals import Nowhere, Unfit

log = structlog.get_logger()

UNUSED: Final = "no token was fetched yet"


class ConnectionView(msgspec.Struct, frozen=True, kw_only=True):
    """How one connection stands."""

    connection: str
    """`connector/name`."""
    auth: str
    grant: str | None
    state: str | None
    """None: its credential is no token, and lasts as long as its owner wants."""
    version: int
    expires_s: float | None
    """Seconds until its access token ends; None: not told."""
    age_s: float | None
    retry_s: float | None
    scopes: str
    detail: str
    next: str


class CheckedView(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an attempt to get a token."""

    worked: bool
    detail: str
    connection: ConnectionView


class ConnectionControl:
    """The use-case; one instance a process."""

    def __init__(self, source: TokenSource, catalog: Callable[[], Catalog]) -> None:
        """`catalog` is asked each time, so that a reloaded one is used at once."""
        self._source = source
        self._catalog = catalog

    async def ls(self) -> list[ConnectionView]:
        """List every connection."""
        return [await self._view(operation, connection) for operation, connection in pairs(self._catalog())]

    async def show(self, connector: str, name: str) -> ConnectionView:
        """Look at one; raises `Nowhere`."""
        return await self._view(*self._find(connector, name))

    async def check(self, connector: str, name: str, *, by: str) -> CheckedView:
        """Get a new token now; raises `Nowhere` and `Unfit`."""
        operation, connection = self._with_tokens(connector, name)
        found = await self._source.check(credential(operation, connection))
        return await self._checked("checked", found, operation, connection, by)

    async def give(self, connector: str, name: str, refresh: str, *, by: str) -> CheckedView:
        """Keep a refresh token and use it once; raises `Nowhere` and `Unfit`."""
        operation, connection = self._with_tokens(connector, name)
        self._consents(operation)
        if not (
            0 < len(refresh) <= MOST_CHARACTERS and refresh.isascii() and refresh.isprintable() and " " not in refresh
        ):
            raise Unfit("/refresh_token", f"a refresh token is one word of at most {MOST_CHARACTERS} ASCII characters")
        found = await self._source.give(credential(operation, connection), Secret(refresh))
        return await self._checked("set", found, operation, connection, by)

    def authorize(self, connector: str, name: str, *, redirect_uri: str, state: str, challenge: str) -> str:
        """Return where a person consents; raises `Nowhere` and `Unfit`."""
        operation, connection = self._with_tokens(connector, name)
        self._consents(operation)
        try:
            return consent_url(operation, connection, redirect_uri=redirect_uri, state=state, challenge=challenge)
        except ValueError as error:
            raise Unfit("", str(error)) from None

    async def redeem(self, connector: str, name: str, code: Code, *, by: str) -> CheckedView:
        """Exchange the code that a person's browser brought; raises `Nowhere` and `Unfit`."""
        operation, connection = self._with_tokens(connector, name)
        self._consents(operation)
        found = await self._source.redeem(credential(operation, connection), code)
        return await self._checked("authorized", found, operation, connection, by)

    async def revoke(self, connector: str, name: str, *, by: str) -> ConnectionView:
        """Forget the tokens; its calls wait until somebody consents again. Raises `Nowhere` and `Unfit`."""
        operation, connection = self._with_tokens(connector, name)
        await self._source.forget(credential(operation, connection))
        log.warning("connection.revoked", connection=f"{connector}/{name}", who=by)
        return await self._view(operation, connection)

    async def _checked(
        self, done: str, found: object, operation: Operation, connection: Connection, by: str
    ) -> CheckedView:
        worked = isinstance(found, AccessToken)
        named = f"{connection.connector}/{connection.name}"
        log.warning("connection.changed", connection=named, done=done, worked=worked, who=by)
        detail = "the vendor gave a token" if worked else str(getattr(found, "reason", ""))
        return CheckedView(worked=worked, detail=detail, connection=await self._view(operation, connection))

    async def _view(self, operation: Operation, connection: Connection) -> ConnectionView:
        oauth2 = operation.auth.oauth2
        named = f"{connection.connector}/{connection.name}"
        lacks = ", ".join(sorted(connection.missing))
        if oauth2 is None:
            return ConnectionView(
                connection=named, auth=operation.auth.type, grant=None, state=None, version=0, expires_s=None, age_s=None,
                retry_s=None, scopes="", detail=f"it lacks its secret {lacks}" if lacks else "", next="sluice doctor" if lacks else "",
            )  # fmt: skip
        kept = await self._source.look(credential(operation, connection))
        asks = oauth2.grant == "refresh_token" and kept.version == 0 and "refresh_token" not in connection.secrets
        state = TokenState.NEEDS_CONSENT if asks else kept.state
        return ConnectionView(
            connection=named,
            auth=operation.auth.type,
            grant=oauth2.grant,
            state=state,
            version=kept.version,
            expires_s=None if kept.left_s is None else max(0.0, round(kept.left_s, 3)),
            age_s=round((kept.now_us - kept.issued_us) / 1e6, 3) if kept.issued_us else None,
            retry_s=round((kept.retry_us - kept.now_us) / 1e6, 3) if kept.retry_us > kept.now_us else None,
            scopes=kept.scope,
            detail=f"it lacks its secret {lacks}" if lacks else kept.detail or (UNUSED if not kept.version else ""),
            next=_next(state, named, consents=oauth2.authorize_url is not None),
        )

    def _find(self, connector: str, name: str) -> tuple[Operation, Connection]:
        for operation, connection in pairs(self._catalog()):
            if (connection.connector, connection.name) == (connector, name):
                return operation, connection
        raise Nowhere("", f"there is no connection {f'{connector}/{name}'[:256]!r}")

    def _with_tokens(self, connector: str, name: str) -> tuple[Operation, Connection]:
        operation, connection = self._find(connector, name)
        if operation.auth.oauth2 is None:
            raise Unfit("", f"{connector} uses {operation.auth.type}: its secret stands in the manifest's reference")
        return operation, connection

    def _consents(self, operation: Operation) -> None:
        if operation.auth.oauth2 is None or operation.auth.oauth2.grant != "refresh_token":
            raise Unfit("", f"{operation.connector} uses client_credentials: nobody has to consent")


def pairs(catalog: Catalog) -> Iterator[tuple[Operation, Connection]]:
    """Yield each connection with an operation of its connector: they all share its auth."""
    operations = {operation.connector: operation for operation in catalog.operations.values()}
    for _, connection in sorted(catalog.connections.items()):
        if connection.connector in operations:
            yield operations[connection.connector], connection


def _next(state: TokenState, named: str, *, consents: bool) -> str:
    if state is TokenState.CONFIG_ERROR:
        return f"sluice connections check {named}"
    if state in SHUT:
        return f"sluice connections {'authorize' if consents else 'set'} {named}"
    return f"sluice connections check {named}" if state is TokenState.IN_DOUBT else ""

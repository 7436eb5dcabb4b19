"""Puts the connection's credential on a rendered request, as the last step before it is sent.

Called only after the host was found among the connector's own (egress), because whoever gets the request gets the
credential. Never shows a secret: what is missing is told by name.
"""

import base64
import re
from typing import Final
from urllib.parse import urlencode

from connectors.declared import Auth, Connection
from connectors.exchange import RenderedRequest, Unavailable
from connectors.secret import Secret

NO_CONNECTION: Final = "The call names no connection, but its connector needs a credential."

_NOT_IN_HEADER = re.compile(r"[\x00-\x1f\x7f]")


class _Unusable(Exception):  # noqa: N818 - a verdict on a secret; it never leaves this module
    pass


def authorise(request: RenderedRequest, auth: Auth, connection: Connection | None) -> RenderedRequest | Unavailable:
    """Return `request` with the credential that `auth` asks for."""
    if auth.type == "none":
        return request
    if connection is None:
        return Unavailable(NO_CONNECTION)
    try:
        return _authorised(request, auth, connection)
    except _Unusable as unusable:
        return Unavailable(f"The connection {connection.name} cannot be used: {unusable}.")


def with_token(request: RenderedRequest, token_type: str, token: Secret) -> RenderedRequest:
    """Return `request` with a token that was fetched for it (RFC 6750, 2.1)."""
    return _with_header(request, "authorization", f"{token_type} {token.reveal()}")


def _authorised(request: RenderedRequest, auth: Auth, connection: Connection) -> RenderedRequest:
    match auth.type:
        case "api_key" if auth.where == "query" and auth.name:
            separator = "&" if "?" in request.url else "?"
            pair = urlencode({auth.name: _secret(connection, "api_key")})
            return RenderedRequest(request.method, f"{request.url}{separator}{pair}", request.headers, request.body)
        case "api_key" if auth.name:
            return _with_header(request, auth.name, _secret(connection, "api_key"))
        case "bearer":
            return _with_header(request, "authorization", f"Bearer {_secret(connection, 'token')}")
        case "basic":
            pair = f"{_secret(connection, 'username')}:{_secret(connection, 'password')}"
            return _with_header(request, "authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
        case _:
            raise _Unusable(f"this version cannot do {auth.type}")


def _with_header(request: RenderedRequest, name: str, value: str) -> RenderedRequest:
    headers = {**request.headers, name.lower(): value}
    return RenderedRequest(request.method, request.url, headers, request.body)


def _secret(connection: Connection, name: str) -> str:
    secret = connection.secrets.get(name)
    if secret is None:
        missing = connection.missing.get(name)
        raise _Unusable(f"its secret {name} is missing" + (f" ({missing})" if missing else ""))
    value = secret.reveal()
    if _NOT_IN_HEADER.search(value):
        raise _Unusable(f"its secret {name} has more than one line or control characters")
    return value

"""Requests from elsewhere: while nobody is declared, only what this machine itself asks is answered.

Without keys a web page could reach the API through its visitor's browser, across origins or by a name that is rebound to the loopback.
Knows nothing of keys; that is `auth`.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import Problem, ProblemError, refused
from schemas.failure import Failure

OPEN: Mapping[str, Any] = {"open": True}
"""The mark of a handler that answers everybody: it tells nothing and changes nothing."""


async def local(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of every handler that is not `OPEN`; runs before the body is read."""
    catalog = parts_of(connection).catalog()
    if catalog.agents or catalog.operators or handler.opt.get("open"):
        return
    headers = connection.headers
    reason = foreign(headers.getall("host", []), headers.getall("origin", []), headers.getall("sec-fetch-site", []))
    if reason is not None:
        raise ProblemError(_refusal(reason))


def foreign(hosts: list[str], origins: list[str], sites: list[str]) -> str | None:
    """Say what shows that a request comes from elsewhere, if anything does."""
    if not hosts or not all(is_loopback(f"//{host}") for host in hosts):
        return "its Host is not this machine's loopback"
    if not all(is_loopback(origin) for origin in origins):
        return "its Origin is not on this machine"
    if any(site.strip().lower() == "cross-site" for site in sites):
        return "a browser sent it for a page of another site"
    return None


def is_loopback(url: str) -> bool:
    """Tell whether an address, with or without a port, names the loopback in a way that nobody else can answer for."""
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _refusal(reason: str) -> Problem:
    detail = f"no Agent and no Operator is declared, so only this machine may ask, by a loopback address: {reason}"
    return msgspec.structs.replace(
        refused(Failure.INGEST_AUTH, detail),
        status=403,
        title="This request came from elsewhere",
        action="Ask http://127.0.0.1 or http://localhost directly, not from a web page; or declare an Agent or Operator and use its key.",
    )

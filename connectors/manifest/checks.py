"""What a connector's keys must be to each other. Works on the plain tree, so that one mistake does not hide the next.

Every check skips what is not even the right shape: `shape` has already said so.
"""

from collections.abc import Iterator
from typing import Any

from connectors.manifest.health_checks import check_health
from connectors.manifest.limit_checks import check_limits
from connectors.manifest.operation_checks import check_operation
from connectors.manifest.origin import allowed_host_fault, covered, host_of, is_absolute, url_fault
from connectors.manifest.problem import Finding, Path, quoted, suggestion
from connectors.manifest.rates_model import rate_findings


def check_connector(tree: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong or worth knowing, beyond the shape of the keys."""
    yield from _addresses(tree)
    yield from check_limits(tree)
    yield from rate_findings(tree)
    yield from check_health(tree)
    operations = mapping(tree, "operations")
    for name, operation in operations.items():
        if isinstance(operation, dict):
            yield from check_operation(name, operations, auth_header(tree))


def mapping(tree: Any, *path: str) -> dict[str, Any]:
    """Return the mapping at a path, empty when there is none."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def allow_hosts(tree: dict[str, Any]) -> list[str]:
    """Return the hosts a connector may call: what it declares, else its base_url's."""
    declared = mapping(tree, "egress").get("allow_hosts")
    if isinstance(declared, list):
        return [entry for entry in declared if isinstance(entry, str)]
    base_url = tree.get("base_url")
    host = host_of(base_url) if isinstance(base_url, str) else None
    return [host] if host else []


def allow_private(tree: dict[str, Any]) -> bool:
    return mapping(tree, "egress").get("allow_private") is True


def address_findings(url: object, connector: dict[str, Any], path: Path) -> Iterator[Finding]:
    """Judge one base_url against a connector's egress."""
    if not isinstance(url, str):
        return
    if fault := url_fault(url, allow_private=allow_private(connector)):
        yield Finding(path=path, message=f"{path[-1]}: {fault}")
    elif not covered(url, allow_hosts(connector)):
        host, hosts = host_of(url) or "", allow_hosts(connector)
        message = f"{path[-1]}: the host {quoted(host)} is not in egress.allow_hosts"
        yield Finding(path=path, message=message, hint=suggestion(host, hosts))


def auth_header(tree: dict[str, Any]) -> str | None:
    """Return the header, in lower case, that credentials are written into."""
    auth = mapping(tree, "auth")
    match auth.get("type"):
        case "api_key" if auth.get("in") == "header" and isinstance(auth.get("name"), str):
            return str(auth["name"]).lower()
        case "bearer" | "basic" | "oauth2":
            return "authorization"
        case _:
            return None


def _addresses(tree: dict[str, Any]) -> Iterator[Finding]:
    declared = mapping(tree, "egress").get("allow_hosts")
    for index, entry in enumerate(declared if isinstance(declared, list) else ()):
        if isinstance(entry, str) and (fault := allowed_host_fault(entry)):
            yield Finding(path=("egress", "allow_hosts", index), message=f"allow_hosts: {fault}")
    yield from address_findings(tree.get("base_url"), tree, ("base_url",))
    yield from _oauth2(tree)


def _oauth2(tree: dict[str, Any]) -> Iterator[Finding]:
    auth = mapping(tree, "auth")
    for name in ("token_url", "authorize_url"):
        url, path = auth.get(name), ("auth", name)
        if not isinstance(url, str) or (url.startswith("/") and not url.startswith("//")):
            continue
        if not is_absolute(url):
            yield Finding(path=path, message=f"{name}: must be an address, or a path that starts with /")
        elif name == "token_url":  # a person's browser goes where it likes
            yield from address_findings(url, tree, path)
    for name in ("key_id", "audience"):
        if name in auth and auth.get("client_auth") != "private_key_jwt":
            yield Finding(
                path=("auth", name), at_key=True, message=f"{name} is only used with client_auth private_key_jwt"
            )
    if "authorize_url" in auth and auth.get("grant") == "client_credentials":
        message = "authorize_url is only used with grant refresh_token: a client of its own asks nobody for consent"
        yield Finding(path=("auth", "authorize_url"), at_key=True, message=message)

"""Where each value of a tool comes from: the operation, its connector's defaults, or this program."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from connectors.catalog import Catalog
from connectors.declared import Operation, Use
from connectors.manifest.assemble import egress_of, inherit
from connectors.manifest.document import Document
from connectors.manifest.model import ConnectorManifest
from connectors.manifest.problem import Path
from schemas.codec import encode

BUILT_IN = "built-in default"
_WHOLE = frozenset({"input", "output", "arguments", "match"})
"""Keys whose value is data, shown in one piece."""


class Explained(NamedTuple):
    key: str
    value: str
    origin: str
    """`file:line`, or `built-in default`."""


def explain(catalog: Catalog, tool: str) -> list[Explained]:
    """Return every effective value of a tool; nothing when the tool is unknown."""
    operation = catalog.operation(tool)
    if operation is None or operation.connector not in catalog.connectors:
        return []
    connector = catalog.connectors[operation.connector]
    effective = _effective(connector.manifest, operation)
    return [
        Explained(".".join(path), _text(value), _origin(connector.document, operation.name, path))
        for path, value in _leaves(effective, ())
    ]


def _effective(manifest: ConnectorManifest, operation: Operation) -> dict[str, Any]:
    own, defaults, egress = manifest.operations[operation.name], manifest.defaults, egress_of(manifest)
    parts = own.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        **{key: value for key, value in parts.items() if value not in ("", {})},
        "timeout": str(own.timeout or defaults.timeout),
        "retry": inherit(defaults.retry, own.retry).model_dump(mode="json"),
        "contract": inherit(defaults.contract, own.contract).model_dump(mode="json"),
        "limits": {use.limit.name: _use(use) for use in operation.uses},
        "breaker": defaults.breaker.model_dump(mode="json"),
        "base_url": manifest.base_url,
        "auth": manifest.auth.model_dump(mode="json", by_alias=True),
        "egress": {"allow_hosts": list(egress.allow_hosts), "allow_private": egress.allow_private},
    }


def _use(use: Use) -> str:
    limit = use.limit
    told = f"{_cost(use)} of {limit.text} per {limit.per}"
    told += "" if limit.kind == "concurrency" else f", {limit.kind}"
    return told + (f", settled at {use.actual}" if use.actual is not None else "")


def _cost(use: Use) -> str:
    if use.estimate is None:
        return str(use.cost)
    return f"{use.estimate} + {use.cost}" if use.cost else use.estimate


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and not (path and path[-1] in _WHOLE):
        for key, below in value.items():
            yield from _leaves(below, (*path, key))
    else:
        yield path, value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return encode(value).decode()


def _origin(document: Document, name: str, path: tuple[str, ...]) -> str:
    for written in (("operations", name, *path), ("defaults", *path), path):
        if _is_written(document.tree, written) and written != ("limits", *path[1:]):
            return f"{document.file}:{document.position(written, at_key=True).line}"
    return BUILT_IN


def _is_written(tree: Any, path: Path) -> bool:
    for part in path:
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True

"""What a connector's limits must be in themselves and to the operations that use them. Works on the plain tree, like `checks`."""

from collections.abc import Iterator
from typing import Any

from connectors.limits import at_once
from connectors.manifest.problem import Finding, Path, Severity, quoted, suggestion
from connectors.manifest.units import Rate

_ELSEWHERE = frozenset(
    {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "dependentRequired", "dependentSchemas"}
)
"""Keywords that may require a property where `required` does not."""


def check_limits(tree: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the limits of a connector and with every use of one."""
    limits = _mapping(tree.get("limits"))
    for name, limit in limits.items():
        if isinstance(limit, dict):
            yield from _limit(name, limit)
    defaults = _mapping(_mapping(tree.get("defaults")).get("limits"))
    yield from _uses(defaults, limits, ("defaults", "limits"))
    for name, operation in _mapping(tree.get("operations")).items():
        if isinstance(operation, dict):
            yield from _of_operation(operation, defaults, limits, ("operations", name))
    yield from _unused(tree, limits, defaults)


def _mapping(tree: Any) -> dict[str, Any]:
    return tree if isinstance(tree, dict) else {}


def _unused(tree: dict[str, Any], limits: dict[str, Any], defaults: dict[str, Any]) -> Iterator[Finding]:
    operations = _mapping(tree.get("operations")).values()
    used = set(defaults).union(*(_mapping(one.get("limits")) for one in operations if isinstance(one, dict)))
    for name in limits:
        if name not in used:
            yield Finding(
                path=("limits", name),
                at_key=True,
                message=f"{name}: no operation takes this limit, so nothing is held to it",
                severity=Severity.WARNING,
                hint=f"name it under defaults.limits or an operation's limits, as {name}: 1",
            )


def _limit(name: str, limit: dict[str, Any]) -> Iterator[Finding]:
    path = ("limits", name)
    if ("rate" in limit) == ("concurrency" in limit):
        yield Finding(path=path, at_key=True, message=f"{name}: a limit is either a rate or a concurrency")
    elif "mode" in limit and "concurrency" in limit:
        yield Finding(path=(*path, "mode"), at_key=True, message="mode: only a rate has a mode")


def _of_operation(
    operation: dict[str, Any], defaults: dict[str, Any], limits: dict[str, Any], path: Path
) -> Iterator[Finding]:
    own = _mapping(operation.get("limits"))
    yield from _uses(own, limits, (*path, "limits"))
    inherited = operation.get("limits") is None
    for name, use in (defaults if inherited else own).items():
        estimate = _estimate(use).get("path")
        if name not in limits or not isinstance(estimate, str) or _required(operation.get("input"), estimate):
            continue
        # What is inherited is told at each operation that lacks the argument, since that is where it can be mended.
        yield Finding(
            path=path if inherited else (*path, "limits", name, "estimate", "path"),
            at_key=inherited,
            message=f"{name}: input does not require {quoted(estimate)}, and a call without it is rejected",
            severity=Severity.WARNING,
        )


def _uses(uses: dict[str, Any], limits: dict[str, Any], path: Path) -> Iterator[Finding]:
    for name, use in uses.items():
        if name not in limits:
            hint = suggestion(name, limits) or "declare it under the connector's limits"
            yield Finding(path=(*path, name), at_key=True, message=f"unknown limit {quoted(name)}", hint=hint)
        elif isinstance(limits[name], dict):
            yield from _use(use, limits[name], (*path, name))


def _use(use: Any, limit: dict[str, Any], path: Path) -> Iterator[Finding]:
    name, estimate = path[-1], _estimate(use)
    if isinstance(use, dict) and "concurrency" in limit:
        yield Finding(
            path=path, at_key=True, message=f"{name}: a concurrency counts calls; only a rate has weighted costs"
        )
        return
    if estimate.get("path") == "":
        at = (*path, "estimate", "path")
        yield Finding(path=at, message="path: must lead to one argument such as /max_tokens")
    held, cost = _held(limit), estimate.get("plus") if isinstance(use, dict) else use
    if held is not None and isinstance(cost, int) and not isinstance(cost, bool) and cost > held[0]:
        at = (*path, "estimate", "plus") if isinstance(use, dict) else path
        message = f"{name}: a cost of {cost} can never be paid from {held[1]}: calls would wait for ever"
        yield Finding(path=at, message=message)


def _estimate(use: Any) -> dict[str, Any]:
    return _mapping(_mapping(use).get("estimate"))


def _held(limit: dict[str, Any]) -> tuple[int, str] | None:
    """Return how much a limit holds, and in what words; None when it is not the right shape."""
    rate, concurrency = limit.get("rate"), limit.get("concurrency")
    if isinstance(concurrency, int):
        return concurrency, at_once(concurrency)
    try:
        return (Rate.parse(rate).count, rate) if isinstance(rate, str) else None
    except ValueError:
        return None


def _required(schema: Any, pointer: str) -> bool:
    """Tell whether a schema requires what a pointer leads to; also when it is too clever to be judged here."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(schema, dict):
            return False
        if _ELSEWHERE & set(schema):
            return True
        required = schema.get("required")
        if not isinstance(required, list) or name not in required:
            return False
        schema = _mapping(schema.get("properties")).get(name)
    return True

"""What `health` of a connector must be: a probe that changes nothing, with arguments that its input takes. Works on the plain tree."""

from collections.abc import Iterator
from typing import Any

from connectors.arguments import ArgumentCheck, SchemaError
from connectors.manifest.problem import Finding, Severity, quoted, suggestion
from connectors.manifest.units import Duration

LEAST_EVERY_S = 30.0
"""A probe is a request like any other; a vendor is not asked how it is more often."""


def check_health(tree: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the probe."""
    health, operations = tree.get("health"), tree.get("operations")
    if not isinstance(health, dict) or not isinstance(operations, dict):
        return
    yield from _every(health.get("every"))
    name = health.get("probe")
    if not isinstance(name, str):
        return
    operation, at = operations.get(name), ("health", "probe")
    if name not in operations:
        message = f"health: there is no operation {quoted(name)} in this connector"
        yield Finding(path=at, message=message, hint=suggestion(name, operations))
    elif isinstance(operation, dict):
        if operation.get("class", "unsafe") != "safe":
            yield Finding(path=at, message=f"health: {quoted(name)} must be of class safe, since it is called to look")
        if isinstance(operation.get("approval"), dict):
            yield Finding(path=at, message=f"health: {quoted(name)} needs an approval", severity=Severity.WARNING)
        yield from _arguments(health.get("arguments", {}), operation)


def _every(text: object) -> Iterator[Finding]:
    try:
        seconds = Duration.parse(text).seconds if isinstance(text, str) else LEAST_EVERY_S
    except ValueError:  # said by `shape`
        return
    if seconds < LEAST_EVERY_S:
        yield Finding(path=("health", "every"), message=f"health: every is at least {LEAST_EVERY_S:g}s")


def _arguments(arguments: object, operation: dict[str, Any]) -> Iterator[Finding]:
    request = operation.get("request")
    path = request.get("path") if isinstance(request, dict) else None
    schema = operation.get("input")
    if not isinstance(arguments, dict) or not isinstance(path, str) or not isinstance(schema, dict | None):
        return
    try:
        errors = ArgumentCheck(schema, path).errors(arguments)
    except SchemaError:  # said where the schema stands
        return
    for error in errors:
        message = f"health: the arguments of the probe do not fit: {error.pointer or '/'}: {error.message}"
        yield Finding(path=("health",), at_key=True, message=message)

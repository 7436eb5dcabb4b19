"""What a read-back must be to the operation it looks for, so that it can neither miss a call nor take another one for it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from connectors.arguments import PLACEHOLDER
from connectors.manifest.problem import Finding, Path, Severity, quoted, suggestion
from connectors.manifest.units import Duration
from connectors.readback import KEY
from schemas.effect import OperationClass

SHORT_S = 1.0
"""A `settle` below this is more likely a slip than a vendor's word."""

_NOT_SAFE = frozenset(OperationClass) - {OperationClass.SAFE}


def check_readback(operation: dict[str, Any], operations: dict[str, Any], path: Path) -> Iterator[Finding]:
    readback = operation.get("readback")
    if isinstance(readback, dict):
        yield from _target(readback, operations, (*path, "readback", "operation"))
        yield from _bound(readback, operation, (*path, "readback"))
        yield from _settle(readback.get("settle"), (*path, "readback", "settle"))


def _target(readback: dict[str, Any], operations: dict[str, Any], at: Path) -> Iterator[Finding]:
    target = readback.get("operation")
    if not isinstance(target, str):
        return
    if target not in operations:
        message = f"readback: there is no operation {quoted(target)} in this connector"
        yield Finding(path=at, message=message, hint=suggestion(target, operations))
    elif isinstance(operations[target], dict) and operations[target].get("class", "unsafe") in _NOT_SAFE:
        yield Finding(path=at, message=f"readback: {quoted(target)} must be of class safe, since it is called to look")
    elif isinstance(operations[target], dict) and isinstance(operations[target].get("approval"), dict):
        yield Finding(
            path=at, message=f"readback: {quoted(target)} must need no approval, since nobody is asked to look"
        )


def _settle(settle: Any, at: Path) -> Iterator[Finding]:
    with suppress(ValueError):  # its shape is told elsewhere
        if isinstance(settle, str) and Duration.parse(settle).seconds < SHORT_S:
            message = (
                f"readback: what does not show after {settle} is sent again, and many vendors' lists are seconds behind"
            )
            yield Finding(path=at, message=message, hint="settle: 5m", severity=Severity.WARNING)


def _bound(readback: dict[str, Any], operation: dict[str, Any], path: Path) -> Iterator[Finding]:
    match = readback.get("match")
    where = match.get("where") if isinstance(match, dict) else None
    if not isinstance(where, dict):
        return
    templates = [((*path, "match", "where", name), value) for name, value in where.items()]
    if not any(_placeholders(value) for _, value in templates):
        message = "readback: nothing in where tells one call from another: name an argument, such as {ref}"
        yield Finding(path=(*path, "match", "where"), at_key=True, message=message)
    arguments = readback.get("arguments")
    given = arguments.items() if isinstance(arguments, dict) else ()
    templates += [((*path, "arguments", name), value) for name, value in given]
    for at, value in templates:
        for name in _placeholders(value):
            yield from _named(name, operation, at)


def _named(name: str, operation: dict[str, Any], at: Path) -> Iterator[Finding]:
    if name == KEY:
        if "idempotency" not in operation:
            message = "readback: without idempotency the vendor is never told the key: only a call with it as an argument too can be found"
            hint = "idempotency: {header: Idempotency-Key, window: 24h}"
            yield Finding(path=at, message=message, hint=hint, severity=Severity.WARNING)
        return
    schema = operation.get("input")
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    known = set(properties) if isinstance(properties, dict) else set[str]()
    if schema.get("additionalProperties") is False and "patternProperties" not in schema and name not in known:
        message = f"readback: {{{name}}} is not among the properties that input allows"
        yield Finding(path=at, message=message, hint=suggestion(name, known))
    elif name not in (schema.get("required") or ()):
        message = f"readback: input does not require {quoted(name)}, and a call without it cannot be looked for"
        yield Finding(path=at, message=message, severity=Severity.WARNING)


def _placeholders(value: Any) -> list[str]:
    return PLACEHOLDER.findall(value) if isinstance(value, str) else []

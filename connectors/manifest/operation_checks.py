"""What one operation's keys must be to each other and to its sisters. Works on the plain tree, like `checks`."""

import re
from collections.abc import Iterator
from typing import Any

from connectors.arguments import PLACEHOLDER, SchemaError, compile_schema
from connectors.manifest.problem import Finding, Path, Severity, quoted, suggestion
from connectors.manifest.readback_checks import check_readback

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/{}-]*", re.ASCII)
_FRAMING = frozenset(
    {
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
        "traceparent",
    }
)
_CREDENTIAL = frozenset({"authorization", "proxy-authorization", "cookie"})


def check_operation(name: str, operations: dict[str, Any], auth_header: str | None) -> Iterator[Finding]:
    operation, path = operations[name], ("operations", name)
    yield from _class(operation, path)
    yield from check_readback(operation, operations, path)
    yield from _headers(operation, auth_header, path)
    yield from _schemas(operation, path)
    request = operation.get("request")
    if isinstance(request, dict):
        yield from _path(request.get("path"), (*path, "request", "path"))
        yield from _arguments(operation, request, (*path, "request"))


def _class(operation: dict[str, Any], path: Path) -> Iterator[Finding]:
    op_class = operation.get("class", "unsafe")
    at = (*path, "class")
    if op_class == "keyed" and "idempotency" not in operation:
        hint = "idempotency: {header: Idempotency-Key, window: 24h}"
        yield Finding(path=at, message="class keyed needs idempotency with the header that carries the key", hint=hint)
    if op_class == "verifiable" and "readback" not in operation:
        yield Finding(path=at, message="class verifiable needs readback: how to find out whether it ran")
    if "idempotency" in operation and op_class not in {"keyed", "verifiable"}:
        message = f"idempotency is only used by class keyed and verifiable; this operation is {quoted(op_class)}"
        yield Finding(path=(*path, "idempotency"), at_key=True, message=message, severity=Severity.WARNING)
    if "readback" in operation and op_class != "verifiable":
        message = f"readback is only used by class verifiable; this operation is {quoted(op_class)}"
        yield Finding(path=(*path, "readback"), at_key=True, message=message, severity=Severity.WARNING)


def _headers(operation: dict[str, Any], auth_header: str | None, path: Path) -> Iterator[Finding]:
    request, idempotency = operation.get("request"), operation.get("idempotency")
    headers = request.get("headers") if isinstance(request, dict) else None
    declared = [(name, (*path, "request", "headers", name)) for name in headers] if isinstance(headers, dict) else []
    if isinstance(idempotency, dict) and isinstance(idempotency.get("header"), str):
        declared.append((idempotency["header"], (*path, "idempotency", "header")))
    seen: set[str] = set()
    for name, at in declared:
        folded = name.lower()
        if folded in _CREDENTIAL or folded == auth_header:
            yield Finding(
                path=at,
                at_key=True,
                message=f"header {quoted(name)}: credentials belong in auth and a Connection's secrets",
            )
        elif folded in _FRAMING:
            yield Finding(path=at, at_key=True, message=f"header {quoted(name)} belongs to the gateway")
        elif folded in seen:
            yield Finding(path=at, at_key=True, message=f"header {quoted(name)} is set twice")
        seen.add(folded)


def _schemas(operation: dict[str, Any], path: Path) -> Iterator[Finding]:
    for key in ("input", "output"):
        schema = operation.get(key)
        if not isinstance(schema, dict):
            continue
        try:
            compile_schema(schema)
        except SchemaError as invalid:
            yield Finding(
                path=(*path, key, *invalid.path), message=f"{key} is not a usable JSON Schema: {invalid.message}"
            )
        if key == "input" and schema.get("type", "object") != "object":
            yield Finding(path=(*path, key, "type"), message="input: arguments are always an object")


def _path(template: object, at: Path) -> Iterator[Finding]:
    if not isinstance(template, str):
        return
    rest = PLACEHOLDER.sub("", template)
    if not template.startswith("/"):
        yield Finding(path=at, message="path: must start with /")
    elif "?" in template:
        yield Finding(path=at, message="path: parameters belong in query", hint="query: {name: value}")
    elif "{" in rest or "}" in rest:
        yield Finding(path=at, message="path: a placeholder is {name}, of letters, digits and _")
    elif _PATH.fullmatch(template) is None:
        yield Finding(path=at, message="path: has characters that must be percent-encoded")
    elif {".", ".."} & set(rest.split("/")) or "//" in template:
        yield Finding(path=at, message="path: must not hold empty, . or .. segments")


def _arguments(operation: dict[str, Any], request: dict[str, Any], path: Path) -> Iterator[Finding]:
    schema = operation.get("input")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or schema.get("additionalProperties") is not False or "patternProperties" in schema:
        return
    known = set(properties) if isinstance(properties, dict) else set()
    for at, template in _templates(request, path):
        for name in PLACEHOLDER.findall(template):
            if name not in known:
                message = f"{{{name}}} is not among the properties that input allows"
                yield Finding(path=at, message=message, hint=suggestion(name, known))


def _templates(request: dict[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(request.get("path"), str):
        yield (*path, "path"), request["path"]
    for group in ("query", "headers"):
        entries = request.get(group)
        for name, template in entries.items() if isinstance(entries, dict) else ():
            if isinstance(template, str):
                yield (*path, group, name), template

"""A request that somebody made who knows nothing of tools, back to a tool and its arguments: the inverse of `render`.

What is found is rendered again and held against the request: a method, URL or body that would arrive differently is refused
with the manifest line that is missing, and never changed on the way. Headers are the manifest's: those that say what is asked
must be declared there, credentials are dropped, and what only describes the client or its connection is left out. Pure.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from connectors.arguments import PLACEHOLDER
from connectors.catalog import Catalog, Unknown
from connectors.declared import Operation
from connectors.exchange import RenderRefused
from connectors.render import render
from schemas.codec import Undecodable, decode, encode
from schemas.effect import OperationClass
from schemas.tool_call import Origin, Request, ToolCall

_SCALARS = frozenset({"integer", "number", "boolean"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_PORTS = {"http": 80, "https": 443}
_LEFT_OUT = re.compile(
    # framing and the client's own description: the gateway has its own
    r"host|connection|keep-alive|te|content-length|transfer-encoding|accept(-encoding|-language)?|user-agent|content-type"
    # credentials: the connection has them
    r"|authorization|proxy-authorization|cookie|(x-)?api-key"
    # told to the gateway: which call this is, and of which trace
    r"|idempotency-key|traceparent|tracestate|baggage"
    # what SDKs tell about themselves
    r"|x-stainless-[a-z-]+"
)
_PROBE = ToolCall(
    id="",
    tool="",
    connector="",
    connection=None,
    op_class=OperationClass.SAFE,
    arguments={},
    agent="",
    session=None,
    priority="normal",
    key="",
    vendor_key="",
    accepted_us=0,
    deadline_us=0,
    timeout_us=0,
    request=Request(source="", id=""),
    origin=Origin(engine=""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request as an HTTP client made it."""

    method: str
    url: str
    """Absolute and percent-encoded."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What the request asks for."""

    operation: Operation
    connection: str | None
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """No declared operation says exactly this; the message names what the manifest lacks, and no value."""

    message: str


class _Unfit(Exception):  # noqa: N818 - a verdict on one request and one operation; it never leaves this module
    pass


@dataclass(frozen=True, slots=True)
class _Route:
    operation: Operation
    connection: str | None
    base_url: str
    segments: tuple[str, ...]
    literals: int


class Matcher:
    """The operations of a catalog by what their requests look like; one connector's and one connection's, if they are named."""

    def __init__(self, catalog: Catalog, *, connector: str | None = None, connection: str | None = None) -> None:
        self._routes: dict[tuple[str, str], list[_Route]] = {}
        self._origins: dict[str, str] = {}
        for operation in catalog.operations.values():
            if connector is not None and operation.connector != connector:
                continue
            chosen = catalog.connection_for(operation, connection)
            if not isinstance(chosen, Unknown):
                base_url = (chosen.base_url if chosen else None) or operation.base_url
                self._add(operation, chosen.name if chosen else None, base_url)

    def match(self, sent: Sent, *, max_bytes: int) -> Matched | Unmatched:
        """Find the one operation that says exactly what was sent."""
        try:
            url = _split(sent.url)
            found = self._found(sent, url)
            if not found:
                return Unmatched(self._undeclared(sent, url))
            return _read(found[0], sent, url, max_bytes)
        except _Unfit as unfit:
            return Unmatched(str(unfit))

    def _add(self, operation: Operation, connection: str | None, base_url: str) -> None:
        base = urlsplit(base_url)
        path = f"{base.path.rstrip('/')}/{operation.path.partition('?')[0].removeprefix('/')}"
        segments = tuple(path.split("/"))
        literals = sum(PLACEHOLDER.search(segment) is None for segment in segments)
        route = _Route(operation, connection, base_url, segments, literals)
        self._routes.setdefault((operation.method, _origin(base)), []).append(route)
        self._origins[_origin(base)] = f"{operation.connector}, whose base_url is {base_url}"

    def _found(self, sent: Sent, url: SplitResult) -> list[_Route]:
        """Return the routes whose path this is, the most literal one first."""
        path = url.path.split("/")
        known = self._routes.get((sent.method, _origin(url)), ())
        fitting = [route for route in known if _path(route, path) is not None]
        fitting.sort(key=lambda route: -route.literals)
        if len(fitting) > 1 and fitting[0].literals == fitting[1].literals:
            raise _Unfit(
                f"{fitting[0].operation.tool} and {fitting[1].operation.tool} both answer to this request; "
                "name the connector that is meant when the transport is opened."
            )
        return fitting

    def _undeclared(self, sent: Sent, url: SplitResult) -> str:
        origin = _origin(url)
        asked = f"No operation is declared for {sent.method} {origin}{url.path}."
        owner = self._origins.get(origin)
        if owner is None:
            known = ", ".join(sorted(self._origins)) or "none"
            return f"{asked} No connector that may be used here has a base_url there; there is: {known}."
        base = urlsplit(owner.rpartition(" ")[2]).path.rstrip("/")
        path = url.path.removeprefix(base) or "/"
        name = ".".join(re.findall(r"[a-z][a-z0-9_-]*", path.lower())) or "root"
        line = f'{name}: {{request: {{method: {sent.method}, path: "{path}"}}}}'
        return f"{asked} Add to `operations` of the connector {owner}: {line}"


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise _Unfit("The URL cannot be read.") from None


def _origin(url: SplitResult) -> str:
    try:
        port = url.port or _PORTS.get(url.scheme, 0)
    except ValueError:
        raise _Unfit("The URL has no port that could be called.") from None
    return f"{url.scheme}://{(url.hostname or '').lower()}:{port}"


def _read(route: _Route, sent: Sent, url: SplitResult, max_bytes: int) -> Matched:
    operation = route.operation
    path = _path(route, url.path.split("/")) or {}
    arguments: dict[str, Any] = {name: _typed(operation, name, text) for name, text in path.items()}
    named = _headers(operation, sent.headers)
    pairs = _without_credential(operation, url)
    query, rest = _query(operation, pairs)
    for found in (named, query, rest):
        if clash := arguments.keys() & found.keys():
            raise _Unfit(
                f"The request gives {min(clash)} twice, in places that {operation.tool} takes as one argument."
            )
        arguments |= found
    arguments = _with_body(operation, arguments, sent, max_bytes)
    _must_be_the_same(route, arguments, sent, pairs)
    return Matched(operation=operation, connection=route.connection, arguments=arguments)


def _path(route: _Route, segments: Sequence[str]) -> dict[str, str] | None:
    if len(segments) != len(route.segments):
        return None
    values: dict[str, str] = {}
    for template, segment in zip(route.segments, segments, strict=True):
        found = _filled(template, unquote(segment))
        if found is None or any(values.get(name, text) != text for name, text in found.items()):
            return None
        values |= found
    return values


def _filled(template: str, text: str) -> dict[str, str] | None:
    """Read a text by its template; None when it is another text."""
    parts = PLACEHOLDER.split(template)
    if len(parts) == 1:
        return {} if unquote(template) == text else None
    if len(parts) == 3 and not parts[0] and not parts[2]:
        return {parts[1]: text} if text else None
    pattern = "".join("(.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    found = re.fullmatch(pattern, text, re.DOTALL)
    return None if found is None else dict(zip(parts[1::2], found.groups(), strict=True))


def _headers(operation: Operation, headers: Mapping[str, str]) -> dict[str, Any]:
    declared = {name.lower(): template for name, template in operation.headers.items()}
    credential = operation.auth.name if operation.auth.where == "header" else None
    ours = {(credential or "").lower(), (operation.idempotency_header or "").lower()}
    arguments: dict[str, Any] = {}
    for name, text in headers.items():
        if name in declared:
            found = _filled(declared[name], text)
            if found is None:
                raise _Unfit(f"{operation.tool} declares another value for the header {name} than the client sends.")
            arguments |= {one: _typed(operation, one, value) for one, value in found.items()}
        elif name not in ours and not _LEFT_OUT.fullmatch(name):
            line = f'headers: {{{name}: "{{{name.replace("-", "_")}}}"}}'
            raise _Unfit(
                f"The header {name} is not declared, so it would not arrive. Add to `request` of {operation.tool}: {line}"
            )
    accept = headers.get("accept", "*/*")
    if "json" not in accept and "*/*" not in accept:
        raise _Unfit("The client accepts no JSON; streams and files cannot be passed on, ask without them.")
    return arguments


def _query(operation: Operation, pairs: list[tuple[str, str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of the declared parameters, and the others."""
    grouped: dict[str, list[str]] = {}
    for name, text in pairs:
        grouped.setdefault(name, []).append(text)
    literal = {name for name, _ in parse_qsl(operation.path.partition("?")[2])}
    declared: dict[str, Any] = {}
    for name in literal | operation.query.keys():
        texts = grouped.pop(name, None)
        template = operation.query.get(name, "")
        if texts is None or name in literal or not PLACEHOLDER.search(template):
            continue  # what the manifest says itself is compared at the end
        if (whole := PLACEHOLDER.fullmatch(template)) is not None:
            declared[whole[1]] = _several(operation, whole[1], texts)
        elif len(texts) == 1 and (found := _filled(template, texts[0])) is not None:
            declared |= found
        else:
            raise _Unfit(f"{operation.tool} declares another form of the parameter {name} than the client sends.")
    if grouped and operation.method in _WITH_BODY:
        name = next(iter(grouped))
        line = f'query: {{{name}: "{{{re.sub("[^A-Za-z0-9_.-]", "_", name)}}}"}}'
        raise _Unfit(f"The parameter {name} is not declared. Add to `request` of {operation.tool}: {line}")
    return declared, {name: _several(operation, name, texts) for name, texts in grouped.items()}


def _several(operation: Operation, name: str, texts: list[str]) -> Any:
    schema = _schema(operation, name)
    if len(texts) == 1 and schema.get("type") != "array":
        return _typed(operation, name, texts[0])
    items = schema.get("items")
    return [_as(items if isinstance(items, Mapping) else {}, text) for text in texts]


def _schema(operation: Operation, name: str) -> Mapping[str, Any]:
    properties = (operation.input_schema or {}).get("properties")
    found = properties.get(name) if isinstance(properties, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _typed(operation: Operation, name: str, text: str) -> Any:
    return _as(_schema(operation, name), text)


def _as(schema: Mapping[str, Any], text: str) -> Any:
    """Read a text as the number or truth value that its schema wants, where it would be written the same way again."""
    if schema.get("type") not in _SCALARS:
        return text
    try:
        value = decode(text.encode(), max_bytes=len(text) * 4)
    except Undecodable:
        return text
    return value if isinstance(value, bool | int | float) and encode(value).decode() == text else text


def _with_body(operation: Operation, arguments: dict[str, Any], sent: Sent, max_bytes: int) -> dict[str, Any]:
    if operation.method not in _WITH_BODY:
        if sent.body:
            raise _Unfit(f"A {operation.method} with a body cannot be passed on.")
        return arguments
    kind = sent.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _Unfit(
            f"A body of type {kind or 'nothing'} cannot be passed on: only application/json is. Call this without the gateway."
        )
    try:
        body = decode(sent.body, max_bytes=max_bytes)
    except Undecodable as undecodable:
        raise _Unfit(f"The body cannot be passed on: {undecodable.message}.") from None
    if not isinstance(body, dict):
        raise _Unfit("The body is not a JSON object, and arguments are one.")
    if body.get("stream") is True:
        raise _Unfit("A streamed answer cannot be passed on piece by piece: ask without `stream`.")
    if clash := arguments.keys() & body.keys():
        raise _Unfit(f"{min(clash)} stands in the body and elsewhere, and {operation.tool} takes it as one argument.")
    return arguments | body


def _must_be_the_same(route: _Route, arguments: dict[str, Any], sent: Sent, pairs: list[tuple[str, str]]) -> None:
    """Render what was understood and compare: the last word, whatever came before."""
    operation = route.operation
    again = render(msgspec.structs.replace(_PROBE, arguments=arguments), operation, route.base_url, "0" * 16)
    if isinstance(again, RenderRefused):
        raise _Unfit(f"The request cannot be passed on: {again.message}")
    there, here = urlsplit(again.url), urlsplit(sent.url)
    same_path = [unquote(part) for part in there.path.split("/")] == [unquote(part) for part in here.path.split("/")]
    if not same_path or _differ(there.query, pairs, operation):
        raise _Unfit(f"{operation.tool} would call another URL than the client does, so nothing was sent.")
    if again.body is not None and again.body != encode(decode(sent.body, max_bytes=len(sent.body))):
        names = ", ".join(sorted(_placed(operation)))
        raise _Unfit(f"{operation.tool} would send another body than the client does: it takes {names} elsewhere.")


def _differ(rendered: str, wanted: list[tuple[str, str]], operation: Operation) -> bool:
    """Tell whether the parameters differ in more than what the manifest adds by itself."""
    added = {
        *parse_qsl(operation.path.partition("?")[2]),
        *((name, text) for name, text in operation.query.items() if not PLACEHOLDER.search(text)),
    }
    given = [pair for pair in parse_qsl(rendered, keep_blank_values=True) if pair not in added or pair in wanted]
    return sorted(given) != sorted(wanted)


def _without_credential(operation: Operation, url: SplitResult) -> list[tuple[str, str]]:
    """Return the parameters without the one that carries the connection's credential: a client's own is dropped."""
    auth = operation.auth
    own = (auth.name or "").lower() if auth.where == "query" else ""
    return [pair for pair in parse_qsl(url.query, keep_blank_values=True) if pair[0].lower() != own]


def _placed(operation: Operation) -> Iterator[str]:
    for template in (operation.path, *operation.query.values(), *operation.headers.values()):
        yield from PLACEHOLDER.findall(template)

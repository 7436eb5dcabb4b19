"""Arguments to a request, exactly as the operation's template says; nothing an agent writes can leave its place.

A path variable is one segment, a header value one line, the host never an argument. Pure: the span id is given,
nothing is looked up, and what cannot be rendered is refused with a sentence instead of sent in some shape.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from connectors.arguments import PLACEHOLDER
from connectors.declared import Operation
from connectors.exchange import RenderedRequest, RenderRefused
from schemas.codec import encode
from schemas.tool_call import ToolCall

USER_AGENT = "sluice/0.1.0"

_PLAIN = re.compile(r"[A-Za-z0-9_~-]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_DOTS = frozenset({".", ".."})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?", re.ASCII)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

_OURS = frozenset(
    {
        # hop-by-hop and framing: they belong to the connection, not to the request
        "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect",
        "proxy-authenticate", "proxy-authorization", "proxy-connection",
        # who is called and as whom: the manifest and the connection say so
        "host", "authorization", "cookie",
    }
)  # fmt: skip


class _Refused(Exception):  # noqa: N818 - a verdict on the arguments; it never leaves this module
    pass


def render(call: ToolCall, operation: Operation, base_url: str, span: str) -> RenderedRequest | RenderRefused:
    """Render `call`; `span` is the id (16 hex digits) of the span that this request is."""
    try:
        return _render(call, operation, base_url, span)
    except _Refused as refused:
        return RenderRefused(str(refused))
    except (ValueError, TypeError, OverflowError, RecursionError):  # encoders: lone surrogates, endless integers
        return RenderRefused("An argument holds a value that cannot be written as text.")


def _render(call: ToolCall, operation: Operation, base_url: str, span: str) -> RenderedRequest:
    arguments, method = call.arguments, operation.method
    url = f"{base_url.rstrip('/')}/{_path(operation.path, arguments).removeprefix('/')}"
    query = [pair for name, template in operation.query.items() for pair in _pairs(name, _filled(template, arguments))]
    headers = {"user-agent": USER_AGENT, "accept": "application/json"}
    named = _named(operation.path, *operation.query.values(), *operation.headers.values())
    rest = {name: value for name, value in arguments.items() if name not in named}
    body = None
    if method in _WITH_BODY:
        body = encode(rest)
        headers["content-type"] = "application/json"
    else:
        query += [pair for name, value in rest.items() for pair in _pairs(name, value)]
    for name, template in operation.headers.items():
        _put_header(headers, name, template, arguments)
    if operation.idempotency_header:
        headers[operation.idempotency_header.lower()] = call.vendor_key
    if parent := _TRACEPARENT.fullmatch(call.traceparent or ""):
        headers["traceparent"] = f"00-{parent[1]}-{span}-{parent[2]}"
    if query:
        _must_leave_the_key_alone(operation, query)
        url += ("&" if "?" in url else "?") + urlencode(query)
    return RenderedRequest(method, url, headers, body)


@lru_cache(maxsize=4096)
def _named(*templates: str) -> frozenset[str]:
    """Return the arguments that have a place of their own; the rest goes where the method says."""
    return frozenset(name for template in templates for name in _split(template)[1::2])


@lru_cache(maxsize=4096)
def _split(template: str) -> tuple[str, ...]:
    """Return literal, variable, literal, … of a template."""
    return tuple(PLACEHOLDER.split(template))


def _path(template: str, arguments: Mapping[str, Any]) -> str:
    parts = _split(template)
    if len(parts) == 1:
        return template
    path = "".join(_segment(part, arguments.get(part)) if i % 2 else part for i, part in enumerate(parts))
    _must_keep_shape(template, path)
    return path


def _segment(name: str, value: object) -> str:
    text = _text(name, value)
    if _PLAIN.fullmatch(text):
        return text
    if not text:
        raise _Refused(f"The argument {name} is empty, but the path needs it.")
    if _CONTROL.search(text):
        raise _Refused(f"The argument {name} has control characters, which cannot stand in a path.")
    # Encoding alone is not enough: some servers decode %2F and ; before they look for dots.
    if any(piece.partition(";")[0] in _DOTS for piece in re.split(r"[/\\]", text)):
        raise _Refused(f"The argument {name} is or contains a dot segment, which cannot stand in a path.")
    return quote(text, safe="")


def _must_keep_shape(template: str, path: str) -> None:
    """Read the result as a server would and hold it against the template: the last word, whatever came before."""
    found = urlsplit(f"//vendor{path}").path.split("/")
    if _segments(template) != len(found) or not _DOTS.isdisjoint(found):
        raise _Refused("The arguments would change the shape of the path.")


@lru_cache(maxsize=4096)
def _segments(template: str) -> int:
    return len(urlsplit(f"//vendor/{PLACEHOLDER.sub('x', template).lstrip('/')}").path.split("/"))


def _filled(template: str, arguments: Mapping[str, Any]) -> object:
    """Return the template's value, or None when an argument it needs was not given."""
    parts = _split(template)
    if len(parts) == 3 and not parts[0] and not parts[2]:
        return arguments.get(parts[1])
    if any(arguments.get(name) is None for name in parts[1::2]):
        return None
    return "".join(_text(part, arguments[part]) if i % 2 else part for i, part in enumerate(parts))


def _pairs(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the query pairs of one value: lists repeat the name, objects are JSON, null is left out."""
    for item in value if isinstance(value, list) else (value,):
        if isinstance(item, dict | list):
            yield name, encode(item).decode()
        elif item is not None:
            yield name, _text(name, item)


def _must_leave_the_key_alone(operation: Operation, query: list[tuple[str, str]]) -> None:
    """Refuse a second parameter of the credential's name: of two, some vendors read the first."""
    auth = operation.auth
    if auth.where == "query" and auth.name:
        for name, _ in query:
            if name.lower() == auth.name.lower():
                raise _Refused(
                    f"The parameter {name} is the connection's credential and cannot be set from an argument."
                )


def _put_header(headers: dict[str, str], name: str, template: str, arguments: Mapping[str, Any]) -> None:
    key = name.lower()
    if key in _OURS and len(_split(template)) > 1:
        raise _Refused(f"The header {name} cannot be set from an argument.")
    value = _filled(template, arguments)
    if value is None:
        return
    text = _text(name, value).strip()
    if _NOT_IN_HEADER.search(text):
        raise _Refused(f"The value for the header {name} has control characters or more than one line.")
    headers[key] = text


def _text(name: str, value: object) -> str:
    match value:
        case str():
            return value
        case bool() | int() | float():
            return encode(value).decode()
        case None:
            raise _Refused(f"The argument {name} is missing, but the request needs it.")
        case _:
            raise _Refused(f"The argument {name} must be a single value, not a list or an object.")

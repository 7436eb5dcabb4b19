"""A request is read back into a tool and its arguments, or it is refused; it never becomes another request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.catalog import Catalog
from connectors.declared import Auth, Connection
from connectors.exchange import RenderedRequest
from connectors.matching import Matched, Matcher, Sent, Unmatched
from connectors.render import render
from schemas.codec import encode
from tests.examples import operation, tool_call

BASE = "https://crm.example.com/api"
MOST = 1 << 20
JSON = {"content-type": "application/json"}
GET = operation(
    tool="crm.items.get",
    method="GET",
    path="/items/{id}",
    base_url=BASE,
    query={"Limit": "{limit}", "v": "2"},
    input_schema={"type": "object", "properties": {"limit": {"type": "integer"}, "tags": {"type": "array"}}},
    auth=Auth(type="api_key", where="query", name="key"),
)
SEARCH = operation(tool="crm.items.search", method="GET", path="/items/search", base_url=BASE)
MAKE = operation(
    tool="crm.items.make",
    path="/items/{id}/notes",
    base_url=BASE,
    headers={"X-Version": "{version}", "X-Fixed": "7"},
    query={"dry": "{dry}"},
    idempotency_header="X-Once",
    auth=Auth(type="api_key", where="header", name="X-Secret"),
)


def matcher(*more: Any, **choice: Any) -> Matcher:
    declared = {one.tool: one for one in (GET, SEARCH, MAKE, *more)}
    connection = Connection(name="main", connector="crm")
    return Matcher(Catalog(operations=declared, connections={"crm/main": connection}), **choice)


def match(method: str, path: str, body: bytes = b"", /, **headers: str) -> Matched | Unmatched:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    sent = Sent(method=method, url=BASE + path, headers={**(JSON if body else {}), **named}, body=body)
    return matcher().match(sent, max_bytes=MOST)


@pytest.mark.parametrize(
    ("asked", "tool", "arguments"),
    [
        (("GET", "/items/7"), "crm.items.get", {"id": "7"}),
        (("GET", "/items/search"), "crm.items.search", {}),
        (("GET", "/items/a%2Fb%20%C3%BC"), "crm.items.get", {"id": "a/b ü"}),
        (("GET", "/items/7?Limit=20&v=2"), "crm.items.get", {"id": "7", "limit": 20}),
        (("GET", "/items/7?Limit=020"), "crm.items.get", {"id": "7", "limit": "020"}),
        (("GET", "/items/7?tags=a&more=1&more=2&empty="), "crm.items.get",
         {"id": "7", "tags": ["a"], "more": ["1", "2"], "empty": ""}),
        (("GET", "/items/7?key=dummy"), "crm.items.get", {"id": "7"}),
        (("POST", "/items/7/notes?dry=1", b'{"text": "x", "n": 1.0, "no": null}'), "crm.items.make",
         {"id": "7", "dry": "1", "text": "x", "n": 1.0, "no": None}),
    ],
)  # fmt: skip
def test_a_request_becomes_the_arguments_that_render_it(asked: Any, tool: str, arguments: dict[str, Any]) -> None:
    found = match(*asked)
    assert isinstance(found, Matched), found
    assert (found.operation.tool, found.connection, found.arguments) == (tool, "main", arguments)


def test_headers_that_are_declared_are_arguments_and_credentials_are_dropped() -> None:
    headers = {
        "x_version": "v9",
        "x_fixed": "7",
        "x_secret": "s",
        "authorization": "Bearer s",
        "cookie": "s",
        "x_once": "k",
    }
    found = match("POST", "/items/7/notes", b"{}", **headers, user_agent="sdk", x_stainless_os="Linux")
    assert isinstance(found, Matched), found
    assert found.arguments == {"id": "7", "version": "v9"}


@pytest.mark.parametrize(
    ("asked", "headers", "told"),
    [
        (("PATCH", "/items/7"), {}, 'items: {request: {method: PATCH, path: "/items/7"}}'),
        (("GET", "/items/7/8"), {}, "No operation is declared"),
        (("GET", "/items/7?v=3"), {}, "another URL"),
        (("GET", "/items/7?Limit=1&Limit=2&limit=3"), {}, "twice"),
        (("GET", "/items/.%2E"), {}, "dot segment"),
        (("GET", "/items/7", b"{}"), {}, "with a body"),
        (("GET", "/items/7"), {"accept": "text/event-stream"}, "accepts no JSON"),
        (("GET", "/items/7"), {"x_beta": "1"}, 'headers: {x-beta: "{x_beta}"}'),
        (("POST", "/items/7/notes", b"{}"), {"x_fixed": "8"}, "another value for the header x-fixed"),
        (("POST", "/items/7/notes", b"{}"), {"content_encoding": "gzip"}, "content-encoding"),
        (("POST", "/items/7/notes", b"{}"), {"content_type": "multipart/form-data; boundary=x"}, "multipart/form-data"),
        (("POST", "/items/7/notes?deep=1", b"{}"), {}, 'query: {deep: "{deep}"}'),
        (("POST", "/items/7/notes", b'{"id": 8}'), {}, "id stands in the body"),
        (("POST", "/items/7/notes", b'{"version": 8}'), {}, "another body"),
        (("POST", "/items/7/notes", b"[1]"), {}, "not a JSON object"),
        (("POST", "/items/7/notes", b'{"a": NaN}'), {}, "cannot be passed on"),
        (("POST", "/items/7/notes", b'{"stream": true}'), {}, "stream"),
        (("POST", "/items/7/notes"), {}, "nothing"),
    ],
)  # fmt: skip
def test_what_would_arrive_differently_is_refused(asked: Any, headers: dict[str, str], told: str) -> None:
    found = match(*asked, **headers)
    assert isinstance(found, Unmatched), found
    assert told in found.message


@pytest.mark.parametrize("url", ["http://crm.example.com/api/items/7", "https://crm.example.com:444/api/items/7",
                                 "https://crm.example.com.evil/api/items/7", "https://evil/?https://crm.example.com/api/items/7",
                                 "https://crm.example.com:x/api/items/7"])  # fmt: skip
def test_another_origin_is_another_vendor(url: str) -> None:
    found = matcher().match(Sent(method="GET", url=url, headers={}), max_bytes=MOST)
    assert isinstance(found, Unmatched)


def test_two_that_say_the_same_must_be_told_apart() -> None:
    twin = operation(tool="other.get", connector="other", method="GET", path="/items/{name}", base_url=BASE)
    sent = Sent(method="GET", url=f"{BASE}/items/7", headers={})
    found = matcher(twin).match(sent, max_bytes=MOST)
    assert isinstance(found, Unmatched)
    assert "both answer" in found.message
    chosen = matcher(twin, connector="other").match(sent, max_bytes=MOST)
    assert isinstance(chosen, Matched)
    assert chosen.operation is twin


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    body=st.dictionaries(st.text(min_size=1).filter(lambda name: name != "stream"), JSONS, max_size=4),
    identity=st.text(min_size=1, max_size=8),
)
def test_what_is_matched_is_rendered_as_it_was(body: dict[str, Any], identity: str) -> None:
    call = tool_call({**body, "id": identity})
    request = render(call, MAKE, BASE, "0" * 16)
    if not isinstance(request, RenderedRequest) or {"id", "version", "dry"} & body.keys():
        return
    found = matcher().match(
        Sent(method="POST", url=request.url, headers=JSON, body=request.body or b""), max_bytes=MOST
    )
    assert isinstance(found, Matched), found
    again = render(tool_call(found.arguments), MAKE, BASE, "0" * 16)
    assert isinstance(again, RenderedRequest)
    assert (again.url, again.body) == (request.url, encode(body))

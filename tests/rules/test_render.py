"""Arguments become a request, and nothing an agent writes leaves the place the template gives it."""

import json
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.exchange import RenderedRequest, RenderRefused
from connectors.render import render
from tests.examples import SPAN, TRACE, operation, tool_call

CHILD = "a" * 16


def rendered(arguments: dict[str, Any], base_url: str = "https://crm.example.com", **changes: Any) -> RenderedRequest:
    request = render(tool_call(arguments), operation(**changes), base_url, CHILD)
    assert isinstance(request, RenderedRequest), request
    return request


def refused(arguments: dict[str, Any], **changes: Any) -> str:
    request = render(tool_call(arguments), operation(**changes), "https://crm.example.com", CHILD)
    assert isinstance(request, RenderRefused), request
    return request.message


def test_arguments_without_a_place_are_the_json_body_of_a_write() -> None:
    request = rendered(
        {"id": "c1", "notify": True, "version": 3, "email": "a@b.c", "tags": ["x"], "note": None},
        method="PATCH",
        path="/v1/contacts/{id}",
        query={"notify": "{notify}", "source": "sluice"},
        headers={"If-Match": "{version}", "X-Version": "2022-06-28"},
    )
    assert request.url == "https://crm.example.com/v1/contacts/c1?notify=true&source=sluice"
    assert json.loads(request.body or b"") == {"email": "a@b.c", "tags": ["x"], "note": None}
    assert request.headers["if-match"] == "3"
    assert request.headers["x-version"] == "2022-06-28"
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
def test_arguments_without_a_place_are_the_query_of_a_read(method: str) -> None:
    arguments = {"q": "a b&c=d#é", "ids": [1, 2], "where": {"a": [1]}, "all": False, "none": None, "rate": 0.5}
    request = rendered(arguments, method=method, path="/v1/contacts")
    assert request.body is None
    assert "content-type" not in request.headers
    assert parse_qsl(urlsplit(request.url).query) == [
        ("q", "a b&c=d#é"), ("ids", "1"), ("ids", "2"), ("where", '{"a":[1]}'), ("all", "false"), ("rate", "0.5"),
    ]  # fmt: skip


def test_an_absent_optional_argument_leaves_query_and_header_out() -> None:
    changes: dict[str, Any] = {"query": {"page": "{page}", "f": "id:{id}"}, "headers": {"X-Page": "{page}"}}
    request = rendered({}, method="GET", **changes)
    assert "?" not in request.url
    assert "x-page" not in request.headers
    assert rendered({"id": 7}, method="GET", **changes).url.endswith("?f=id%3A7")


def test_the_base_url_keeps_its_own_path_and_the_template_its_query() -> None:
    request = rendered({"id": 1}, "http://h:1/api/", method="GET", path="/x/{id}?v=2", query={"a": "b"})
    assert request.url == "http://h:1/api/x/1?v=2&a=b"


def test_our_own_headers_are_there_and_win() -> None:
    request = rendered(
        {"key": "mine"},
        idempotency_header="Idempotency-Key",
        headers={"idempotency-key": "{key}", "Accept": "application/vnd.crm+json", "traceparent": "{key}"},
    )
    assert request.headers["idempotency-key"] == "f" * 32
    assert request.headers["accept"] == "application/vnd.crm+json"
    assert request.headers["user-agent"] == "sluice/0.1.0"
    assert request.headers["traceparent"] == f"00-{TRACE}-{CHILD}-01"
    assert rendered({}).headers["accept"] == "application/json"
    assert "idempotency-key" not in rendered({}).headers


@pytest.mark.parametrize("parent", [None, "", "nonsense", f"00-{TRACE}-{SPAN}", f"00-{TRACE[:-1]}-{SPAN}-01"])
def test_no_trace_is_invented(parent: str | None) -> None:
    request = render(tool_call(traceparent=parent), operation(), "https://crm.example.com", CHILD)
    assert isinstance(request, RenderedRequest)
    assert "traceparent" not in request.headers


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "../admin", "a/../b", "..\\b", "x/..;y", "..;", "./a", "a\nb", "a\x00b", "a\x7fb", "\x85", "\ud800",
     None, [], {}, [1]],
)  # fmt: skip
def test_a_path_variable_that_is_no_plain_segment_is_refused(value: Any) -> None:
    message = refused({"id": value}, method="GET", path="/v1/contacts/{id}")
    assert message.endswith(".")
    assert "id" in message or "argument" in message


def test_a_missing_path_variable_is_refused_by_name() -> None:
    assert "id" in refused({}, method="GET", path="/v1/contacts/{id}")


def test_two_variables_cannot_make_dots_together() -> None:
    refused({"a": "a..", "b": "."}, method="GET", path="/v1/{b}{b}/x")
    assert rendered({"a": "1", "b": "2"}, method="GET", path="/v1/{a}.{b}").url.endswith("/v1/1.2")


@given(st.text(min_size=1, max_size=40))
def test_a_path_variable_is_one_segment_or_nothing(value: str) -> None:
    request = render(
        tool_call({"id": value}), operation(method="GET", path="/v1/{id}/notes"), "https://crm.example.com", CHILD
    )
    if isinstance(request, RenderedRequest):
        parts = urlsplit(request.url)
        assert parts.netloc == "crm.example.com"
        assert not parts.query
        assert not parts.fragment
        before, segment, after = parts.path.removeprefix("/").split("/")
        assert (before, unquote(segment), after) == ("v1", value, "notes")
        assert segment.isascii()


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00", "\x1b[31m", ["a"], {"a": 1}])
def test_a_header_value_is_one_plain_line(value: Any) -> None:
    assert refused({"note": value}, headers={"X-Note": "{note}"})


@pytest.mark.parametrize(
    "name", ["Host", "authorization", "Cookie", "Connection", "Transfer-Encoding", "Content-Length", "TE", "Upgrade"]
)
def test_headers_of_the_connection_and_the_credential_are_no_arguments(name: str) -> None:
    assert name in refused({"x": "1"}, headers={name: "{x}"})


def test_a_value_that_is_no_text_is_refused() -> None:
    assert refused({"name": "\ud800"})
    assert refused({"q": "\ud800"}, method="GET")


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), _json, max_size=5), st.sampled_from(["GET", "POST"]))
def test_no_arguments_make_it_raise_or_move_the_host(arguments: dict[str, Any], method: str) -> None:
    request = render(tool_call(arguments), operation(method=method), "https://crm.example.com", CHILD)
    if isinstance(request, RenderedRequest):
        assert urlsplit(request.url)[:3] == ("https", "crm.example.com", "/v1/contacts")
        if method == "POST":
            assert json.loads(request.body or b"") == arguments

"""The trace context that travels: lawful headers pass, broken ones do not, and the trace id never changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import trace
from tests.examples import SPAN, TRACE

law = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("header", [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-ff"])
def test_a_lawful_header_passes_unchanged(header: str) -> None:
    assert trace.valid(header) == header


@pytest.mark.parametrize(
    "header",
    [
        None,
        7,
        b"00-" + TRACE.encode(),
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"\u0660\u0660-{TRACE}-{SPAN}-01",
        pytest.param(
            f"ff-{TRACE}-{SPAN}-01",
        ),
    ],
)
def test_a_broken_header_is_not_passed_on(header: object) -> None:
    assert trace.valid(header) is None


@law
@given(st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True))
def test_any_text_is_passed_whole_or_not_at_all(header: str) -> None:
    assert trace.valid(header) in {header, None}


@law
@given(st.from_regex(r"[0-9a-f]{16}", fullmatch=True).filter(lambda span: span != "0" * 16))
def test_a_child_keeps_the_trace_and_names_its_own_span(span: str) -> None:
    header = trace.child(f"00-{TRACE}-{SPAN}-01", span)
    assert header == f"00-{TRACE}-{span}-01"
    assert trace.valid(header) == header

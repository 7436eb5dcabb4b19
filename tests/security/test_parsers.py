"""Whatever is written from outside: a value, or the one error that is declared. Never another, and never for long.

Inputs are right ones that were spoiled, and soup of the same letters. More of them: `SLUICE_EXAMPLES=5000`.
"""

import contextlib
import inspect
import os
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security.parsers import OTHERS, PARSERS, WATCHED
from tests.security.payloads import ALL

EXAMPLES = int(os.environ.get("SLUICE_EXAMPLES", "25"))
MOST_CPU_S = 1.0
"""Of the processor, for one input of at most 64 KB; nothing here should come near it."""
LONG = 65_536
PIECES = (
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b'"',
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[" * 70,
    b",",
    b":",
    b";",
    b"=",
    b"&",
    b"*",
    b"!",
    b"%",
    b"?",
    b"#",
    b"@",
    b"/",
    b"//",
    b"..",
    b" ",
    b"\t",
    b"\r\n",
    b"\n",
    b"\n\n",
    b"-",
    b"-0",
    b"0",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"9" * 400,
    b"-1",
    b"1_000",
    b"\xd9\xa3",
    b"\xc2\xb2",
    b"99999999999999999999",
    b"0x7f",
    b"1e400",
    b"9999-12-31T23:59:59Z",
    b"0001-01-01T00:00:00+23:59",
    b"T",
    b"Z",
    b"P",
    b"<<: *a",
    b"&a",
    b"!!python/object:os.system",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x98\x80",
    b"[::1",
    b"]",
    b"kafka://",
    b"http://",
    b"Bearer ",
    b"whsec_",
    b"$ref",
    b"inf",
    b"1.7976931348623157e308",
)


@st.composite
def spoiled(draw: st.DrawFn, example: bytes) -> bytes:
    """Cut, repeat, replace and insert a few times."""
    raw = example
    for _ in range(draw(st.integers(0, 4))):
        at, to = sorted((draw(st.integers(0, len(raw))), draw(st.integers(0, len(raw)))))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=8) | st.just(raw[at:to] * 2) | st.just(b""))
        raw = raw[:at] + piece + raw[to if draw(st.booleans()) else at :]
    return raw[:LONG]


def written(example: bytes) -> st.SearchStrategy[bytes]:
    soup = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=12).map(b"".join)
    said = st.sampled_from(ALL).map(lambda one: one.encode("utf-8", "surrogatepass"))
    return st.one_of(spoiled(example), spoiled(example), soup, said, st.text().map(str.encode))


def feed(name: str, raw: bytes) -> None:
    parser, began = PARSERS[name], time.thread_time()
    with contextlib.suppress(*parser.raises):
        parser.feed(raw)
    took = time.thread_time() - began
    assert took < MOST_CPU_S, f"{name} took {took:.1f} s of the processor for {len(raw)} bytes: {raw[:200]!r}"


@pytest.mark.parametrize("name", PARSERS)
def test_nothing_but_the_declared_error_comes_of_anything(name: str) -> None:
    @given(raw=written(PARSERS[name].example))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    def look(raw: bytes) -> None:
        feed(name, raw)

    look()


@pytest.mark.parametrize("name", PARSERS)
def test_no_repetition_makes_it_slow(name: str) -> None:
    example = PARSERS[name].example
    half, most = len(example) // 2, PARSERS[name].most // 2
    for piece in (
        *PIECES,
        example,
        b'"a":',
        b'{"a":',
        b"a=",
        b"a;",
        b",a",
        b'"a",',
        b"a: b\n",
        b"- a\n",
        b"a b ",
        b"1.",
        b"1m",
        b"/a",
        b'";',
        b"=,",
    ):
        long = (piece * (most // len(piece) + 1))[:most]
        feed(name, long)
        feed(name, example[:half] + long + example[half:])


@pytest.mark.parametrize("name", PARSERS)
def test_the_example_is_read(name: str) -> None:
    PARSERS[name].feed(PARSERS[name].example)


def _takes_text(function: Any) -> bool:
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and any(
        word in str(first.annotation) for word in ("str", "bytes", "Mapping", "object", "Any")
    )


def test_every_parser_of_these_modules_is_in_the_table() -> None:
    public = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in WATCHED
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_") and _takes_text(function)
    }
    assert public - set(PARSERS) - set(OTHERS) == set()

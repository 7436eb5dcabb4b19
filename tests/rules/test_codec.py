"""Bytes to values: strict, bounded, total; equal values have equal bytes and hashes."""

import json
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.codec import MAX_DEPTH, Undecodable, canonical, decode, depth, encode, pointed, sha256
from schemas.failure import Failure

MOST = 100_000
law = settings(max_examples=40, deadline=None)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@pytest.mark.parametrize(
    ("raw", "failure"),
    [
        (b"", Failure.DECODE_JSON),
        (b"{", Failure.DECODE_JSON),
        (b"{} {}", Failure.DECODE_JSON),
        (b"{'a': 1}", Failure.DECODE_JSON),
        (b"[1,]", Failure.DECODE_JSON),
        (b"NaN", Failure.DECODE_JSON),
        (b'{"a": -Infinity}', Failure.DECODE_JSON),
        (b"1e999", Failure.DECODE_JSON),
        (b'"\\ud800"', Failure.DECODE_JSON),
        (b'"a\nb"', Failure.DECODE_JSON),
        (b"9" * 5000, Failure.DECODE_JSON),
        (b"\xef\xbb\xbf{}", Failure.DECODE_JSON),
        (b"\xff\xfe{\x00}\x00", Failure.DECODE_ENCODING),
        (b'"\xed\xa0\x80"', Failure.DECODE_ENCODING),
        (b'"\xc0\xaf"', Failure.DECODE_ENCODING),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), Failure.DECODE_DEPTH),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), Failure.DECODE_DEPTH),
        (b'[{"a":' * 33 + b"1" + b"}]" * 33, Failure.DECODE_DEPTH),
        (b"[" * 50_000 + b"]" * 50_000, Failure.DECODE_DEPTH),
        (b" " * (MOST + 1), Failure.INGEST_OVERSIZE),
    ],
)
def test_what_is_not_strict_json_is_refused_with_its_class(raw: bytes, failure: Failure) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(raw, max_bytes=MOST)
    assert caught.value.failure is failure
    assert caught.value.message == str(caught.value) != ""


def test_the_bounds_themselves_are_accepted() -> None:
    assert decode(b"1" + b" " * (MOST - 1), max_bytes=MOST) == 1
    assert depth(decode(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, max_bytes=MOST)) == MAX_DEPTH


def test_brackets_inside_a_text_are_not_depth() -> None:
    assert decode(b'"' + b"[{" * 500 + b'"', max_bytes=MOST) == "[{" * 500


def test_of_two_equal_keys_the_last_wins() -> None:
    assert decode(b'{"a": 1, "b": 2, "a": {"c": 3, "c": 4}}', max_bytes=MOST) == {"a": {"c": 4}, "b": 2}


def value_of(raw: bytes) -> Any:
    try:
        return decode(raw, max_bytes=60)
    except Undecodable as verdict:
        return verdict


@law
@given(st.binary(max_size=64) | st.text('[]{}",:0-eE+.\\u ').map(str.encode))
def test_any_bytes_are_a_value_or_a_verdict_and_a_value_survives_the_way_back(raw: bytes) -> None:
    found = value_of(raw)
    if not isinstance(found, Undecodable):
        assert decode(encode(found), max_bytes=MOST) == found
    assert (len(raw) > 60) == (isinstance(found, Undecodable) and found.failure is Failure.INGEST_OVERSIZE)


@law
@given(values)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert decode(encode(value), max_bytes=1 << 30) == value


@law
@given(values)
def test_depth_is_what_a_recursion_would_count(value: Any) -> None:
    def deep(item: Any) -> int:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return 0 if inner is None else 1 + max(map(deep, inner), default=0)

    assert depth(value) == deep(value)


@law
@given(values)
def test_the_order_of_keys_does_not_change_the_canonical_bytes(value: Any) -> None:
    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: turned(inner) for name, inner in reversed(item.items())}
        return [turned(inner) for inner in item] if isinstance(item, list) else item

    assert canonical(turned(value)) == canonical(value)
    assert json.loads(canonical(value)) == value


parts = st.lists(st.text("ab|", max_size=3), max_size=4)


@law
@given(parts, parts)
def test_parts_hash_alike_only_if_they_are_alike(left: list[str], right: list[str]) -> None:
    assert (sha256(*left) == sha256(*right)) == (left == right)


def test_text_and_its_bytes_hash_alike() -> None:
    assert sha256("ä", "b") == sha256("ä".encode(), b"b")
    assert sha256("ab", "c") != sha256("a", "bc")


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """Something to be wrong about."""

    lines: list[dict[str, int]]
    total: int = 0


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ([], "", "Expected `object`, got `array`"),
        ({}, "", "Object missing required field `lines`"),
        ({"lines": [], "x": 1}, "", "Object contains unknown field `x`"),
        ({"lines": [], "total": "much"}, "/total", "Expected `int`, got `str`"),
        ({"lines": [{}, 7]}, "/lines/1", "Expected `object`, got `int`"),
        ({"lines": [{"a": None}]}, "/lines/0", "Expected `int`, got `null`"),
    ],
)
def test_a_value_of_the_wrong_shape_is_pointed_at(value: object, pointer: str, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Order)
    assert pointed(caught.value) == (pointer, words)


@law
@given(value=values)
@pytest.mark.parametrize("piece", [3, 65_536])
def test_containers_are_counted_without_those_in_strings(value: object, piece: int) -> None:
    def count(one: object) -> int:
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        return isinstance(one, dict | list) + sum(map(count, inner))

    with mock.patch.object(codec, "_PIECE", piece):
        assert codec.containers(encode(value)) == count(value)


def test_a_text_of_too_many_containers_is_refused_before_it_is_parsed() -> None:
    few = b"[" + b"[]," * (codec.MAX_CONTAINERS - 1) + b"1]"
    assert len(decode(few, max_bytes=len(few))) == codec.MAX_CONTAINERS
    many = b"[" + b"[]," * codec.MAX_CONTAINERS + b"1]"
    with pytest.raises(Undecodable, match="lists and objects"):
        decode(many, max_bytes=len(many))
    said = "[" * codec.MAX_CONTAINERS * 2
    assert decode(encode(said), max_bytes=1 << 20) == said

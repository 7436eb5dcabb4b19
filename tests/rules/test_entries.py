"""What of a stream's entry is read as the event."""

import pytest

from gateway.entrypoints.bus.on_redis import raw_of


@pytest.mark.parametrize(
    ("fields", "raw"),
    [
        ({b"data": b'{"a":1}'}, b'{"a":1}'),
        ({b"data": b"", b"other": b"x"}, b""),
        ({b"data": b"\xff", b"other": b"x"}, b"\xff"),
        ({b"foo": b"bar", b"n": b"1"}, b'{"foo":"bar","n":"1"}'),
        ({b"foo\xff": b"\xfe"}, rb'{"foo\\xff":"\\xfe"}'),
        ({}, b""),
    ],
)
def test_an_entry_that_has_its_event_in_no_field_is_kept_with_all_its_fields(
    fields: dict[bytes, bytes], raw: bytes
) -> None:
    assert raw_of(fields) == raw

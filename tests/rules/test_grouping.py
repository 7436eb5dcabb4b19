"""Fingerprints: alike failures share one, different ones do not, and version 1 never changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlq.grouping import fingerprint, template
from schemas.failure import Failure

F = Failure


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Timed out after 10.5 s", "timed out after <n> s"),
        ("Object 3f2a9c1d77 is gone", "object <n> is gone"),
        ("id 550e8400-e29b-41d4-a716-446655440000", "id <uuid>"),
        ("call 01JD3QZ8W4M5N6P7R8S9T0V1X2 again", "call <id> again"),
        ("no field \"email\" in 'body'", "no field <text> in <text>"),
        ("mail to Ann.Lee+x@mail.example.com failed", "mail to <email> failed"),
        ("the vendor's answer isn't JSON", "the vendor's answer isn't json"),
        ("10.0.0.1:443 refused\n\n  twice", "<n> refused twice"),
        ("a defaced facade", "a defaced facade"),
        ("0xdeadbeef", "<n>"),
    ],
)
def test_particulars_become_their_kind(message: str, expected: str) -> None:
    assert template(message) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((None, None, F.DECODE_JSON, None, "JSON is malformed: invalid character (byte 12)"), "v1:222725e3a1f31830"),
        (("crm", "contacts.create", F.RECEIVE_RESET, None, "The vendor closed the connection."), "v1:4fa69835d650f187"),
        (
            ("crm", "contacts.create", F.HTTP_INTERNAL, 500, "The vendor answered 500 Internal Server Error."),
            "v1:af8cf18427b3964b",
        ),
    ],
)
def test_version_1_never_changes(parts: tuple[str | None, str | None, Failure, int | None, str], expected: str) -> None:
    assert fingerprint(*parts) == expected


def test_only_the_particulars_are_ignored() -> None:
    one = fingerprint("crm", "a", F.HTTP_INTERNAL, 500, "failed for user 17")
    assert one == fingerprint("crm", "a", F.HTTP_INTERNAL, 500, "failed for user 18")
    others = {
        fingerprint("erp", "a", F.HTTP_INTERNAL, 500, "failed for user 17"),
        fingerprint("crm", "b", F.HTTP_INTERNAL, 500, "failed for user 17"),
        fingerprint("crm", "a", F.HTTP_BAD_GATEWAY, 500, "failed for user 17"),
        fingerprint("crm", "a", F.HTTP_INTERNAL, 502, "failed for user 17"),
        fingerprint("crm", "a", F.HTTP_INTERNAL, 500, "failed for group 17"),
        fingerprint("crma", "", F.HTTP_INTERNAL, 500, "failed for user 17"),
    }
    assert one not in others
    assert len(others) == 6


@given(st.text(max_size=300), st.integers(min_value=0), st.integers(min_value=0))
def test_two_numbers_in_one_place_are_one_group(text: str, first: int, second: int) -> None:
    prefix = f"{text} after "
    assert template(f"{prefix}{first} tries") == template(f"{prefix}{second} tries")


@given(st.text())
def test_any_message_has_a_fingerprint(text: str) -> None:
    group = fingerprint("c", "o", F.INTERNAL_BUG, None, text)
    assert group.startswith("v1:")
    assert len(group) == 19
    int(group[3:], 16)

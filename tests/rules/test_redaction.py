"""What may stand in clear, what is sealed and opens only in its place, and what is taken out."""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlq import redaction
from dlq.blobs import BlobStore, BlobStoreFull
from dlq.keys import KeyRing, UnsealError
from dlq.redaction import CLASSES, INLINE_MOST, MESSAGE_MOST, FieldClass, Sealer, unseal
from schemas.dead_letter import DeadLetter, Sealed

KEYS = KeyRing({"k1": bytes(range(32))})
CANARY = "CANARY-s3cr3t/+ä"


@pytest.fixture(scope="module")
def sealer(tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    return Sealer(KEYS, BlobStore(tmp_path_factory.mktemp("blobs"), 1 << 30))


def _fields() -> Iterator[tuple[str, object]]:
    for group, hint in get_type_hints(DeadLetter).items():
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                hints = get_type_hints(part)
                yield from (
                    (f"{group}.{field.encode_name}", hints[field.name]) for field in msgspec.structs.fields(part)
                )


def test_every_field_of_a_letter_has_a_class() -> None:
    assert set(CLASSES) == {path for path, _ in _fields()}


def test_exactly_the_encrypted_fields_hold_sealed_parts() -> None:
    sealed = {path for path, hint in _fields() if Sealed in (hint, *get_args(hint))}
    assert sealed == {path for path, kind in CLASSES.items() if kind is FieldClass.ENCRYPTED}


def test_no_field_may_hold_what_is_never_stored() -> None:
    assert FieldClass.NEVER not in CLASSES.values()


@given(plaintext=st.binary(max_size=200))
def test_any_bytes_come_back(sealer: Sealer, plaintext: bytes) -> None:
    sealed = sealer("01J", "raw.bytes", plaintext)
    assert unseal(sealed, "01J", "raw.bytes", sealer.keys, sealer.blobs) == plaintext


@pytest.mark.parametrize(
    ("size", "inline"), [(0, True), (INLINE_MOST, True), (INLINE_MOST + 1, False), (10 << 20, False)]
)
def test_small_parts_travel_and_large_ones_become_files(sealer: Sealer, size: int, *, inline: bool) -> None:
    sealed = sealer("01K", "raw.bytes", b"x" * size)
    assert (sealed.inline is not None) is inline
    assert (sealed.blob_ref is None) is inline
    assert sealed.size == size
    assert sealer.unseal(sealed, "01K", "raw.bytes") == b"x" * size


@given(plaintext=st.binary(max_size=40), data=st.data())
def test_changing_any_character_of_a_sealed_part_makes_it_fail(
    sealer: Sealer, plaintext: bytes, data: st.DataObject
) -> None:
    sealed = sealer("01J", "raw.bytes", plaintext)
    text = sealed.inline or ""
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda character: character != text[at]))
    forged = msgspec.structs.replace(sealed, inline=text[:at] + other + text[at + 1 :])
    with pytest.raises(UnsealError):
        sealer.unseal(forged, "01J", "raw.bytes")


@pytest.mark.parametrize("at", [0, 11, 12, 5_000, -17, -16, -1])
def test_changing_a_byte_of_a_blob_makes_it_fail(sealer: Sealer, tmp_path: Path, at: int) -> None:
    mine = Sealer(KEYS, BlobStore(tmp_path, 1 << 20))
    sealed = mine("01J", "raw.bytes", b"x" * 20_000)
    path = tmp_path / (sealed.blob_ref or "")
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnsealError):
        mine.unseal(sealed, "01J", "raw.bytes")


@given(plaintext=st.binary(max_size=40))
def test_a_part_opens_neither_in_another_letter_nor_in_another_field_nor_for_another_tenant(
    sealer: Sealer, plaintext: bytes
) -> None:
    sealed = sealer("01J", "raw.bytes", plaintext)
    other = Sealer(sealer.keys, sealer.blobs, tenant="other")
    for opener, letter, field in [
        (sealer, "01K", "raw.bytes"),
        (sealer, "01J", "upstream.body"),
        (other, "01J", "raw.bytes"),
    ]:
        with pytest.raises(UnsealError):
            opener.unseal(sealed, letter, field)


def test_two_blobs_that_change_places_do_not_open(sealer: Sealer) -> None:
    one, two = (sealer(letter, "raw.bytes", b"x" * 20_000) for letter in ("01A", "01B"))
    with pytest.raises(UnsealError):
        sealer.unseal(msgspec.structs.replace(one, blob_ref=two.blob_ref), "01A", "raw.bytes")


@pytest.mark.parametrize(
    "change", [{"size": 4}, {"sha256": "0" * 64}, {"key_id": "k2"}, {"inline": None}, {"inline": "é"}]
)
def test_a_sealed_part_whose_description_was_changed_does_not_open(sealer: Sealer, change: dict[str, object]) -> None:
    sealed = sealer("01J", "raw.bytes", b"abc")
    with pytest.raises(UnsealError):
        sealer.unseal(msgspec.structs.replace(sealed, **change), "01J", "raw.bytes")


def test_a_separator_in_a_name_cannot_move_the_label(sealer: Sealer) -> None:
    with pytest.raises(ValueError, match="separates"):
        sealer("01J|raw", "bytes", b"")


def test_a_full_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(BlobStoreFull):
        Sealer(KEYS, BlobStore(tmp_path, 100))("01J", "raw.bytes", b"x" * 20_000)


def test_the_plaintext_is_nowhere_in_what_is_kept(tmp_path: Path) -> None:
    sealer = Sealer(KEYS, BlobStore(tmp_path, 1 << 20))
    small, large = sealer("01J", "raw.bytes", b"CANARY"), sealer("01K", "raw.bytes", b"CANARY" * 9_000)
    kept = msgspec.json.encode([small, large]) + b64decode(small.inline or "")
    kept += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"CANARY" not in kept
    assert b64encode(b"CANARY") not in kept


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – text ×2", "plain – text ×2"),
        ("a\x00b\nc\td\x7fe\x85", "a\\x00b\\nc\\td\\x7fe\\x85"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07end \x9b1mC1", "red end C1"),
        ("\x1b\x1b[0m[31m", "\\x1b[31m"),
        ("user\u202etxt.exe\u2066\u200b\ufeff", "usertxt.exe"),
        ("tag\U000e0041ged", "tagged"),
        ("line\u2028sep", "line\\u2028sep"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_a_message_shows_what_it_is(text: str, shown: str) -> None:
    assert redaction.message(text) == shown


@given(st.text(st.characters(exclude_categories=()), max_size=400) | st.text(max_size=20).map(lambda text: text * 900))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_message_becomes_printable_and_bounded(text: str) -> None:
    shown = redaction.message(text)
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert not set(shown) & set("\n\r\t\x1b\u2028\u202e")
    assert len(shown.encode()) <= MESSAGE_MOST


@pytest.mark.parametrize(
    "text",
    [
        "sent Authorization: Bearer {0}",
        "sent authorization: Basic {0}== and more",
        "headers {{'Authorization': 'token {0}'}}",
        '{{"api_key": "{0}"}}',
        "GET /v1?api_key={0}&page=2",
        "X-Api-Key: {0}",
        "x-acme-token={0}",
        "Set-Cookie: sid={0}; Path=/",
        "Cookie: a=b; sid={0}",
        "https://user:{0}@host/path",
        "client_secret={0}",
        "password = '{0}'",
        "bearer {0} was refused",
        "it was sk-live-{0} here",
        "ghp_{0}",
        "-----BEGIN RSA PRIVATE KEY-----\n{0}\n-----END RSA PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.{0}.sig",
        "Auth\u200borization: Bearer {0}",
        "Authorization: \x1b[1mBearer {0}",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    shown = redaction.message(text.format("CANARYcanary1234"))
    assert "CANARY" not in shown
    assert "[secret]" in shown


@pytest.mark.parametrize(
    "text",
    [
        "The vendor refused basic authentication.",
        "The token expired 3 s ago.",
        "The vendor answered 401 Unauthorized.",
        'Add the host to "egress.allow_hosts".',
    ],
)
def test_ordinary_sentences_stay_as_they_are(text: str) -> None:
    assert redaction.message(text) == text


@pytest.mark.parametrize("spelling", ["{0}", "CANARY-s3cr3t%2F%2B%C3%A4", b64encode(CANARY.encode()).decode()])
def test_a_known_secret_is_taken_out_in_every_usual_spelling(spelling: str) -> None:
    text = f"before {spelling.format(CANARY)} after"
    assert redaction.message(text, (CANARY,)) == "before [secret] after"
    assert redaction.scrub_bytes(text.encode(), (CANARY,)) == b"before [secret] after"


def test_a_known_secret_that_hidden_characters_split_is_taken_out() -> None:
    assert redaction.message("x CAN\u200bARY-1 y", ("CANARY-1",)) == "x [secret] y"


def test_a_secret_across_the_end_of_a_long_message_is_taken_out() -> None:
    for pad in range(MESSAGE_MOST - 12, MESSAGE_MOST + 1):
        assert "CANA" not in redaction.message("x" * pad + "CANARY-1", ("CANARY-1",))


def test_only_listed_headers_stay_and_their_values_are_made_safe() -> None:
    received = {
        "Date": "Fri, 20 Nov 2026 09:00:00 GMT",
        "Retry-After": "2\x1b[31m",
        "X-RateLimit-Remaining": "0",
        "X-Request-Id": f"r-{CANARY}",
        "Authorization": "Bearer CANARY",
        "Set-Cookie": "sid=CANARY",
        "X-Api-Key": "CANARY",
        "X-Signature": "CANARY",
        "Server": "nginx",
    }
    assert redaction.headers(received, (CANARY,)) == {
        "date": "Fri, 20 Nov 2026 09:00:00 GMT",
        "retry-after": "2",
        "x-ratelimit-remaining": "0",
        "x-request-id": "r-[secret]",
    }


def test_a_flood_of_headers_is_bounded() -> None:
    kept = redaction.headers({f"ratelimit-{number}": "9" * 10_000 for number in range(1_000)})
    assert len(kept) == 32
    assert max(map(len, kept.values())) <= 256

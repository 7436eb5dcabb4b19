"""The key ring: where keys come from, who agrees on them, and that they are never shown."""

import os
import pickle
from base64 import b64encode
from pathlib import Path

import pytest

from dlq.keys import FILE, KeyRing, KeyRingError, UnsealError

OLD, NEW = b"o" * 32, b"n" * 32
SETTING = f"new:{b64encode(NEW).decode()},old:{b64encode(OLD).decode()}"


def test_what_is_sealed_opens_only_under_the_same_label(tmp_path: Path) -> None:
    ring = KeyRing.load(None, tmp_path)
    key_id, blob = ring.seal(b"plain", b"label")
    assert ring.open(key_id, blob, b"label") == b"plain"
    with pytest.raises(UnsealError):
        ring.open(key_id, blob, b"other")


def test_the_same_plaintext_never_seals_the_same_way_twice(tmp_path: Path) -> None:
    ring = KeyRing.load(None, tmp_path)
    assert ring.seal(b"x", b"")[1] != ring.seal(b"x", b"")[1]


def test_the_first_key_of_the_setting_seals_and_every_key_opens() -> None:
    ring = KeyRing.load(SETTING, Path("never-read"))
    assert ring.newest == "new"
    key_id, blob = KeyRing({"old": OLD}).seal(b"from before", b"a")
    assert ring.open(key_id, blob, b"a") == b"from before"


def test_an_unknown_key_is_said_to_be_missing() -> None:
    with pytest.raises(UnsealError, match="not on the ring"):
        KeyRing.load(SETTING, Path()).open("lost", b"x" * 40, b"")


@pytest.mark.parametrize("blob", [b"", b"short", b"x" * 12, b"x" * 27])
def test_a_cut_blob_does_not_open(blob: bytes) -> None:
    with pytest.raises(UnsealError):
        KeyRing({"old": OLD}).open("old", blob, b"")


def test_the_key_file_is_made_once_with_mode_0600_and_kept(tmp_path: Path) -> None:
    data = tmp_path / "fresh"
    key_id, blob = KeyRing.load(None, data).seal(b"x", b"a")
    assert (data / FILE).stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in data.iterdir()] == [FILE]
    assert KeyRing.load(None, data).open(key_id, blob, b"a") == b"x"


def test_a_permissive_umask_does_not_widen_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeyRing.load(None, tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_may_use_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    KeyRing.load(None, tmp_path)
    path = tmp_path / FILE
    path.chmod(mode)
    with pytest.raises(KeyRingError, match=f"chmod 600 {path}"):
        KeyRing.load(None, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"CANARY",
        b"id:CANARY",
        b"id:" + b64encode(b"CANARY-short"),
        b"bad id:" + b64encode(OLD),
        b"a:" + b64encode(OLD) + b"\na:" + b64encode(NEW),
        b"a:" + b64encode(OLD) + b"\nb:\xff\x00",
    ],
)
def test_a_malformed_key_file_is_named_and_never_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(KeyRingError) as caught:
        KeyRing.load(None, tmp_path)
    assert str(path) in str(caught.value)
    assert "do not delete" in str(caught.value)
    for secret in ("CANARY", b64encode(OLD).decode(), b64encode(b"CANARY-short").decode()):
        assert secret not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("setting", ["", ",", "CANARY", f"a:{b64encode(OLD).decode()},a:{b64encode(NEW).decode()}"])
def test_a_malformed_setting_is_named_and_never_quoted(setting: str) -> None:
    with pytest.raises(KeyRingError, match="SLUICE_KEYS") as caught:
        KeyRing.load(setting, Path())
    assert "CANARY" not in str(caught.value)


def test_a_directory_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(KeyRingError, match="not a regular file"):
        KeyRing.load(None, tmp_path)


def test_no_key_shows_in_any_rendering() -> None:
    ring = KeyRing.load(SETTING, Path())
    shown = f"{ring!r} {ring} {[ring]}"
    shown += "".join(repr(getattr(ring, name)) for name in KeyRing.__slots__)
    for secret in (OLD.decode(), NEW.decode(), b64encode(OLD).decode(), b64encode(NEW).decode()):
        assert secret not in shown
    with pytest.raises(TypeError):
        pickle.dumps(ring)

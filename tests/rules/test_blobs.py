"""The blob store: whole files, one cap for all processes, nothing outside its directory."""

import os
from pathlib import Path

import pytest

from dlq.blobs import BlobStore, BlobStoreFull, letter_of, reference
from dlq.keys import UnsealError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", 1000)
    reference = store.write("01J", "raw.bytes", b"sealed")
    assert store.read(reference) == b"sealed"
    path = tmp_path / "blobs" / reference
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_cap_refuses_before_anything_is_written(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 10)
    kept = store.write("01J", "raw.bytes", b"x" * 8)
    with pytest.raises(BlobStoreFull):
        store.write("01K", "raw.bytes", b"x" * 3)
    assert store.total() == 8
    assert store.read(kept) == b"x" * 8
    store.write("01L", "raw.bytes", b"x" * 2)


def test_writing_a_part_again_replaces_it_and_counts_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 10)
    store.write("01J", "raw.bytes", b"x" * 8)
    reference = store.write("01J", "raw.bytes", b"y" * 9)
    assert store.read(reference) == b"y" * 9
    assert store.total() == 9


def test_removing_makes_room(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 10)
    reference = store.write("01J", "raw.bytes", b"x" * 10)
    store.remove(reference)
    store.remove(reference)
    assert store.total() == 0
    store.write("01K", "raw.bytes", b"x" * 10)


def test_several_are_removed_at_once_and_only_the_old_are_listed(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 100)
    one, two = (store.write(name, "raw.bytes", b"x" * 10) for name in ("01J", "01K"))
    os.utime(tmp_path / one, (1000, 1000))
    (tmp_path / "notes.txt").write_text("not ours")
    assert store.older(2000) == [one]
    store.remove(one, "01X.raw.bytes.sealed", one)
    assert (store.total(), store.older(2000)) == (10, [])
    assert store.read(two) == b"x" * 10
    assert [letter_of(two), reference("01K", "raw.bytes")] == ["01K", two]


def test_a_process_that_starts_counts_anew_and_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    BlobStore(tmp_path, 100).write("01J", "raw.bytes", b"x" * 8)
    (tmp_path / ".draft").write_bytes(b"half")
    (tmp_path / "01K.raw.bytes.sealed").write_bytes(b"renamed, not yet counted")
    assert BlobStore(tmp_path, 100).total() == 8 + 24
    assert not (tmp_path / ".draft").exists()


@pytest.mark.parametrize(
    "reference", ["../keys", "/etc/hostname", "a/b.raw.sealed", "", ".lock", "01J.raw.bytes.sealed\n"]
)
def test_a_reference_cannot_lead_out_of_the_directory(tmp_path: Path, reference: str) -> None:
    store = BlobStore(tmp_path, 100)
    with pytest.raises(UnsealError):
        store.read(reference)
    with pytest.raises(UnsealError):
        store.remove(reference)


def test_a_blob_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(UnsealError, match="gone"):
        BlobStore(tmp_path, 100).read("01J.raw.bytes.sealed")

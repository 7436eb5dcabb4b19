"""Large sealed parts of letters, one file each, under one cap that all processes share.

Stores ciphertext only and never decides what to drop: a full store says so, and intake stops. A file appears whole or not
at all. The total is kept beside the files under a lock and counted anew by every process that starts.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlq.keys import UnsealError, sync_directory

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\.[a-z][a-z_.]{0,63}\.sealed")
_LOCK = ".lock"
_DRAFT = ".draft"


def reference(letter_id: str, field: str) -> str:
    """Return the name of a part's file."""
    return f"{letter_id}.{field}.sealed"


def letter_of(reference: str) -> str:
    """Return the letter that a part belongs to."""
    return reference.partition(".")[0]


class BlobStoreFull(Exception):  # noqa: N818 - it names a state of the store, not a bug
    """Storing this would pass the cap: stop intake and alert; nothing is trimmed to make room."""


class BlobStore:
    """Files of sealed parts in one directory of mode 0700. Its calls block: they fsync."""

    __slots__ = ("_cap", "_directory")

    def __init__(self, directory: Path, cap_bytes: int) -> None:
        self._directory = directory
        self._cap = cap_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked() as lock:
            # Whoever holds the lock is the only writer, so a draft that lies here belongs to a process that died.
            (directory / _DRAFT).unlink(missing_ok=True)
            _keep(lock, self._count())

    def __repr__(self) -> str:
        return f"<BlobStore {self._directory} {self.total()} of {self._cap} bytes>"

    def total(self) -> int:
        """Return the bytes of all files."""
        with self._locked() as lock:
            return _kept(lock)

    def write(self, letter_id: str, field: str, sealed: bytes) -> str:
        """Store one part durably and return its reference; the same part again replaces it."""
        name = reference(letter_id, field)
        path = self._path(name)
        with self._locked() as lock:
            total = _kept(lock) + len(sealed) - _size(path)
            if total > self._cap:
                raise BlobStoreFull(f"{total} bytes of blobs, at most {self._cap} (SLUICE_BLOB_CAP) are kept")
            self._replace(path, sealed)
            _keep(lock, total)
        return name

    def read(self, reference: str) -> bytes:
        """Return what was stored, or raise `UnsealError`."""
        try:
            return self._path(reference).read_bytes()
        except FileNotFoundError:
            raise UnsealError(f"The blob {reference} is gone from {self._directory}.") from None

    def remove(self, *references: str) -> None:
        """Forget parts, whether they are there or not; nothing may name them any more."""
        paths = [self._path(one) for one in references]
        with self._locked() as lock:
            there = {path: path.stat().st_size for path in paths if path.exists()}
            for path in there:
                path.unlink()
            if there:
                sync_directory(self._directory)
                _keep(lock, _kept(lock) - sum(there.values()))

    def older(self, before_s: float) -> list[str]:
        """Return the parts that were written before a time, in seconds since the epoch."""
        found = []
        with os.scandir(self._directory) as entries:
            for one in entries:
                with suppress(FileNotFoundError):  # another process may remove it meanwhile
                    if _NAME.fullmatch(one.name) and one.stat().st_mtime < before_s:
                        found.append(one.name)
        return found

    def _path(self, name: str) -> Path:
        # The reference comes from a record that others may have written: it must not lead out of the directory.
        if not _NAME.fullmatch(name):
            raise UnsealError("The reference is not the name of a blob.")
        return self._directory / name

    def _replace(self, path: Path, sealed: bytes) -> None:
        draft = self._directory / _DRAFT
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            sync_directory(self._directory)
        finally:
            draft.unlink(missing_ok=True)

    def _count(self) -> int:
        with os.scandir(self._directory) as entries:
            return sum(entry.stat().st_size for entry in entries if _NAME.fullmatch(entry.name))

    @contextmanager
    def _locked(self) -> Iterator[int]:
        lock = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _kept(lock: int) -> int:
    return int.from_bytes(os.pread(lock, 8, 0), "big")


def _keep(lock: int, total: int) -> None:
    # Not synced: after a crash of the machine every process starts, and so counts, anew.
    os.pwrite(lock, max(total, 0).to_bytes(8, "big"), 0)

"""Baselines as files: `<folder>/<connector>/<operation>.json`, one version a decision, written whole or not at all.

Anybody may read one while it is written. Two who decide at the same time wait for each other; nothing is lost.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from connectors.declared import Operation
from schemas.contracts.baseline import Baseline

_decode = msgspec.json.Decoder(Baseline).decode


class DamagedBaselineError(Exception):
    """A file that is no baseline; nothing is decided on top of it."""


class BaselineFiles:
    """The folder of baselines; remembers what it read until a file changes."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self._folder = folder
        self._paths: dict[str, str] = {}
        self._known: dict[str, tuple[tuple[int, int, int], Baseline | None]] = {}

    def of(self, operation: Operation) -> Baseline | None:
        """Return what was decided about an operation; costs one `stat` when nothing changed. A damaged file decides nothing."""
        try:
            return self.read(operation)
        except DamagedBaselineError:
            return None

    def read(self, operation: Operation) -> Baseline | None:
        """As `of`, but raises `DamagedBaselineError`."""
        path = self._paths.get(operation.tool)
        if path is None:  # making one costs more than asking for it, and that is done for every answer
            path = self._paths[operation.tool] = str(self._path(operation))
        try:
            found = os.stat(path)  # noqa: PTH116 - as above
        except OSError:
            return None
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, _parsed(Path(path)))
        if known[1] is None:
            raise DamagedBaselineError(f"{path} is not a baseline: mend it or move it away")
        return known[1]

    def change(self, operation: Operation, step: Callable[[Baseline], Baseline]) -> Baseline:
        """Replace an operation's baseline by its next version; raises `DamagedBaselineError` and `OSError`."""
        path = self._path(operation)
        with _alone(path.parent):
            before = self.read(operation) or Baseline(tool=operation.tool)
            after = step(before)
            if after is not before:
                _write(path, msgspec.json.format(msgspec.json.encode(after), indent=2))
        return after

    def _path(self, operation: Operation) -> Path:
        return self._folder / operation.connector / f"{operation.name}.json"


def _parsed(path: Path) -> Baseline | None:
    try:
        return _decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: bytes) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

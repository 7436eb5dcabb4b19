"""A worker with a bug: `python -m tests.faults.raising FILE` raises where it judges an answer, as long as the file says other than 0."""

import functools
import sys
from pathlib import Path
from typing import Any

import connectors.classify
from connectors import pipeline
from gateway import roles
from gateway.settings import Settings


def arm(file: Path) -> None:
    """Wrap the classifier."""
    whole = connectors.classify.classify

    @functools.wraps(whole)
    def buggy(*arguments: Any, **named: Any) -> Any:
        if file.read_text() != "0":
            raise RuntimeError("the classifier was told to raise")
        return whole(*arguments, **named)

    pipeline.classify = buggy  # type: ignore[attr-defined]


if __name__ == "__main__":
    arm(Path(sys.argv[1]))
    sys.exit(roles.worker(Settings()))

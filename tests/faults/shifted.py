"""A worker whose wall clock somebody sets: `python -m tests.faults.shifted FILE` adds the seconds that the file says to every look.

The steady clock and Redis' are left alone, as a step of NTP or an operator's `date` leaves them.
"""

import datetime as dt
import sys
from pathlib import Path
from typing import Self

from gateway import app, roles
from gateway.settings import Settings


class Shifted(dt.datetime):
    """A clock that is wrong by as much as a file says."""

    file: Path

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        """Return the wrong time."""
        wrong = super().now(tz) + dt.timedelta(seconds=float(cls.file.read_text()))
        return cls.fromisoformat(wrong.isoformat())


if __name__ == "__main__":
    Shifted.file = Path(sys.argv[1])
    app.datetime = Shifted  # type: ignore[attr-defined]
    sys.exit(roles.worker(Settings()))

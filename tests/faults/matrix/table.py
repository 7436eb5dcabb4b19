"""All rows of the matrix, in order. Whoever writes rows adds their module here."""

from tests.faults.matrix import rows_events, rows_redis, rows_workers
from tests.faults.matrix.scenario import NotRun, Scenario

LAST = 48

_WRITTEN = (*rows_workers.ROWS, *rows_redis.ROWS, *rows_events.ROWS)
_MISSING = set(range(1, LAST + 1)) - {row.number for row in _WRITTEN}

ROWS: tuple[Scenario | NotRun, ...] = tuple(
    sorted(
        (*_WRITTEN, *(NotRun(number=n, title="", invariants="", reason="no scenario yet") for n in _MISSING)),
        key=lambda row: row.number,
    )
)

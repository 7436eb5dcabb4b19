"""All rows of the matrix, in order. Whoever writes rows adds their module here."""

from tests.faults.matrix import rows_breakers, rows_limits, rows_tokens, rows_vendor, rows_workers
from tests.faults.matrix.scenario import NotRun, Scenario

_ALL = (*rows_workers.ROWS, *rows_vendor.ROWS, *rows_breakers.ROWS, *rows_limits.ROWS, *rows_tokens.ROWS)
ROWS: tuple[Scenario | NotRun, ...] = tuple(sorted(_ALL, key=lambda row: row.number))

"""All rows of the matrix, in order. Whoever writes rows adds their module here."""

from tests.faults.matrix import rows_workers
from tests.faults.matrix.scenario import NotRun, Scenario

ROWS: tuple[Scenario | NotRun, ...] = tuple(sorted((*rows_workers.ROWS,), key=lambda row: row.number))

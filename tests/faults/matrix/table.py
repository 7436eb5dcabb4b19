"""All rows of the matrix, in order. Whoever writes rows adds their module here."""

from tests.faults.matrix import (
    rows_breakers,
    rows_contracts,
    rows_events,
    rows_hostile,
    rows_kafka,
    rows_limits,
    rows_people,
    rows_redis,
    rows_replay,
    rows_tokens,
    rows_vendor,
    rows_workers,
)
from tests.faults.matrix.scenario import NotRun, Scenario

LAST = 48

_MODULES = (
    rows_workers, rows_redis, rows_events, rows_vendor, rows_breakers, rows_limits, rows_tokens, rows_contracts, rows_hostile,
    rows_replay, rows_people, rows_kafka,
)  # fmt: skip
_WRITTEN = tuple(row for module in _MODULES for row in module.ROWS)
_MISSING = set(range(1, LAST + 1)) - {row.number for row in _WRITTEN}

ROWS: tuple[Scenario | NotRun, ...] = tuple(
    sorted(
        (*_WRITTEN, *(NotRun(number=n, title="", invariants="", reason="no scenario yet") for n in _MISSING)),
        key=lambda row: row.number,
    )
)

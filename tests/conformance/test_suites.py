"""Suites that were written for a real Redis, on the twin of it: nothing in them knows the difference."""

from types import ModuleType
from typing import Final

from tests.flows import test_delivery, test_intake, test_lost_workers
from tests.wire import test_lanes

SUITES: Final[tuple[ModuleType, ...]] = (test_lanes, test_delivery, test_intake, test_lost_workers)

for _suite in SUITES:
    for _name, _what in list(vars(_suite).items()):
        if _name.startswith("test_") or _name == "lanes":
            assert _name not in globals(), f"two suites have {_name}"
            globals()[_name] = _what

"""Rows of the fault matrix with one seed each; `./dev faults` plays all of them with several."""

import pytest

from tests.faults.matrix.scenario import Scenario, run
from tests.faults.matrix.table import ROWS
from tests.vendor.client import VendorProcess

# A row takes 20 s at most on a machine that has time; its own bounds grow with the load.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

SMOKE = [row for row in ROWS if isinstance(row, Scenario) and row.smoke]


@pytest.mark.parametrize("row", SMOKE, ids=[f"{row.number}: {row.title}" for row in SMOKE])
def test_no_promise_is_broken(row: Scenario, vendor: VendorProcess) -> None:
    done = run(row, 1, vendor)
    assert not done.violations, "\n".join([*map(str, done.violations), str(done.schedule), done.log])

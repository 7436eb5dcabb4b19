"""Claims about time on a machine that had none to give: there a failed one proves nothing, and is told as skipped, by name.

A test that is marked `timed` compares durations. When it fails while, for most of its run, something waited for a processor (Linux
pressure stall information, `some` of /proc/pressure/cpu), the machine was measured and not the gateway. When
it fails although there was time, it is run once more, and that is told by name: a host may stand still without saying so, but a gateway
that is slow is slow again.
"""

import time
from collections.abc import Generator
from pathlib import Path

import pytest

PRESSURE = Path("/proc/pressure/cpu")
BUSY = 0.6
"""Share of a test's run in which something waited, beyond which nothing can be said of time."""

_began = pytest.StashKey[tuple[float, float]]()


def stalled_s() -> float | None:
    """Return for how long something has waited for a processor since the machine's start; None where nobody counts that."""
    try:
        some = PRESSURE.read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    return int(some.rpartition("total=")[2]) / 1e6


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests about time be run a second time."""
    for item in items:
        if item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Note the time before a test that is about time."""
    stalled = stalled_s() if item.get_closest_marker("timed") else None
    if stalled is not None:
        item.stash[_began] = (time.monotonic(), stalled)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a failure about time into a skip where the machine was busy."""
    report = yield
    began, stalled = item.stash.get(_began, None), stalled_s()
    if report.when != "call" or not report.failed or began is None or stalled is None:
        return report
    share = (stalled - began[1]) / max(time.monotonic() - began[0], 1e-3)
    if share > BUSY:
        report.outcome = "skipped"
        reason = f"Skipped: a claim about time failed, but for {share:.0%} of its run something waited for a processor"
        report.longrepr = (str(item.path), item.location[1] or 0, reason)
    return report

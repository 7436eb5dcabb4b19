"""The demo ends by itself, in time, with every sum in order: it is the first thing that anybody sees."""

import subprocess
import sys

import pytest

from tests.vendor.client import ROOT

pytestmark = pytest.mark.faults


def test_the_demo_ends_well_within_a_minute() -> None:
    command = [sys.executable, "-m", "tests.demo"]
    demo = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "NO" not in demo.stdout
    assert "500 = 435 accepted" in demo.stdout

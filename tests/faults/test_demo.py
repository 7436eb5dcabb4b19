"""The demo ends by itself, in time, with every claim kept, and leaves nothing behind: it is the first thing that anybody sees."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.demo.scenes import SCENES
from tests.vendor.client import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]
PROMISED_S = 120
INTERRUPTED = 130


def demo(folder: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.demo", *flags]
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=_listens,  # noqa: PLW1509 - this process has one thread
    )  # fmt: skip


def _listens() -> None:
    """Hear Ctrl-C, also where the tests run in the background of a script, which ignores it and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def still_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_demo_keeps_what_it_claims_within_two_minutes(tmp_path: Path) -> None:
    folder, record = tmp_path / "tmp", tmp_path / "demo.svg"
    folder.mkdir()
    with demo(folder, "--record", str(record)) as process:
        said, _ = process.communicate(timeout=PROMISED_S)
    assert process.returncode == 0, said
    assert "All claims hold" in said
    assert all(scene.title in said for scene in SCENES)
    assert "628 = 562 accepted + 50 duplicates" in " ".join(said.split())
    assert SCENES[-1].title in record.read_text("utf-8")
    assert list(folder.iterdir()) == []
    assert not still_there(process.pid)


def test_the_demo_can_be_interrupted_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "is killed" in line:
                break
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody in the group hears it
        rest = process.stdout.read()
    assert process.returncode == INTERRUPTED, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
    give_up = time.monotonic() + 10
    while still_there(process.pid) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not still_there(process.pid)

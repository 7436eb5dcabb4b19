"""What a start says: nothing is called up before it answers, and what cannot work is told in one line, without secrets."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import starting, together
from gateway.settings import Settings
from tests.demo.ground import ROOT

pytestmark = pytest.mark.wire


def environment(tmp_path: Path, port: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    return {**inherited, "SLUICE_DATA": str(tmp_path / "data"), "SLUICE_PORT": str(port)}


def test_a_start_that_left_manifests_out_says_so(tmp_path: Path) -> None:
    good = (ROOT / "examples/json-api.yaml").read_text(encoding="utf-8")
    broken = tmp_path / "broken.yaml"
    broken.write_text(good.replace("POST", "PSOT"), encoding="utf-8")
    settings = Settings(data=tmp_path / "data", connectors=[broken])
    told = together._welcome(settings, None)
    assert "Tools    0 " in told
    assert f"what has one is left out: sluice connectors lint {broken}" in told


def test_what_is_called_up_answers_and_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gateway", "up", "--connectors", "examples/json-api.yaml"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(tmp_path, port), stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        try:
            for line in running.stderr:
                if line.startswith("Sluice is up."):
                    break
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            said = [running.stderr.readline() for _ in range(7)]
            (tools,) = [line.split("Tools", 1)[1].strip() for line in said if "Tools" in line]
            count, _, command_line = tools.partition(" ")
            assert int(count) > 0
            listed = f"sluice connectors ls --connectors {(ROOT / 'examples/json-api.yaml').resolve()}"
            assert command_line.strip() == f"({listed})"
            second = environment(tmp_path / "second", port)
            told = subprocess.run(
                [sys.executable, "-m", "gateway", "up"],
                cwd=tmp_path,
                env=second,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert told.returncode == 1
            assert f"127.0.0.1:{port}" in told.stderr
            assert "--port" in told.stderr
            assert "Sluice is up." not in told.stderr
        finally:
            running.terminate()
            running.stderr.read()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"redis_url": "foo://user:hunter2@host"}, "SLUICE_REDIS_URL"),
        ({"redis_url": "redis://user:hunter2@host:port"}, "SLUICE_REDIS_URL"),
        ({"keys": "hunter2"}, "SLUICE_KEYS"),
        ({"journal_url": "mysql://u:hunter2@h/d"}, "SLUICE_JOURNAL_URL"),
    ],
)
def test_a_setting_that_cannot_work_is_told_in_one_line_and_not_quoted(
    given: dict[str, str], named: str, tmp_path: Path
) -> None:
    problem = starting.unsupported(Settings(data=tmp_path, **given))  # type: ignore[arg-type]
    assert problem is not None
    assert named in problem
    assert "hunter2" not in problem
    assert "\n" not in problem
    assert list(tmp_path.iterdir()) == []

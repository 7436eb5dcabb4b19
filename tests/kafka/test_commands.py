"""The command line on Kafka: publishing, the doctor, and what is wrong is told before anything starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka.broker import free_ports
from tests.kafka.stage import Stage
from tests.vendor.client import ROOT

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def sluice(stage: Stage, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={**stage.workers.environment, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_lines_are_published_taken_in_and_answered(stage: Stage, tmp_path: Path) -> None:
    lines = [json.dumps({"tool": "crm.contacts.get", "arguments": {"id": f"c{n}"}}) for n in range(20)]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    done = sluice(stage, "publish", str(path))
    assert done.returncode == 0, done.stderr
    stage.workers.start()
    assert stage.until(20)["completed"] == 20
    assert len(stage.until_told(stage.topics.results, 20)) == 20


def test_the_doctor_looks_at_kafka(stage: Stage) -> None:
    before = sluice(stage, "doctor", "-o", "json")
    assert "topics are missing" in before.stdout
    stage.workers.start()
    stage.wait_for("worker.started")
    assert "every topic is there" in sluice(stage, "doctor", "-o", "json").stdout
    (port,) = free_ports(1)
    away = sluice(stage, "doctor", "-o", "json", SLUICE_BUS_URL=f"kafka://127.0.0.1:{port}")
    assert "Kafka does not answer" in away.stdout


@pytest.mark.parametrize("role", ["worker", "up"])
def test_an_address_that_is_none_is_told_before_anything_starts(stage: Stage, role: str) -> None:
    done = sluice(stage, role, SLUICE_BUS_URL="kafka://me:secret@somewhere")
    assert done.returncode == 2
    assert "kafka://host:port" in done.stderr
    assert "secret" not in done.stderr


def test_a_worker_whose_topic_cannot_be_made_says_which_and_ends(stage: Stage) -> None:
    done = sluice(stage, "worker", SLUICE_TOPIC_PREFIX="not a name ")
    assert done.returncode == 2
    assert "could not be created: InvalidTopicError" in done.stderr


def test_a_worker_waits_for_a_broker_that_is_not_there_yet(stage: Stage) -> None:
    stage.create()
    stage.broker.stop()
    worker = stage.workers.start()
    stage.wait_for("bus.away")
    assert worker.poll() is None
    stage.broker.start()
    stage.publish([json.dumps(event(1)).encode()])
    assert stage.until(1)["completed"] == 1


def event(number: int) -> dict[str, object]:
    data = {"tool": "crm.contacts.get", "arguments": {"id": f"c{number}"}}
    return {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/a", "id": f"e{number}", "data": data}

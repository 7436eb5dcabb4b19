"""The broker itself: what is acknowledged survives a kill, on the same port."""

import os

import pytest

from tests.kafka import broker as place
from tests.kafka.broker import KafkaBroker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def test_what_was_acknowledged_is_read_after_a_kill_and_a_restart_by_the_console_programs(broker: KafkaBroker) -> None:
    reach = ("--bootstrap-server", broker.servers)
    broker.run(place.TOPICS, *reach, "--create", "--topic", "survivors", "--partitions", "1")
    broker.run(place.CONSOLE_PRODUCER, *reach, "--topic", "survivors", given="one\ntwo\n")
    before = broker.servers
    broker.restart()
    assert broker.servers == before
    arguments = ("--topic", "survivors", "--from-beginning", "--max-messages", "2", "--timeout-ms", "20000")
    assert broker.run(place.CONSOLE_CONSUMER, *reach, *arguments).split() == ["one", "two"]


def test_a_machine_without_java_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert "Java 17 is missing" in str(place.missing())

"""The way of a call with Kafka as the bus: in, done once, out; read by Kafka's own console consumer."""

import json

import pytest

from tests.faults.test_kill_points import body
from tests.kafka import broker as place
from tests.kafka.stage import Stage

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

COMMITTED_WITHIN_S = 10


def reads(start: int, count: int) -> list[bytes]:
    return [body(f"r{number}", "contacts.get", {"id": f"c{number}"}) for number in range(start, start + count)]


def test_calls_go_in_results_come_out_and_a_console_consumer_reads_them(stage: Stage) -> None:
    stage.create()
    stage.publish(reads(0, 40))
    stage.workers.start()
    sums = stage.until(40)
    assert (sums["completed"], sums["duplicates"]) == (40, 0)
    assert sums.received_is_explained
    assert stage.vendor.counts().arrivals == 40
    told = stage.until_told(stage.topics.results, 40)
    assert len(told) == 40
    printed = stage.broker.run(
        place.CONSOLE_CONSUMER,
        "--bootstrap-server",
        stage.broker.servers,
        *("--topic", stage.topics.results, "--from-beginning", "--max-messages", "40", "--timeout-ms", "20000"),
    )
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert {event["id"] for event in events} == {event["id"] for event in told}
    assert {event["type"] for event in events} == {"tool.call.completed"}
    settled = [event for event in stage.read(stage.topics.events) if event["type"] == "tool.call.settled"]
    assert len(settled) == 40

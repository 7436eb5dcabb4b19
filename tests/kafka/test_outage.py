"""The broker is killed, restarted and suspended under load: nothing is lost, nothing doubled, and what went out is all there."""

import threading
import time
from collections import defaultdict

import pytest

from tests.kafka.stage import Stage
from tests.kafka.test_intake import sends

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def test_a_broker_killed_while_events_are_read_and_committed_and_results_sent(stage: Stage) -> None:
    stage.create()
    stage.publish(sends(0, 300))
    stage.workers.start()
    give_up = time.monotonic() + 30
    while stage.sums()["received"] < 30 and time.monotonic() < give_up:
        time.sleep(0.001)
    stage.broker.kill()
    time.sleep(1)
    stage.broker.start()
    stage.publish(sends(300, 50))
    sums = stage.until(350)
    assert (sums["received"], sums["completed"], sums["duplicates"]) == (350, 350, 0)
    assert stage.vendor.counts().repeated_refs == []
    told = stage.until_told(stage.topics.results, 350)
    assert {event["data"]["request"]["id"] for event in told} == {f"u{n}" for n in range(350)}


def test_a_broker_that_hangs_is_waited_out_and_what_it_did_not_confirm_stays_in_the_outbox(stage: Stage) -> None:
    stage.create()
    stage.workers.start()
    stage.publish(sends(0, 20))
    stage.until(20)
    stage.until_told(stage.topics.results, 20)
    stage.publish(sends(20, 100))
    stage.broker.suspend()
    waking = threading.Timer(14, stage.broker.wake)  # longer than a sending may take: the producer is replaced
    waking.start()
    try:
        time.sleep(14.5)
    finally:
        waking.join()
    sums = stage.until(120)
    assert (sums["received"], sums["completed"], sums["duplicates"]) == (120, 120, 0)
    told = stage.until_told(stage.topics.results, 120)
    assert {event["data"]["request"]["id"] for event in told} == {f"u{n}" for n in range(120)}
    assert stage.vendor.counts().repeated_refs == []


@pytest.mark.stand_in
def test_what_is_told_of_a_session_is_in_order_after_the_relay_was_killed(stage: Stage) -> None:
    stage.create()
    first = stage.workers.start()
    stage.workers.start()
    stage.publish([raw.replace(b'"arguments"', b'"session":"s1","arguments"', 1) for raw in sends(0, 150)])
    give_up = time.monotonic() + 30
    while stage.sums()["received"] < 60 and time.monotonic() < give_up:
        time.sleep(0.001)
    first.kill()
    stage.until(150)
    stage.until_told(stage.topics.results, 150)
    seen: dict[str, list[int]] = defaultdict(list)
    ids = set()
    for key, event in stage.read_keyed(stage.topics.events):
        if event["id"] in ids or "seq" not in event["data"]:
            continue
        ids.add(event["id"])
        assert key == b"s1"
        seen[event["data"]["call"]].append(event["data"]["seq"])
    assert len(seen) == 150
    assert all(numbers == sorted(numbers) for numbers in seen.values())

"""What comes in from Kafka, whatever it is and whoever dies: once in its lane, or a letter; by the vendor's own counts."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults.deadly import POISON
from tests.faults.test_kill_points import body
from tests.kafka.stage import Headers, Stage
from tests.kafka.test_round_trip import reads

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def sends(start: int, count: int) -> list[bytes]:
    """Calls that a vendor cannot deduplicate: each must arrive once."""
    return [body(f"u{n}", "messages.send", {"ref": f"u{n}", "text": "x"}) for n in range(start, start + count)]


def until(holds: Callable[[], bool], within_s: float = 30) -> None:
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, "it never came to pass"
        time.sleep(0.1)


def binary(number: int) -> tuple[bytes, Headers]:
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"tool.call.requested"),
        ("ce_source", b"agent/a"),
        ("ce_id", f"b{number}".encode()),
        ("content-type", b"application/json"),
    ]
    return b'{"tool":"crm.contacts.get","arguments":{"id":"c%d"},"session":"s1"}' % number, headers


@pytest.mark.stand_in
def test_binary_and_structured_events_are_read_and_what_cannot_be_read_is_a_letter(stage: Stage) -> None:
    stage.create()
    good, headers = binary(1)
    stage.publish_each(
        [
            (good, headers),
            (reads(0, 1)[0], [("content-type", b"application/cloudevents+json; charset=utf-8")]),
            (reads(1, 1)[0], [("someone-elses", b"\xff\xfe"), ("empty", None)]),
            (good, [*headers, ("ce_subject", b"\xff\xfe")]),
            (good, [*headers, ("ce_subject", None)]),
            (b"\xff\xfe", []),
            (b"{", []),
            (None, []),
            (b'{},"id":"x"', headers),
        ]
    )
    stage.workers.start()
    sums = stage.until(9)
    assert (sums["completed"], sums["undecodable"]) == (3, 6)
    letters = stage.until_told(stage.topics.letters, 6)
    assert Counter(letter["data"]["failure"]["class"] for letter in letters) == {
        "decode.envelope": 2,
        "decode.encoding": 1,
        "decode.json": 3,
    }
    assert {letter["data"]["source"]["engine"] for letter in letters} == {"kafka"}
    results = stage.until_told(stage.topics.results, 3)
    assert {result["data"]["request"]["id"] for result in results} == {"b1", "r0", "r1"}


@pytest.mark.stand_in
def test_an_event_that_kills_its_reader_is_dead_lettered_undecoded_and_the_others_go_on(stage: Stage) -> None:
    stage.create(partitions=1)
    stage.publish([*reads(0, 10), POISON, *reads(10, 10)])
    deaths, give_up = 0, time.monotonic() + 90
    while time.monotonic() < give_up:
        worker = stage.workers.start("poison")
        while worker.poll() is None and stage.sums()["received"] < 21 and time.monotonic() < give_up:
            time.sleep(0.02)
        if worker.poll() is None:
            break
        deaths += 1
    sums = stage.until(21)
    (letter,) = stage.until_told(stage.topics.letters, 1)
    assert (sums["completed"], sums["undecodable"], sums["duplicates"]) == (20, 1, 0)
    assert letter["data"]["failure"]["class"] == "poison.crash_loop"
    assert 2 <= deaths <= 4


@pytest.mark.stand_in
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_in_the_middle_loses_nothing_and_doubles_nothing(
    stage: Stage, number: signal.Signals
) -> None:
    stage.create()
    worker = stage.workers.start()
    stage.publish(sends(0, 150))
    give_up = time.monotonic() + 30
    while stage.sums()["received"] < 20 and time.monotonic() < give_up:
        time.sleep(0.002)
    worker.send_signal(number)
    stage.publish(sends(150, 50))
    worker.wait(15)
    stage.workers.start()
    sums = stage.until(200)
    counts = stage.vendor.counts()
    assert (sums["received"], sums["duplicates"]) == (200, 0)
    assert sums.accepted_is_explained
    assert counts.repeated_refs == []
    assert len(counts.effects["messages.send"]) >= sums["completed"]
    if number is signal.SIGTERM:
        assert (worker.returncode, sums["completed"]) == (0, 200)


@pytest.mark.stand_in
def test_a_second_worker_that_joins_while_a_batch_is_under_way_doubles_nothing(stage: Stage) -> None:
    stage.create()
    stage.publish(sends(0, 200))
    stage.workers.start()
    time.sleep(1.0)  # somewhere in the join or the first batches; whichever it is, the sums must agree
    stage.workers.start()
    for start in range(200, 500, 100):
        stage.publish(sends(start, 100))
    stage.workers.start()
    sums = stage.until(500)
    assert (sums["received"], sums["completed"], sums["duplicates"]) == (500, 500, 0)
    assert stage.vendor.counts().repeated_refs == []


@pytest.mark.stand_in
def test_a_worker_that_stalled_while_others_took_its_partitions_counts_nothing_twice(stage: Stage) -> None:
    stage.create()
    worker = stage.workers.start()
    stage.publish(sends(0, 20))
    stage.until(20)
    stage.publish(sends(20, 200))
    give_up = time.monotonic() + 20
    while stage.sums()["received"] < 30 and time.monotonic() < give_up:
        time.sleep(0.001)
    os.kill(worker.pid, signal.SIGSTOP)
    stage.workers.start()
    time.sleep(5)  # longer than a session: its partitions are given to the other
    os.kill(worker.pid, signal.SIGCONT)
    stage.publish(sends(220, 30))
    sums = stage.until(250)
    assert (sums["received"], sums["duplicates"]) == (250, 0)
    assert sums.accepted_is_explained
    assert stage.vendor.counts().repeated_refs == []


def test_a_batch_that_takes_longer_than_a_member_may_is_taken_in_once(stage: Stage) -> None:
    """Redis stands still for longer than `max.poll.interval`: the member leaves the group, comes back, and finds its marks."""
    stage.workers.environment |= {"SLUICE_BUS_POLL_WITHIN": "3"}
    stage.create()
    worker = stage.workers.start()
    stage.publish(reads(0, 10))
    stage.until(10)
    pid = stage.books.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        stage.publish(reads(10, 100))
        time.sleep(8)
    finally:
        os.kill(pid, signal.SIGCONT)
    sums = stage.until(110)
    stage.publish(reads(110, 10))
    sums = stage.until(120)
    assert (sums["received"], sums["completed"], sums["duplicates"]) == (120, 120, 0)
    assert worker.poll() is None
    give_up = time.monotonic() + 20
    while sum(stage.committed().values()) < 120 and time.monotonic() < give_up:
        time.sleep(0.2)
    assert sum(stage.committed().values()) == 120


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(stage: Stage) -> None:
    stage.create(partitions=1)
    stage.workers.start()
    stage.publish(reads(0, 30))
    stage.until(30)
    stage.workers.stop()
    stage.delete(stage.topics.calls)
    stage.create(partitions=1)
    stage.publish(reads(100, 5))
    stage.workers.start()
    assert stage.until(35)["completed"] == 35


def test_a_flooded_queue_pauses_reading_and_the_pause_survives_a_rebalance(stage: Stage) -> None:
    stage.create()
    stage.mark()
    stage.workers.start()
    stage.publish(reads(0, 10))
    stage.until(10)
    stage.flood(on=True)
    until(lambda: stage.workers.log.count("queue.flooded") == 1)
    stage.workers.start()  # a member that joins, and with it a new assignment for both
    until(lambda: stage.workers.log.count("queue.flooded") == 2)
    until(lambda: stage.members() == 2)
    stage.publish(reads(10, 40))
    time.sleep(2)
    assert stage.sums()["received"] == 10
    assert stage.members() == 2, "a pause is no reason to leave"
    stage.flood(on=False)
    sums = stage.until(50)
    assert (sums["completed"], sums["duplicates"]) == (50, 0)


@pytest.mark.stand_in
def test_a_header_name_that_the_client_itself_cannot_read_is_a_letter_and_nothing_around_it_is_lost(
    stage: Stage,
) -> None:
    stage.create(partitions=2)
    stage.publish(reads(0, 30))
    stage.publish_unreadable(partition=1)
    stage.publish(reads(30, 30))
    stage.workers.start()
    sums = stage.until(61)
    assert (sums["completed"], sums["undecodable"], sums["duplicates"]) == (60, 1, 0)
    (letter,) = stage.until_told(stage.topics.letters, 1)
    assert letter["data"]["failure"]["class"] == "decode.envelope"
    assert letter["data"]["source"]["offset_or_id"].startswith("1:")
    stage.publish(reads(60, 10))
    assert stage.until(71)["completed"] == 70


def test_a_duplicate_whose_answer_only_an_absent_journal_has_waits_aside_and_is_answered_later(stage: Stage) -> None:
    stage.create(partitions=1)
    stage.workers.start()
    stage.publish(reads(0, 1))
    stage.until(1)
    (first,) = stage.until_told(stage.topics.results, 1)
    stage.books.delete(stage.shard.answer(first["data"]["call"]))
    stage.publish([*reads(0, 1), *reads(1, 5)])
    assert stage.until(6)["completed"] == 6
    until(lambda: stage.books.hlen(stage.shard.key("aside")) == 1)
    stage.workers.start_role("journal")
    sums = stage.until(7)
    assert (sums["completed"], sums["duplicates"]) == (6, 1)
    until(lambda: [event["id"] for event in stage.read(stage.topics.results)].count(first["id"]) == 2)
    assert stage.books.hlen(stage.shard.key("aside")) == 0
    assert stage.vendor.counts().arrivals == 6

"""The Redis bus under faults: nothing stranded, nothing lost, no spin."""

import os
import signal
import time
from typing import Any

import pytest
from redis import Redis

from tests.demo import ledger
from tests.faults.conftest import Workers, until_quiet
from tests.faults.deadly import POISON
from tests.faults.test_kill_points import body
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults


def reads(start: int, count: int) -> list[bytes]:
    return [body(f"r{number}", "contacts.get", {"id": f"c{number}"}) for number in range(start, start + count)]


def publish(redis: "Redis", bodies: list[bytes]) -> None:
    for raw in bodies:
        redis.xadd("tool-calls", {"data": raw})


def test_events_published_before_the_first_start_are_read(workers: Workers, books: "Redis") -> None:
    publish(books, reads(0, 20))
    workers.start()
    assert until_quiet(books, 20)["completed"] == 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_in_the_middle_of_a_stream_strands_nothing(
    number: signal.Signals, workers: Workers, books: "Redis"
) -> None:
    for round_ in range(3):
        worker = workers.start()
        publish(books, reads(round_ * 100, 50))
        give_up = time.monotonic() + 10
        while ledger.sums(books)["received"] < round_ * 100 + 10 and time.monotonic() < give_up:
            time.sleep(0.005)
        worker.send_signal(number)
        publish(books, reads(round_ * 100 + 50, 50))
        worker.wait(15)
        if number is signal.SIGTERM:
            assert worker.returncode == 0
    workers.start()
    sums = until_quiet(books, 300)
    assert (sums["received"], sums["completed"]) == (300, 300)
    assert books.xpending("tool-calls", "sluice")["pending"] == 0


def test_an_event_that_kills_its_reader_is_dead_lettered_undecoded_and_the_others_go_on(
    workers: Workers, books: "Redis"
) -> None:
    publish(books, [*reads(0, 10), POISON, *reads(10, 10)])
    deaths = 0
    for _ in range(8):
        worker = workers.start("poison")
        give_up = time.monotonic() + 8
        while worker.poll() is None and ledger.sums(books)["received"] < 21 and time.monotonic() < give_up:
            time.sleep(0.02)
        if worker.poll() is None:
            break
        deaths += 1
    sums = until_quiet(books, 21)
    (letter,) = ledger.letters(books)
    assert (sums["completed"], sums["undecodable"]) == (20, 1)
    assert letter["data"]["failure"]["class"] == "poison.crash_loop"
    assert letter["data"]["raw"]["bytes"]["size"] == len(POISON)
    assert 2 <= deaths <= 4


def test_a_bad_body_leaves_a_letter_and_does_not_stop_the_batch(workers: Workers, books: "Redis") -> None:
    publish(books, [*reads(0, 5), b"\xff\xfe", b"{", *reads(5, 5)])
    books.xadd("tool-calls", {"something": "else"})
    workers.start()
    sums = until_quiet(books, 13)
    assert (sums["completed"], sums["undecodable"]) == (10, 3)
    assert {letter["data"]["failure"]["class"] for letter in ledger.letters(books)} == {
        "decode.encoding",
        "decode.json",
        "decode.envelope",
    }


def test_after_a_flush_the_group_is_made_again_the_loss_is_alerted_and_later_events_are_processed(
    workers: Workers, books: "Redis"
) -> None:
    worker = workers.start()
    publish(books, reads(0, 5))
    until_quiet(books, 5)
    time.sleep(0.5)
    books.flushall()
    time.sleep(1.5)
    publish(books, reads(100, 5))
    assert until_quiet(books, 5)["completed"] == 5
    assert worker.poll() is None
    assert [alert["type"] for alert in ledger.read(books, "gateway-alerts")] == ["gateway.epoch_lost"]


def test_an_idle_worker_does_not_spin(workers: Workers, books: "Redis") -> None:
    worker = workers.start()
    publish(books, reads(0, 1))
    until_quiet(books, 1)
    time.sleep(1)
    before = _cpu_s(worker.pid), _asked(books)
    time.sleep(2)
    after = _cpu_s(worker.pid), _asked(books)
    assert after[0] - before[0] < 0.3
    # Two seconds of leases looked after ten times each, twice, and a look at the state five times.
    assert after[1] - before[1] < 100


def test_a_stalled_worker_that_wakes_up_again_repeats_nothing(
    workers: Workers, vendor: VendorProcess, books: "Redis"
) -> None:
    worker = workers.start()
    messages = [body(f"u{n}", "messages.send", {"ref": f"u{n}", "text": "x"}) for n in range(40)]
    publish(books, messages)
    give_up = time.monotonic() + 10
    while ledger.sums(books)["completed"] < 5 and time.monotonic() < give_up:
        time.sleep(0.002)
    os.kill(worker.pid, signal.SIGSTOP)
    workers.start()
    time.sleep(4)
    os.kill(worker.pid, signal.SIGCONT)
    sums = until_quiet(books, 40)
    counts = vendor.counts()
    assert sums.accepted_is_explained
    assert counts.repeated_refs == []
    assert ledger.effects_agree(ledger.results(books), counts, "crm.messages.send", "messages.send")


def test_a_redis_that_stalls_for_longer_than_a_lease_takes_no_call_from_a_live_worker(
    workers: Workers, vendor: VendorProcess, books: "Redis"
) -> None:
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.8, forever=True))
    workers.start()
    publish(books, reads(0, 1))
    until_quiet(books, 1)
    publish(books, [body(f"u{n}", "messages.send", {"ref": f"u{n}", "text": "x"}) for n in range(8)])
    vendor.until(arrivals=9)
    pid = books.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(pid, signal.SIGCONT)
    sums = until_quiet(books, 9)
    assert (sums["completed"], sums["escalated"], vendor.counts().arrivals) == (9, 0, 9)


def _asked(redis: "Redis") -> int:
    """Count scripts and reads; what scripts do inside counts on its own."""
    told: Any = redis.info("commandstats")
    return sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "xreadgroup", "xautoclaim"))


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123 - a kernel file
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

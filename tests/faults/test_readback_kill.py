"""Workers die while they read back: whatever was seen or lost, by the vendor's count nothing runs twice and nothing is left undone."""

import json

import pytest
from redis import Redis

from tests.demo import ledger
from tests.faults.conftest import Workers, until_quiet
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

EACH = 5
POINTS = (("after mark", "3"), ("after send", "12"), ("before settle", "4"), ("before send", "3"))
"""Where each victim in turn is killed, in an attempt or in a look; five would bury the call that they have in common."""


def order(identity: str) -> bytes:
    head = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/t", "id": identity}
    data = {"tool": "crm.orders.create", "arguments": {"ref": identity, "item": "i"}}
    return json.dumps({**head, "data": data}).encode()


def test_workers_killed_while_they_read_back_repeat_nothing_and_leave_nothing_undone(
    workers: Workers, vendor: VendorProcess, books: "Redis"
) -> None:
    ran = [
        Behaviour(do=Kind.RESET, executes=True, seconds=0.03, match=f"ran{number}", forever=True)
        for number in range(EACH)
    ]
    lost = [Behaviour(do=Kind.RESET, executes=False, seconds=0.03, match=f"lost{number}") for number in range(EACH)]
    vendor.script("orders.create", *ran, *lost)
    # Of the looks every fourth is lost too; they take long enough to be killed in the middle.
    shaky = Behaviour(do=Kind.RESET, executes=False, probability=0.25, seed=7, forever=True)
    vendor.script("orders.list", shaky, Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    file = workers.folder / "connectors.d" / "crm.yaml"
    patient = "retry: {max_attempts: 5}, breaker: {min_calls: 10000, consecutive: 10000}}"
    file.write_text(file.read_text().replace("retry: {max_attempts: 5}}", patient))
    for number in range(EACH):
        books.xadd("tool-calls", {"data": order(f"ran{number}")})
        books.xadd("tool-calls", {"data": order(f"lost{number}")})
    for point, nth in POINTS:
        deadly = workers.start(point, nth)
        assert deadly.wait(30) == -9, (point, workers.log[-2000:])
    workers.start()
    sums = until_quiet(books, 2 * EACH, timeout_s=40)
    assert sums.received_is_explained, sums
    assert sums.accepted_is_explained, sums
    counts, ended = vendor.counts(), ledger.results(books)
    assert counts.repeated_refs == counts.repeated_effects == []
    assert ledger.effects_agree(ended, counts, "crm.orders.create", "orders.create"), counts.effects
    states = {event["data"]["request"]["id"]: event["data"]["state"] for event in ended}
    assert set(states.values()) == {"completed"}, [event["data"]["error"] for event in ended]
    assert counts.effects_by_ref["orders.create"] == dict.fromkeys(states, 1)
    assert len(states) == 2 * EACH
    assert counts.by_operation["orders.create"] <= 2 * EACH + EACH + len(POINTS) * 8
    assert books.hlen("{s0}:held") == books.hlen("{s0}:runs") == 0

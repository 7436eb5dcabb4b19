"""SIGKILL of the worker at each step of a call, under load: nothing is lost, nothing is run twice, no effect is misreported."""

import json
from collections import Counter
from typing import Any

import pytest
from redis import Redis

from tests.demo import ledger
from tests.faults.conftest import Workers, until_quiet
from tests.faults.deadly import POINTS
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

EACH = 12
"""Calls of each operation class."""


def body(identity: str, tool: str, arguments: dict[str, Any]) -> bytes:
    event = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/t", "id": identity}
    return json.dumps({**event, "data": {"tool": f"crm.{tool}", "arguments": arguments}}).encode()


def load() -> list[bytes]:
    """Calls of three classes in turn, each kind of refusal, and a duplicate of the first call."""
    bodies = []
    for number in range(EACH):
        bodies += [
            body(f"k{number}", "contacts.create", {"email": f"k{number}@example.com"}),
            body(f"s{number}", "contacts.get", {"id": f"c{number}"}),
            body(f"u{number}", "messages.send", {"ref": f"u{number}", "text": "hi"}),
        ]
        if number % 3 == 0:
            bodies += [
                b"{broken",
                body(f"w{number}", "contacts.create", {}),
                body("k0", "contacts.create", {"email": "k0@example.com"}),
            ]
    return bodies


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_step_loses_nothing_and_repeats_nothing(
    point: str, workers: Workers, vendor: VendorProcess, books: "Redis"
) -> None:
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    bodies = load()
    for raw in bodies:
        books.xadd("tool-calls", {"data": raw})
    deadly = workers.start(point, "2")
    assert deadly.wait(20) == -9, workers.log
    workers.start()
    sums = until_quiet(books, len(bodies))
    counts, ended = vendor.counts(), ledger.results(books)
    assert sums["received"] == len(bodies)
    assert sums.received_is_explained, sums
    assert sums.accepted_is_explained, sums
    assert counts.repeated_effects == counts.repeated_refs == []
    for tool in ("contacts.create", "messages.send"):
        assert ledger.effects_agree(ended, counts, f"crm.{tool}", tool), (tool, counts.effects)
    states = Counter((event["data"]["tool"], event["data"]["state"]) for event in ended)
    assert states["crm.contacts.create", "completed"] == EACH
    assert states["crm.contacts.get", "completed"] == EACH
    assert states["crm.messages.send", "completed"] + states["crm.messages.send", "escalated"] == EACH
    assert len(ledger.letters(books)) == sums["undecodable"] + sums["escalated"]
    assert books.xpending("tool-calls", "sluice")["pending"] == 0


def test_workers_killed_again_and_again_under_load_still_end_every_call(
    workers: Workers, vendor: VendorProcess, books: "Redis"
) -> None:
    vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.02, forever=True))
    bodies = load() * 4
    unique = len(load())
    for round_, raw in enumerate(bodies):
        books.xadd("tool-calls", {"data": raw})
        if round_ % unique == unique - 1:
            victim = workers.start("after send", "6")
            victim.wait(20)
    workers.start()
    workers.start()
    sums = until_quiet(books, len(bodies), timeout_s=40)
    counts, ended = vendor.counts(), ledger.results(books)
    assert sums.received_is_explained, sums
    assert sums.accepted_is_explained, sums
    assert counts.repeated_effects == counts.repeated_refs == []
    for tool in ("contacts.create", "messages.send"):
        assert ledger.effects_agree(ended, counts, f"crm.{tool}", tool), (tool, counts.effects)

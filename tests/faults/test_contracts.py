"""SIGKILL between an answer that breaks its contract and what follows from it: the finding is told, and nothing runs twice."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from tests.demo import ledger
from tests.faults.conftest import Workers, until_quiet
from tests.faults.deadly import RARE
from tests.faults.test_kill_points import body
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults


def told(books: Any, topic: str) -> list[str]:
    events = [json.loads(entry[b"data"]) for _, entry in books.xrange(topic)]
    return [one["data"]["pointer"] for one in events if one["type"] == "contract.finding"]


@pytest.mark.parametrize("point", [f"{when} {step}" for step in RARE for when in ("before", "after")])
def test_a_worker_killed_between_an_answer_and_its_finding_leaves_both_behind(
    point: str, workers: Workers, vendor: VendorProcess, books: "Redis"
) -> None:
    crm = workers.folder / "connectors.d/crm.yaml"
    text = crm.read_text(encoding="utf-8")
    policy = "defaults: {contract: {on_breaking: quarantine_writes}, "
    crm.write_text(text.replace("defaults: {", policy, 1), encoding="utf-8")
    vendor.script("contacts.create", Behaviour(do=Kind.STATUS, status=201, body={"id": 7}, executes=True, forever=True))
    books.xadd("tool-calls", {"data": body("k1", "contacts.create", {"email": "k1@example.com"})})
    assert workers.start(point, "1").wait(20) == -9, workers.log
    workers.start()
    held = point == "after hold"
    # Its own answer is lost: the repeat is a write like any other, and waits for whoever judges.
    ended = ledger.sums(books) if held else until_quiet(books, 1)
    assert told(books, "tool-events") == told(books, "gateway-alerts") == ["/id"]
    until(lambda: books.hkeys("{s0}:gates") == [b"@crm||contacts.create"])
    if held:
        until(lambda: books.zcard("{s0}:lane:crm|-|contacts.create") == 1)
        assert (ended.live, vendor.counts().by_operation["contacts.create"]) == (1, 1)
        return
    (result,) = ledger.results(books)
    assert (result["data"]["state"], result["data"]["effect"]) == ("completed", "executed")
    assert result["data"]["contract"] == "breaking:text_as_number /id"
    counts = vendor.counts()
    assert counts.by_operation["contacts.create"] == 2
    assert counts.repeated_effects == counts.repeated_refs == []


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)

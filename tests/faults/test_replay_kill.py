"""A replay whose workers, and with them its runner, are killed again and again: by the vendor's count nothing runs twice."""

import http.client
import json
import time
from collections import Counter
from typing import Any

import pytest
from redis import Redis

from tests.demo import ledger
from tests.faults.conftest import Workers, free_port, until_quiet
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

EACH = 10
POINTS = ("after replay", "after send", "before replay", "before settle", "before send", "after claim")
"""Where each victim in turn is killed, the third time it gets there; who starts a letter's call is the runner."""
FOREVER: dict[str, Any] = {"forever": True}
LOST = Behaviour(do=Kind.RESET, executes=True, **FOREVER)
CHANGED = Behaviour(do=Kind.STATUS, status=201, executes=True, body={"identifier": "c"}, **FOREVER)
REFUSED = Behaviour(do=Kind.STATUS, status=422, **FOREVER)


def event(identity: str, tool: str, arguments: dict[str, Any]) -> bytes:
    head = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/t", "id": identity}
    return json.dumps({**head, "data": {"tool": f"crm.{tool}", "arguments": arguments}}).encode()


def ask(port: int, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return answer


def letters_of_every_kind(books: "Redis", vendor: VendorProcess) -> int:
    """Make calls that end in letters: not executed, executed, and unknown of every class; return how many."""
    vendor.script("contacts.create", LOST)
    vendor.script("contacts.update", LOST)
    vendor.script("messages.send", *(_for(LOST, "lost"), _for(REFUSED, "no")))
    vendor.script("orders.create", *(_for(LOST, "lost"), _for(REFUSED, "no")))
    sent = 0
    for number in range(EACH):
        for tool, arguments in (
            ("contacts.create", {"email": f"lost{number}@b.c"}),
            ("contacts.update", {"id": f"c{number}", "email": f"u{number}@b.c"}),
            ("messages.send", {"ref": f"lost{number}", "text": "hi"}),
            ("messages.send", {"ref": f"no{number}", "text": "hi"}),
            ("orders.create", {"ref": f"no{number}", "item": "i"}),
        ):
            books.xadd("tool-calls", {"data": event(f"{tool}{sent}", tool, arguments)})
            sent += 1
    return sent


def _for(behaviour: Behaviour, match: str) -> Behaviour:
    return Behaviour(
        do=behaviour.do,
        status=behaviour.status,
        executes=behaviour.executes,
        body=behaviour.body,
        match=match,
        forever=True,
    )


def executed(books: "Redis", vendor: VendorProcess, sent: int) -> int:
    """Make calls that ran, and whose answer breaks the contract."""
    vendor.script("contacts.create", CHANGED)
    for number in range(EACH):
        books.xadd("tool-calls", {"data": event(f"ran{number}", "contacts.create", {"email": f"ran{number}@b.c"})})
    return sent + EACH


def once_only(workers: Workers) -> None:
    """Let every call try once, and let no breaker keep what is to be counted back."""
    file = workers.folder / "connectors.d" / "crm.yaml"
    text = file.read_text().replace(
        "retry: {max_attempts: 5}}",
        "retry: {max_attempts: 1}, breaker: {min_calls: 10000, consecutive: 10000}}",
    )
    file.write_text(text)


@pytest.fixture
def port(workers: Workers) -> int:
    once_only(workers)
    workers.environment["SLUICE_PORT"] = str(free_port())
    workers.start_api()
    return int(workers.environment["SLUICE_PORT"])


def test_a_replay_under_sigkill_sends_each_letter_once(
    workers: Workers, vendor: VendorProcess, books: "Redis", port: int
) -> None:
    first = workers.start()
    sent = letters_of_every_kind(books, vendor)
    until_quiet(books, sent)
    sent = executed(books, vendor, sent)
    until_quiet(books, sent)
    made = len(ledger.letters(books))
    assert made == sent, Counter(one["data"]["failure"]["class"] for one in ledger.letters(books))
    vendor.script("*")
    for operation in ("contacts.create", "contacts.update", "messages.send", "orders.create"):
        vendor.script(operation, Behaviour(do=Kind.DELAY, seconds=0.15, forever=True))
    before = vendor.counts()
    plans = [ask(port, "POST", "/v1/replays", {"filter": {}, "stop_after": 100, "share": 1.0}) for _ in range(2)]
    assert (plans[0]["total"], plans[0]["revalidations"], plans[0]["excluded"]) == (made, EACH, EACH)
    first.kill()
    for point in POINTS:
        deadly = workers.start(point, "3")
        assert deadly.wait(20) == -9, (point, workers.log[-2000:])
    workers.start()
    over = [finished(port, one["replay"], workers) for one in plans]
    until_quiet(books, sent)
    counts = vendor.counts()
    assert counts.repeated_effects == counts.repeated_refs == [], (counts.repeated_effects, counts.repeated_refs)
    ran = {arrival.key for arrival in vendor.arrivals("contacts.create")}
    assert len(ran) == 2 * EACH  # those that ran have the same key as ever, and were not called again
    assert counts.by_operation["contacts.create"] - before.by_operation["contacts.create"] >= EACH
    settled(over, books)
    sums = ledger.sums(books)
    assert sums.received_is_explained, sums
    assert sums.accepted_is_explained, sums


def settled(over: list[dict[str, Any]], books: "Redis") -> None:
    """Every letter that a replay took is over, or has a successor that is open and waits for a person."""
    assert [one["state"] for one in over] == ["done", "done"], over
    assert sum(one["progress"]["replaying"] + one["progress"]["waiting"] for one in over) == 0
    taken = sum(one["progress"]["replayed_ok"] + one["progress"]["replayed_failed"] for one in over)
    assert taken == 5 * EACH, over
    failed = sum(one["progress"]["replayed_failed"] for one in over)
    kept = books.hlen("{s0}:letters")
    assert kept == EACH + failed


def finished(port: int, replay: str, workers: Workers, *, within_s: float = 40.0) -> dict[str, Any]:
    give_up = time.monotonic() + within_s
    while True:
        found: dict[str, Any] = ask(port, "GET", f"/v1/replays/{replay}")
        if found["state"] != "running":
            return found
        assert time.monotonic() < give_up, (found["progress"], workers.log[-2000:])
        time.sleep(0.1)

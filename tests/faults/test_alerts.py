"""The one that sends alerts is killed again and again: each alert arrives at least once, always under the same id, and is opened once."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from redis import Redis

from schemas.topics import Shard
from tests.demo import ledger
from tests.faults.conftest import Workers, until_quiet
from tests.receiver import SECRET, Receiver, receiving
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.faults

SHARD = Shard()
GONE = Behaviour(do=Kind.STATUS, status=404, forever=True)


def settings(receiver: Receiver) -> dict[str, str]:
    return {
        "SLUICE_ALERT_WEBHOOK": receiver.url,
        "SLUICE_ALERT_WEBHOOK_SECRET": SECRET,
        "SLUICE_ALERT_WEBHOOK_PRIVATE": "true",
        "SLUICE_ALERT_EVERY": "0.1",
    }


def kill_who_sends(books: "Redis", name: str = "webhook") -> str:
    """Kill -9 whoever has the turn; its process id is in its name."""
    if holder := holder_of(books, name):
        os.kill(int(holder.split("-")[-2]), signal.SIGKILL)
    return holder


def holder_of(books: "Redis", name: str) -> str:
    found: Any = books.get(SHARD.key(f"turn:{name}"))
    holder: str = (found or b"").decode()
    return holder


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 25
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def publish(books: "Redis", first: int, count: int) -> list[str]:
    ids = [f"n{number}.opened" for number in range(first, first + count)]
    for one in ids:
        event = {"type": "alert.opened", "id": one, "time": "2026-11-20T09:00:00Z", "data": {"alert": one}}
        books.xadd("gateway-alerts", {"data": json.dumps(event)})
    return ids


def test_a_sender_that_is_killed_with_a_message_in_its_hands(
    workers: Workers, books: "Redis", vendor: VendorProcess
) -> None:
    with receiving() as receiver:
        killed: list[str] = []
        due = {4, 9, 15}

        def heard() -> None:
            # The receiver has the message, the sender not yet its answer.
            if len(receiver.arrived) in due:
                due.discard(len(receiver.arrived))
                killed.append(kill_who_sends(books))
                workers.start()

        receiver.heard = heard
        workers.environment |= settings(receiver)
        workers.start()
        workers.start()
        ids = publish(books, 0, 20)
        receiver.until(lambda: set(ids) <= {one["id"] for one in receiver.taken}, 40)
        assert len([one for one in killed if one]) == 3, killed
        order = [one["id"] for one in receiver.arrived]
        assert sorted(set(order)) == sorted(ids)
        assert list(dict.fromkeys(order)) == ids
        again = [one for one, count in Counter(order).items() if count > 1]
        assert 1 <= len(again) <= 3, again  # a message that was in somebody's hands arrives again, and no other
        assert len({one["body"] for one in receiver.arrived}) == 20
        time.sleep(0.5)
        assert len(receiver.arrived) == len(order)
        assert "token=also" not in workers.log
        assert SECRET.removeprefix("whsec_") not in workers.log


def test_watchers_that_are_killed_under_way_open_one_alert_and_count_every_call_once(
    workers: Workers, books: "Redis", vendor: VendorProcess
) -> None:
    calls, killed = 60, list[str]()
    with receiving() as receiver:
        workers.environment |= settings(receiver)
        vendor.script("contacts.get", GONE)
        for _ in range(3):
            workers.start()
        for number in range(calls):
            data: dict[str, Any] = {"tool": "crm.contacts.get", "arguments": {"id": f"c{number}"}}
            event = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/t", "id": f"e-{number}"}
            books.xadd("tool-calls", {"data": json.dumps({**event, "data": data})})
            if number in {15, 30, 45}:
                wait_for(lambda: holder_of(books, "alerts") not in {"", *killed})
                killed.append(kill_who_sends(books, "alerts"))
                workers.start()
        until_quiet(books, calls)
        receiver.until(lambda: receiver.taken, 20)
        wait_for(lambda: record(books).get("count") == calls)
        time.sleep(0.5)
        told = [one["data"] for one in ledger.read(books, "gateway-alerts") if one["type"].startswith("alert.")]
        assert [one["kind"] for one in told] == ["failure.similar"], told
        assert {one["data"]["alert"] for one in receiver.taken} == {told[0]["alert"]}
        assert record(books)["count"] == calls
        assert len(set(killed)) == 3, killed
    vendor.reset()


def record(books: "Redis") -> dict[str, Any]:
    """Return the one alert that is open, as it stands."""
    found: dict[Any, bytes] = books.hgetall(SHARD.key("alerts"))  # type: ignore[assignment]
    standing: list[dict[str, Any]] = [msgspec.msgpack.decode(one) for one in found.values()]
    return next((one for one in standing if one["state"] == "open"), {})

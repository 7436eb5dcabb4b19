"""Real workers on tokens that end all the time: one request for each rotation, no attempt lost, and death in the middle of a refresh.

`SLUICE_TEST_TOKENS_S=60` makes the long run.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from redis import Redis

from tests.authorized import SECRETS, declared
from tests.demo import ledger
from tests.faults.conftest import Workers, free_port, until_quiet
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind, Point
from tests.vendor.tokens import DeskCounts, DeskRequest

pytestmark = pytest.mark.faults

SECONDS = float(os.environ.get("SLUICE_TEST_TOKENS_S", "12"))
PER_S = 40


class Traffic:
    """Workers, a vendor whose tokens end soon, and calls by the bus."""

    def __init__(self, workers: Workers, vendor: VendorProcess, books: "Redis") -> None:
        self.workers, self.vendor, self.books = workers, vendor, books
        self.published = 0

    def open(self, rotation: Any) -> None:
        """Let the vendor issue tokens of three seconds, and declare a connection that needs them."""
        desk = DeskRequest(
            lifetime=3.0,
            rotation=rotation,
            client_id=SECRETS["client_id"],
            client_secret=SECRETS["client_secret"],
            refresh_token=SECRETS["refresh_token"],
        )
        self.vendor.desk(desk)
        self.vendor.auth("oauth2")
        text = declared(self.vendor.url, self.workers.folder, rotation=rotation)
        (self.workers.folder / "connectors.d" / "crm.yaml").write_text(text, encoding="utf-8")

    def publish(self, calls: int) -> None:
        for _ in range(calls):
            data = {"tool": "crm.contacts.create", "arguments": {"email": f"k{self.published}@example.com"}}
            event = {
                "specversion": "1.0",
                "type": "tool.call.requested",
                "source": "agent/t",
                "id": f"{self.published}",
            }
            self.books.xadd("tool-calls", {"data": json.dumps({**event, "data": data})})
            self.published += 1

    def told(self, kind: str, topic: str = "tool-events") -> list[dict[str, Any]]:
        return [event["data"] for event in ledger.read(self.books, topic) if event["type"] == kind]

    def until(self, holds: Callable[[], Any], what: str, timeout_s: float = 20.0) -> None:
        give_up = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < give_up, f"no {what}: {ledger.sums(self.books)}\n{self.workers.log[-3000:]}"
            time.sleep(0.02)

    @property
    def version(self) -> int:
        books: Any = self.books
        return int(books.hget("{s0}:token:crm|main", "version") or 0)

    def all_done_once(self) -> DeskCounts:
        """Every call has completed, on its only attempt, and the vendor did it once."""
        until_quiet(self.books, self.published, timeout_s=40)
        ended, counts = ledger.results(self.books), self.vendor.counts()
        assert {event["data"]["state"] for event in ended} == {"completed"}
        assert len(ended) == self.published
        assert (counts.effects_total, counts.repeated_effects) == (self.published, [])
        assert ledger.letters(self.books) == []
        return self.vendor.desk_counts()


@pytest.fixture
def traffic(workers: Workers, vendor: VendorProcess, books: "Redis") -> Iterator[Traffic]:
    yield Traffic(workers, vendor, books)
    vendor.reset()


@pytest.mark.timeout(180)
def test_four_workers_ask_once_for_each_rotation_and_no_call_pays_for_it(traffic: Traffic) -> None:
    """At half time the vendor ends the access token early, which costs one refresh and no attempt."""
    traffic.open("strict")
    for _ in range(4):
        traffic.workers.start()
    traffic.publish(1)
    traffic.until(lambda: traffic.version == 1, "token")
    began = time.monotonic()
    slices = int(SECONDS * 10)
    for number in range(slices):
        traffic.publish(PER_S // 10)
        if number == slices // 2:
            before = traffic.vendor.counts(names=False)
            assert before.statuses.get("401", 0) == 0, "a token was used beyond its end"
            traffic.vendor.expire()
        time.sleep(max(0.0, began + (number + 1) / 10 - time.monotonic()))
    desk, took_s = traffic.all_done_once(), time.monotonic() - began
    print(desk.granted, traffic.vendor.counts(names=False).statuses, f"{took_s:.1f} s")
    assert desk.requests == desk.granted["refresh_token"] == traffic.version
    assert (desk.reuses, desk.repeats, desk.alive) == (0, 0, True)
    # Renewed after 2.25 s, give or take a fifth of the rest; and once in between because the vendor wanted it.
    assert SECONDS / 3 <= traffic.version <= took_s / 2 + 2
    moves = traffic.told("token.changed")
    assert sum(move["to"] == "active" for move in moves) == traffic.version
    assert {move["to"] for move in moves} == {"refreshing", "active"}
    lines = [json.loads(line) for line in traffic.workers.log.splitlines() if '"token.changed"' in line]
    assert [
        (one["before"], one["state"], one["version"]) for one in sorted(lines, key=lambda one: one["timestamp"])
    ] == [(move["from"], move["to"], move["version"]) for move in moves]


POINTS = {"before refresh": False, "asked": True, "after refresh": True}
"""Where a worker dies, and whether the vendor has replaced the refresh token by then."""


@pytest.mark.parametrize(
    ("rotation", "point"),
    [("strict", "before refresh"), ("strict", "asked"), ("strict", "after refresh"), ("grace", "asked")],
)
def test_a_worker_that_is_killed_in_the_middle_of_a_refresh(traffic: Traffic, rotation: str, point: str) -> None:
    traffic.open(rotation)
    if point == "asked":
        traffic.vendor.script("token", Behaviour(do=Kind.HOLD, point=Point.AFTER))
    doomed = traffic.workers.start(*(["hasty"] if point == "asked" else [point, "1"]))
    traffic.publish(20)
    if point == "asked":
        traffic.vendor.until(held=1)
        doomed.kill()
    assert doomed.wait(20) == -signal.SIGKILL
    traffic.vendor.release()
    traffic.workers.start()
    lost = rotation == "strict" and POINTS[point]
    if lost:
        traffic.until(lambda: traffic.told("token.needs_consent", "gateway-alerts"), "alert")
        time.sleep(1.0)
        assert traffic.vendor.desk_counts().requests == 2, "the old refresh token is tried once"
        assert traffic.vendor.counts().effects_total == 0
        consent(traffic)
    desk = traffic.all_done_once()
    assert (desk.reuses, desk.alive) == (int(lost), True)
    assert len(traffic.told("token.needs_consent", "gateway-alerts")) == int(lost)
    moves = [(move["from"], move["to"]) for move in traffic.told("token.changed")]
    assert moves[:2] == [("active", "refreshing"), ("refreshing", "in_doubt")]


def consent(traffic: Traffic) -> None:
    """Do what the alert says, over HTTP."""
    port = free_port()
    traffic.workers.environment["SLUICE_PORT"] = str(port)
    traffic.workers.start_api()
    traffic.vendor.consent("canary-refresh-1")
    place = f"http://127.0.0.1:{port}/v1/connections/crm/main/set"
    answer = httpx2.post(place, json={"refresh_token": "canary-refresh-1"}, timeout=20, trust_env=False)
    assert answer.json()["worked"], answer.text

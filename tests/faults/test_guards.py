"""Every switch of the vendor is thrown while 300 calls are under way by the bus: outage, slowness, expiry, revocation, drift.

By the vendor's counts every call ends right, nothing is done twice, and no secret stands anywhere in clear.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis

from tests.demo import ledger
from tests.faults.conftest import Workers, free_port, until_quiet
from tests.vendor.client import ROOT, VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind
from tests.vendor.tokens import DeskRequest

pytestmark = pytest.mark.faults

EACH = 100
"""Calls of each of three classes."""

SECRETS = ("canary-client-secret-7f3a", "canary-refresh-first-91bc", "canary-refresh-second-e04d")
DECLARED = """
---
apiVersion: sluice/v1
kind: Connection
metadata: {name: main, connector: crm}
secrets: {client_id: "${file:%s/id}", client_secret: "${file:%s/secret}", refresh_token: "${file:%s/refresh}"}
"""
OAUTH2 = "{type: oauth2, grant: refresh_token, token_url: /oauth/token, rotation: strict}"
TIGHT = "breaker: {window: 5s, min_calls: 5, consecutive: 5, slow: {over: 300ms, rate: 80%}, open: 500ms}"
OUTAGE = Behaviour(do=Kind.STATUS, status=503, forever=True)
SLOW = Behaviour(do=Kind.DELAY, seconds=0.5, forever=True)
DRIFT = Behaviour(do=Kind.STATUS, status=200, body={"id": 7, "email": "x@example.com"}, forever=True)


class Scene:
    """A vendor with tokens of three seconds, two workers, an API, and 300 calls on the bus."""

    def __init__(self, workers: Workers, vendor: VendorProcess, books: "Redis") -> None:
        self.workers, self.vendor, self.books = workers, vendor, books
        vendor.desk(DeskRequest(lifetime=3.0, rotation="strict", client_secret=SECRETS[0], refresh_token=SECRETS[1]))
        vendor.auth("oauth2")
        self._declare()
        self.port = free_port()
        workers.environment |= {
            "SLUICE_PORT": str(self.port),
            "SLUICE_CALL_DEADLINE": "120",
            "SLUICE_ALERT_SETTLE": "1",
        }
        workers.start()
        workers.start()
        workers.start_role("journal")
        workers.start_api()

    def _declare(self) -> None:
        secrets = self.workers.folder / "secrets"
        secrets.mkdir()
        for name, text in (("id", "client"), ("secret", SECRETS[0]), ("refresh", SECRETS[1])):
            (secrets / name).write_text(text)
        text = manifest(self.vendor.url, auth=OAUTH2)
        text = text.replace("retry: {max_attempts: 5}}", f"retry: {{max_attempts: 5}}, {TIGHT}, limits: {{core: 1}}}}")
        text = text.replace("operations:\n", "limits:\n  core: {rate: 40/s}\noperations:\n", 1)
        (self.workers.folder / "connectors.d" / "crm.yaml").write_text(text + DECLARED % ((secrets,) * 3))

    def publish(self) -> None:
        for number in range(EACH):
            for tool, arguments in (
                ("contacts.create", {"email": f"k{number}@example.com"}),
                ("contacts.get", {"id": f"c{number}"}),
                ("messages.send", {"ref": f"u{number}", "text": "hi"}),
            ):
                data = {"tool": f"crm.{tool}", "arguments": arguments}
                event = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/t"}
                body = {**event, "id": f"{tool}-{number}", "data": data}
                self.books.xadd("tool-calls", {"data": json.dumps(body)})

    def ended(self, calls: int) -> None:
        """Wait until so many calls have ended."""
        self.until(lambda: self.books.xlen("tool-results") >= calls, f"{calls} ends")

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 30) -> None:
        give_up = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < give_up, f"no {what}: {ledger.sums(self.books)}\n{self.workers.log[-3000:]}"
            time.sleep(0.02)

    def told(self, kind: str, topic: str = "tool-events") -> list[dict[str, Any]]:
        return [event["data"] for event in ledger.read(self.books, topic) if event["type"] == kind]

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", timeout=10, trust_env=False)

    def command(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *words],
            cwd=ROOT,
            env={**self.workers.environment, "SLUICE_URL": f"http://127.0.0.1:{self.port}"},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def scene(workers: Workers, vendor: VendorProcess, books: "Redis") -> Iterator[Scene]:
    vendor.script("*")
    yield Scene(workers, vendor, books)
    vendor.reset()


def throw_the_switches(scene: Scene) -> None:
    """One after the other, each until the gateway has said what it made of it."""
    vendor = scene.vendor
    scene.ended(30)
    vendor.script("*", OUTAGE)
    scene.until(lambda: any(one["state"] == "open" for one in scene.told("breaker.changed")), "open breaker")
    time.sleep(1.5)  # probes fail, and the open time grows
    vendor.script("*")
    scene.until(lambda: any(one["state"] == "closed" for one in scene.told("breaker.changed")), "closed breaker")
    scene.ended(80)
    vendor.script("*", SLOW)
    opened = len(scene.told("breaker.changed"))
    scene.until(lambda: len(scene.told("breaker.changed")) > opened, "breaker that opens for slowness")
    vendor.script("*")
    scene.ended(130)
    vendor.expire()
    scene.ended(160)
    vendor.script("contacts.get", DRIFT)
    scene.until(lambda: scene.told("contract.finding"), "finding")
    scene.until(lambda: len(ledger.letters(scene.books)) > 0, "letter of a changed answer")
    vendor.script("contacts.get")
    scene.ended(190)
    vendor.revoke()
    scene.until(lambda: scene.told("token.needs_consent", "gateway-alerts"), "alert that consent is needed")


def test_every_switch_at_once_and_every_call_ends_right(scene: Scene) -> None:
    scene.publish()
    throw_the_switches(scene)
    held = scene.get("/v1/lanes?held=true").json()["lanes"]
    assert {lane["hold"]["reason"] for lane in held} == {"needs_consent"}, held
    assert all("sluice connections" in lane["hold"]["action"] for lane in held)
    time.sleep(1.0)
    quiet = scene.vendor.counts(names=False).arrivals
    time.sleep(1.0)
    assert scene.vendor.counts(names=False).arrivals == quiet, "calls without a token still reach the vendor"
    scene.vendor.consent(SECRETS[2])
    ran = scene.command("connections", "set", "crm/main", stdin=SECRETS[2])
    assert ran.returncode == 0, ran.stderr
    sums = until_quiet(scene.books, 3 * EACH, timeout_s=60)
    counts, ended = scene.vendor.counts(), ledger.results(scene.books)
    assert sums.received_is_explained
    assert sums.accepted_is_explained
    assert counts.repeated_effects == counts.repeated_refs == []
    judge(scene, ended, counts)
    sweep(scene, ran.stdout + ran.stderr)


def judge(scene: Scene, ended: list[dict[str, Any]], counts: Any) -> None:
    """Hold each end against what the vendor did."""
    states = Counter((event["data"]["tool"], event["data"]["state"]) for event in ended)
    assert states["crm.contacts.create", "completed"] == EACH, states
    refused = Counter(one.status for one in scene.vendor.arrivals("messages.send"))
    # A 503 may have been done: what cannot be repeated goes to a person.
    assert states["crm.messages.send", "escalated"] == refused[503], (states, refused)
    assert states["crm.messages.send", "completed"] == EACH - refused[503]
    drifted = [event["data"] for event in ended if event["data"]["tool"] == "crm.contacts.get"]
    failed = [one for one in drifted if one["state"] == "failed"]
    assert {one["error"]["class"] for one in failed} == {"schema.breaking"}
    assert {one["contract"] for one in failed} == {"breaking:text_as_number /id"}
    assert len(failed) + sum(one["state"] == "completed" for one in drifted) == EACH
    assert len(ledger.letters(scene.books)) == len(failed) + refused[503]
    for tool in ("contacts.create", "messages.send"):
        assert ledger.effects_agree(ended, counts, f"crm.{tool}", tool)
    assert len(scene.told("token.needs_consent", "gateway-alerts")) == 1
    assert len({one["fingerprint"] for one in scene.told("contract.finding")}) == len(scene.told("contract.finding"))
    alerted = Counter((one["kind"], one["key"]) for one in scene.told("alert.opened", "gateway-alerts"))
    assert set(alerted.values()) == {1}, alerted
    assert {("token.needs_consent", "crm|main"), ("contract.breaking", "crm.contacts.get")} <= set(alerted)
    over = "alert.resolved", "gateway-alerts"
    scene.until(lambda: any(one["key"] == "crm|main" for one in scene.told(*over)), "alert that resolves", 10)
    # Neither the outage nor the credential cost an attempt of a call that had done nothing wrong: none is out of attempts.
    assert not [one for one in ended if (one["data"]["error"] or {}).get("class") == "http.401"]
    assert scene.vendor.window(1.0) <= 40 + len(scene.vendor.arrivals("token"))


def sweep(scene: Scene, said: str) -> None:
    """Search every place for every secret there ever was."""
    needles = [text.encode() for text in (*SECRETS, *scene.vendor.desk_counts().issued)]
    folder = Path(str(scene.books.config_get("dir")["dir"]))
    files = [path for top in (folder, scene.workers.folder / "data") for path in top.rglob("*") if path.is_file()]
    places: dict[str, bytes] = {str(path): path.read_bytes() for path in files}
    places["log"] = scene.workers.log.encode()
    places["metrics"] = scene.get("/metrics").content
    places["terminal"] = said.encode()
    for key in scene.books.scan_iter():
        places[f"key {key!r}"] = scene.books.dump(key) or b""
    for topic in ("tool-calls", "tool-results", "tool-events", "dead-letters", "gateway-alerts"):
        places[topic] = json.dumps(ledger.read(scene.books, topic)).encode()
    found = [(place, needle) for place, content in places.items() for needle in needles if needle in content]
    assert not found
    assert any(path.suffix == ".aof" for path in files), "the sweep did not see the append-only file"
    assert b"crm.contacts.create" in places[str(scene.workers.folder / "data" / "journal.db")] + places.get(
        str(scene.workers.folder / "data" / "journal.db-wal"), b""
    ), "the sweep did not see the journal"

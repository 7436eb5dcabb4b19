"""A running `sluice up` that two tenants share, with something of every kind that belongs to one of them.

Aurora owns the connector `aurora`; borealis owns `crm` and must never learn more of aurora than that it is not there.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.demo.ground import Ground
from tests.served import bearer, key_of
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

THEIRS, OURS, OPERATOR, VIEWER = "aurora-agent", "borealis-agent", "night-shift", "onlooker"
TESTER = "tester"
"""An agent of neither, for tests that need calls of their own."""
MARK = "cnry-aurora-7f3a91"
"""Stands in everything of aurora's that has a free text."""
SESSION, KEY = f"{MARK}-session", f"{MARK}-key"
EMAIL = f"{MARK}@example.com"
CREATE, GET, SEND = "aurora.contacts.create", "aurora.contacts.get", "aurora.messages.send"
REVIEWED = "aurora.orders.create"
PEOPLE = {THEIRS: ("Agent", 'allow: ["aurora.*"]'), OURS: ("Agent", 'allow: ["crm.*"]')}
PEOPLE[TESTER] = ("Agent", 'allow: ["bomber.*"]')
OPERATORS = {OPERATOR: "[admin]", VIEWER: "[viewer]"}
SETTINGS = {"SLUICE_ALERT_SIMILAR": "2", "SLUICE_ALERT_EVERY": "0.2", "SLUICE_BACKOFF_BASE": "0.05"}


@dataclass
class Estate:
    """The gateway, and the names of what is aurora's."""

    ground: Ground
    vendor: VendorProcess
    names: dict[str, str] = field(default_factory=dict)
    """Path parameter → the value that names something of aurora's."""

    def ask(self, who: str | None, method: str, path: str, **more: Any) -> httpx2.Response:
        """Ask as one of the people; nobody in particular with None."""
        headers = {**(bearer(who) if who else {}), **more.pop("headers", {})}
        return httpx2.request(method, self.ground.url + path, headers=headers, timeout=30, trust_env=False, **more)

    def publish(self, who: str, tool: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Publish a call and wait for its end, unless it has to wait for somebody."""
        wait = "wait=0" if tool == REVIEWED else "wait=20"
        answer = self.ask(
            who, "POST", "/v1/calls", json={"tool": tool, "arguments": arguments, **more}, headers={"Prefer": wait}
        )
        assert answer.status_code in {200, 202}, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def until(self, found: Callable[[], Any], what: str) -> Any:
        """Wait for something that comes by itself."""
        give_up = time.monotonic() + 30
        while not (one := found()):
            assert time.monotonic() < give_up, what
            time.sleep(0.05)
        return one


def manifests(url: str) -> str:
    """Declare both connectors, aurora's with a connection of its own and one tool that waits for a person."""
    theirs = manifest(url).replace("name: crm", "name: aurora")
    theirs = theirs.replace("class: verifiable", "class: verifiable\n    approval: {required: true}")
    theirs += "\n---\napiVersion: sluice/v1\nkind: Connection\nmetadata: {name: aurora-main, connector: aurora}\n"
    people = [("Agent", name, allow) for name, (_, allow) in PEOPLE.items()]
    people += [("Operator", name, f"roles: {roles}") for name, roles in OPERATORS.items()]
    for kind, name, may in people:
        variable = f"KEY_{name.upper().replace('-', '_')}"
        theirs += (
            f"\n---\napiVersion: sluice/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nkey: ${{env:{variable}}}\n{may}\n"
        )
    return f"{manifest(url)}\n---\n{theirs}"


def keys() -> dict[str, str]:
    """Return the environment that holds everybody's key."""
    return {f"KEY_{name.upper().replace('-', '_')}": key_of(name) for name in (*PEOPLE, *OPERATORS)}


@contextmanager
def estate(vendor: VendorProcess, more: str = "") -> Iterator[Estate]:
    """Start it all, with `more` manifests, and let aurora use it."""
    vendor.reset()
    with Ground(manifests(vendor.url) + more, {**SETTINGS, **keys()}) as ground:
        one = Estate(ground, vendor)
        _use(one)
        yield one


def _use(one: Estate) -> None:
    done = one.publish(THEIRS, CREATE, {"email": EMAIL, "name": MARK}, session=SESSION, idempotency_key=KEY)
    assert done["state"] == "completed", done
    one.vendor.script("*", Behaviour(do=Kind.STATUS, status=422, body={"error": MARK}, count=3))
    failed = [
        one.publish(THEIRS, SEND, {"ref": f"{MARK}-{number}", "text": MARK}, session=SESSION) for number in range(3)
    ]
    letter = str(failed[0]["error"]["dead_letter"])
    waits = one.publish(THEIRS, REVIEWED, {"ref": MARK, "item": MARK}, session=SESSION)["call"]
    replay = one.ask(OPERATOR, "POST", "/v1/replays", json={"ids": [letter], "dry_run": True})
    assert replay.status_code == 201, replay.text
    alerts = one.until(
        lambda: one.ask(OPERATOR, "GET", "/v1/alerts").json().get("alerts"), "no alert of three failures that are alike"
    )
    one.until(
        lambda: len(one.ask(OPERATOR, "GET", f"/v1/calls?session={SESSION}").json().get("calls", [])) >= 5,
        "the journal does not know of aurora's calls",
    )
    one.names |= {
        "call_id": done["call"],
        "call": waits,
        "letter": letter,
        "replay": replay.json()["replay"],
        "alert": alerts[0]["alert"],
        "tool": CREATE,
        "lane": CREATE,
        "connector": "aurora",
        "name": "aurora-main",
    }


def hidden(one: Estate) -> dict[str, str]:
    """Return what borealis must never read, by what it is."""
    named = {name: one.names[name] for name in ("call_id", "call", "letter", "replay", "alert")}
    return {**named, "mark": MARK, "agent": THEIRS, "tool": "aurora.", "connection": "aurora-main"}


def document(one: Estate) -> dict[str, Any]:
    """Return the API's own description of itself."""
    described: dict[str, Any] = json.loads(one.ask(OPERATOR, "GET", "/openapi.json").content)
    return described

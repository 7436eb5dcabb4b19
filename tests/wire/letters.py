"""A gateway that leaves letters: how to make one of each effect, and how to read what became of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.served import Served, bearer, people
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

WHO = "night"

CREATE, SEND, UPDATE, ORDER, GET = (
    f"crm.{name}" for name in ("contacts.create", "messages.send", "contacts.update", "orders.create", "contacts.get")
)


def declared(vendor: VendorProcess, folder: Path, change: Callable[[str], str] = lambda text: text) -> str:
    """Return the vendor's manifest with one attempt a call, an agent and operators."""
    text = manifest(vendor.url).replace("max_attempts: 5", "max_attempts: 1").replace("timeout: 2s", "timeout: 1s")
    text = text.replace("failure_rate: 50%", "failure_rate: 100%").replace(
        "retry: {max_attempts: 1}}", "retry: {max_attempts: 1}, breaker: {min_calls: 1000, consecutive: 1000}}"
    )
    text = change(text).replace("settle: 30s", "settle: 40ms")
    return text + people(
        folder,
        {"one": "crm.*", "other": "crm.*"},
        {WHO: "operator", "second": "operator", "guest": "viewer", "third": "approver", "boss": "operator, approver"},
    )


REFUSED = Behaviour(do=Kind.STATUS, status=429, forever=True)
"""The vendor proves that it did not run it."""
BROKEN = Behaviour(do=Kind.STATUS, status=422, forever=True, body={"error": "no"})
RAN_AND_LOST = Behaviour(do=Kind.RESET, executes=True, forever=True)
LOST = Behaviour(do=Kind.RESET, executes=False, forever=True)
CHANGED = Behaviour(do=Kind.STATUS, status=201, executes=True, forever=True, body={"identifier": "c1"})
"""It ran, and the answer breaks the contract."""


async def letter(gateway: Served, tool: str, arguments: dict[str, Any], **more: Any) -> str:
    """Make a call that leaves a letter, and return the letter."""
    headers = {**bearer("one"), "Prefer": "wait=20"}
    answer = await gateway.http.post("/v1/calls", json={"tool": tool, "arguments": arguments, **more}, headers=headers)
    body = answer.json()
    assert body.get("error"), body
    found: str = body["error"]["dead_letter"]
    assert found, body
    return found


async def show(gateway: Served, one: str, who: str = WHO, **query: str) -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/dead-letters/{one}", params=query, headers=bearer(who))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def listed(gateway: Served, who: str = WHO, **query: str) -> list[dict[str, Any]]:
    answer = await gateway.http.get("/v1/dead-letters", params=query, headers=bearer(who))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["letters"]
    return found


async def say(gateway: Served, one: str, verb: str, who: str = WHO, **body: Any) -> Any:
    return await gateway.http.post(f"/v1/dead-letters/{one}/{verb}", json=body, headers=bearer(who))


async def plan(gateway: Served, who: str = WHO, **body: Any) -> dict[str, Any]:
    answer = await gateway.http.post("/v1/replays", json=body, headers=bearer(who))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def ended(gateway: Served, replay: str, *, within_s: float = 20.0) -> dict[str, Any]:
    """Wait until a replay runs no more, and return it."""
    found: dict[str, Any] = {}
    for _ in range(int(within_s / 0.05)):
        answer = await gateway.http.get(f"/v1/replays/{replay}", headers=bearer(WHO))
        found = answer.json()
        if found["state"] not in {"running", "planned"}:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


async def replayed(gateway: Served, *letters: str, **how: Any) -> dict[str, Any]:
    """Replay some letters and wait for the end."""
    return await ended(gateway, (await plan(gateway, ids=list(letters), **how))["replay"])

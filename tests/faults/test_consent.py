"""A person consents again, from outside: `sluice up`, `sluice connections authorize`, and a browser that the vendor sends back."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from tests.authorized import SECRETS, declared
from tests.demo.ground import ROOT, Ground
from tests.faults.conftest import SHORT
from tests.vendor.client import VendorProcess
from tests.vendor.tokens import DeskRequest

pytestmark = pytest.mark.faults

ALERTS = {"SLUICE_ALERT_EVERY": "0.2", "SLUICE_ALERT_SETTLE": "0.3"}
KIND = "token.needs_consent"


@pytest.fixture
def ground(vendor: VendorProcess, tmp_path: Path) -> Iterator[Ground]:
    known: dict[str, Any] = dict(SECRETS)
    vendor.desk(DeskRequest(rotation="strict", **known))
    vendor.auth("oauth2")
    with Ground(declared(vendor.url, tmp_path), {**SHORT, **ALERTS}) as running:
        yield running


@pytest.fixture
async def http(ground: Ground) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=ground.url, timeout=30, trust_env=False) as client:
        yield client


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(30):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.1)


async def publish(http: httpx2.AsyncClient, numbers: range) -> list[str]:
    calls = []
    for number in numbers:
        body = {"tool": "crm.contacts.create", "arguments": {"email": f"{number}@b.c"}}
        answer = await http.post("/v1/calls", json=body)
        assert answer.status_code == 202, answer.text
        calls.append(answer.json()["call"])
    return calls


async def states(http: httpx2.AsyncClient, calls: list[str]) -> set[str]:
    """Wait for the ends of calls and return how they ended."""
    return {(await http.get(f"/v1/calls/{call}?wait=30")).json()["state"] for call in calls}


async def held(http: httpx2.AsyncClient, call: str) -> bool:
    body = (await http.get(f"/v1/calls/{call}")).json()
    return bool((body.get("hold") or {}).get("reason") == "needs_consent")


async def alerts(http: httpx2.AsyncClient, state: str) -> list[dict[str, Any]]:
    found = (await http.get("/v1/alerts?state=all")).json()["alerts"]
    return [one for one in found if one["kind"] == KIND and one["state"] == state]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizing:
    """A command that waits for the browser to come back, and the address it has printed."""

    process: asyncio.subprocess.Process
    url: str

    async def ended(self) -> tuple[int | None, str, str]:
        out, err = await asyncio.wait_for(self.process.communicate(), 30)
        return self.process.returncode, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def authorizing(ground: Ground, folder: Path) -> AsyncIterator[Authorizing]:
    command = [sys.executable, "-m", "gateway", "connections", "authorize", "crm/main", "--no-browser", "-o", "json"]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**ground.environment, "PYTHONPATH": str(ROOT), "SLUICE_URL": ground.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    said = ""
    try:
        while not (found := re.search(r"http://\S+/oauth/authorize\?\S+", said)):
            line = await asyncio.wait_for(process.stderr.readline(), 30)
            assert line, said
            said += line.decode()
        yield Authorizing(process=process, url=found[0])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_calls_that_wait_for_a_consent_go_on_when_a_person_has_given_it(
    ground: Ground, http: httpx2.AsyncClient, vendor: VendorProcess, tmp_path: Path
) -> None:
    assert await states(http, await publish(http, range(3))) == {"completed"}
    await vendor.aio.revoke()
    calls = await publish(http, range(100, 110))
    for call in calls:
        await until(lambda call=call: held(http, call))  # type: ignore[misc]
    (alert,) = await until(lambda: alerts(http, "open"))
    assert alert["action"] == "sluice connections authorize crm/main"
    async with httpx2.AsyncClient(trust_env=False, follow_redirects=True) as browser:
        async with authorizing(ground, tmp_path) as refused:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(refused.url).query).items()}
            no = urlencode({"error": "access_denied", "state": asked["state"]})
            assert (await browser.get(f"{asked['redirect_uri']}?{no}")).status_code == 200
            code, _, err = await refused.ended()
            assert (code, "access_denied" in err) == (1, True)
        assert all([await held(http, call) for call in calls]), "who declines has consented to nothing"
        async with authorizing(ground, tmp_path) as given:
            seen = await browser.get(given.url)
            assert (seen.status_code, [one.status_code for one in seen.history]) == (200, [302])
            assert seen.url.host == "127.0.0.1"
            code, out, err = await given.ended()
            assert code == 0, err
            assert json.loads(out)["connection"]["state"] == "active"
    assert await states(http, calls) == {"completed"}
    (over,) = await until(lambda: alerts(http, "resolved"))
    assert (over["alert"], over["by"]) == (alert["alert"], None)
    with ground.redis as redis:
        entries: Any = redis.xrange("gateway-alerts")
    told = [json.loads(fields[b"data"]) for _, fields in entries]
    assert [one["type"] for one in told if one["data"].get("alert") == alert["alert"]] == [
        "alert.opened",
        "alert.resolved",
    ]
    assert [one["type"] for one in told].count("alert.opened") == 1
    counts, desk = vendor.counts(), vendor.desk_counts()
    assert (counts.effects_total, counts.repeated_effects) == (13, [])
    assert desk.granted["authorization_code"] == 1
    secrets = [*SECRETS.values(), *desk.issued]
    assert not [secret for secret in secrets if secret in out + err + ground.log.read_text(encoding="utf-8")]

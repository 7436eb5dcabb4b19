"""`sluice breakers` and `/v1/breakers`: real processes, a real gateway, a breaker that an operator keeps."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from tests.served import assert_problem, bearer, people, served
from tests.shell import NOWHERE, Shell
from tests.vendor.client import VendorProcess, manifest

pytestmark = pytest.mark.wire


@pytest.fixture
async def url(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[str]:
    declared = manifest(vendor.url) + people(
        tmp_path, {"one": "crm.*", "none": "other.*"}, {"night-shift": "operator", "guest": "viewer"}
    )
    async with served(redis_url, tmp_path / "data", declared) as running:
        yield running.url


@pytest.fixture
def sluice(url: str, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"SLUICE_URL": url, "SLUICE_KEY": "key-of-night-shift"})


async def test_a_breaker_is_kept_open_closed_and_let_go(sluice: Shell, vendor: VendorProcess) -> None:
    (new,) = (await sluice("breakers", "ls", "-o", "json")).data
    assert (new["connector"], new["origin"], new["state"], new["mode"]) == ("crm", vendor.url, "closed", "auto")
    assert (new["calls"], new["failures"], new["gates"]) == (0, 0, ["@crm"])
    ran = await sluice("breakers", "open", "crm", "--reason", "migrating", "--for", "30m")
    assert ran.code == 0, ran.err
    (kept,) = ran.data
    assert (kept["state"], kept["mode"], kept["owner"], kept["reason"]) == ("open", "open", "night-shift", "migrating")
    assert kept["until"] is not None
    assert 'next: sluice breakers auto crm --reason "…"' in ran.err
    call = await sluice("call", "crm.echo", "--wait", "0", SLUICE_KEY="key-of-one")
    shown = await sluice("calls", "show", call.data["call"], "-o", "table")
    assert "migrating (opened by night-shift)" in shown.out
    table = await sluice("breakers", "ls", "-o", "table", COLUMNS="120")
    head, line = table.out.rstrip().splitlines()
    assert head.split() == ["CONNECTOR", "ORIGIN", "STATE", "BY", "UNTIL", "FAILED", "REASON"]
    assert line.split()[:4] == ["crm", vendor.url, "open", "night-shift"]
    assert (await sluice("breakers", "auto", "crm", "--reason", "done")).data[0]["state"] == "half_open"
    (closed,) = (await sluice("breakers", "close", "crm", "--reason", "it is well")).data
    assert (closed["state"], closed["mode"], closed["until"]) == ("closed", "closed", None)
    ended = await sluice("calls", "show", call.data["call"], "--wait", "20")
    assert ended.data["state"] == "completed"
    labels = {"connector": "crm", "origin": vendor.url}
    assert REGISTRY.get_sample_value("sluice_breaker_state", {**labels, "state": "closed"}) == 1
    assert REGISTRY.get_sample_value("sluice_breaker_transitions_total", {**labels, "state": "open"}) == 1


@pytest.mark.parametrize(
    ("words", "key", "code", "said"),
    [
        (["open", "crn", "--reason", "x"], "night-shift", 3, "near to it: crm"),
        (["open", "crm", "--reason", "x", "--connection", "main"], "night-shift", 3, "connection"),
        (["open", "crm", "--reason", "x", "--for", "soon"], "night-shift", 2, "/for"),
        (["close", "crm", "--reason", " "], "night-shift", 2, "a reason has"),
        (["open", "crm"], "night-shift", 2, "--reason"),
        (["auto", "crm", "--reason", "x"], "one", 4, "needs an Operator"),
        (["open", "crm", "--reason", "x"], "guest", 4, "needs an Operator"),
        (["ls"], "nobody", 4, "SLUICE_KEY"),
    ],
)
async def test_each_no_has_its_exit_code_and_says_why(
    sluice: Shell, words: list[str], key: str, code: int, said: str
) -> None:
    ran = await sluice("breakers", *words, SLUICE_KEY=f"key-of-{key}")
    assert (ran.code, ran.shows_nothing) == (code, True), ran.err
    assert said in ran.err
    assert "Traceback" not in ran.err


async def test_an_agent_sees_breakers_of_its_tools_and_no_counts(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as http:

        async def listed(who: str) -> list[dict[str, Any]]:
            breakers: list[dict[str, Any]] = (await http.get("/v1/breakers", headers=bearer(who))).json()["breakers"]
            return breakers

        assert [(one["state"], one["calls"]) for one in await listed("one")] == [("closed", None)]
        assert [(one["state"], one["calls"]) for one in await listed("guest")] == [("closed", 0)]
        assert await listed("none") == []
        body = {"connector": "crm", "reason": "x", "since": "noon"}
        answer = await http.post("/v1/breakers/open", json=body, headers=bearer("night-shift"))
        assert_problem(answer, 400, "ingest.malformed")


async def test_help_has_examples_and_where_nothing_runs_the_next_command_is_told(tmp_path: Path) -> None:
    alone = Shell(tmp_path, {"SLUICE_URL": NOWHERE})
    for words in ("ls", "open", "close", "auto"):
        told = await alone("breakers", words, "--help")
        assert f"sluice breakers {words}" in told.out, told.out
    assert (await alone("breakers", "ls")).code == 5

"""`sluice lanes` as a person meets it: real processes, a real gateway, calls that really wait."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.entrypoints.cli.output import span
from tests.served import Served, people, served
from tests.shell import NOWHERE, Shell
from tests.vendor.client import VendorProcess, manifest

pytestmark = pytest.mark.wire

LIMITS = "limits: {core: {rate: 2/min, per: connector}, inflight: {concurrency: 4, per: connection}}"


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    text = manifest(vendor.url).replace("\noperations:\n", f"\n{LIMITS}\noperations:\n", 1)
    text = text.replace("defaults: {", "defaults: {limits: {core: 1, inflight: 1}, ", 1)
    declared = text + people(tmp_path, {"one": "crm.*"}, {"night-shift": "operator"})
    async with served(redis_url, tmp_path / "data", declared) as running:
        yield running


@pytest.fixture
def sluice(gateway: Served, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": "key-of-night-shift"})


async def waiting(sluice: Shell, count: int = 3) -> str:
    """Publish calls, of which two may start in this minute; returns the id of the last."""
    ran = [await sluice("call", "crm.echo", "--wait", "0", SLUICE_KEY="key-of-one") for _ in range(count)]
    assert [one.code for one in ran] == [0] * count, ran[0].err
    call: str = ran[-1].data["call"]
    return call


async def test_the_table_fits_a_terminal_and_says_what_waits_and_why(sluice: Shell) -> None:
    call = await waiting(sluice)
    ran = await sluice("lanes", "ls", "-o", "table", COLUMNS="100")
    assert ran.code == 0, ran.err
    head, line = ran.out.rstrip().splitlines()
    assert head.split() == ["LANE", "WAITING", "LIVE", "OLDEST", "ETA", "HELD", "BY"]
    assert len(line.rstrip()) <= 100
    lane, count, live, _, _, reason, limit, *_ = line.split()
    assert (lane, count, live, reason, limit) == ("crm|-|echo", "1", "1", "rate_limit", "core")
    (data,) = (await sluice("lanes", "ls", "--held", "--connector", "crm", "-o", "json")).data
    assert (data["lane"], data["waiting"]) == ("crm|-|echo", 1)
    assert 50 < data["eta_s"] <= 65
    shown = await sluice("calls", "show", call, "-o", "table")
    for words in ("rate_limit", "limit core is used up (2 of 2 in 1 min)", "next in its lane", "eta", "Nothing to do."):
        assert words in shown.out, shown.out


async def test_a_lane_is_shown_with_its_limits(sluice: Shell) -> None:
    await waiting(sluice)
    ran = await sluice("lanes", "show", "crm.echo", "-o", "table", COLUMNS="100")
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["LIMIT", "USED/MOST", "WINDOW", "LEARNED"] in lines
    assert ["core", "2/2", "1m", "-"] in lines
    assert ["inflight", "0/4", "at", "once", "-"] in lines
    assert "limit core is used up" in ran.out
    assert (await sluice("lanes", "show", "crm|-|echo")).data["lane"] == "crm|-|echo"


async def test_pause_and_resume_say_what_they_did_and_what_to_run_next(sluice: Shell) -> None:
    paused = await sluice("lanes", "pause", "crm.echo", "--reason", "wrong import", "--for", "30m")
    assert paused.code == 0, paused.err
    assert (paused.data["target"], paused.data["by"]) == ("crm.echo", "night-shift")
    assert "next: sluice lanes resume crm.echo" in paused.err
    call = await waiting(sluice, 1)
    await asyncio.sleep(0.3)
    shown = await sluice("calls", "show", call, "-o", "table")
    assert "wrong import (paused by night-shift)" in shown.out
    assert "sluice lanes resume crm.echo" in shown.out
    listed = await sluice("lanes", "ls", "-o", "table", COLUMNS="100")
    assert "paused until" in listed.out
    wide = await sluice("lanes", "resume", "crm")
    assert (wide.code, wide.data["was_paused"]) == (0, False)
    assert "Still closed: crm.echo" in wide.err
    resumed = await sluice("lanes", "resume", "crm.echo")
    assert (resumed.code, resumed.data["was_paused"]) == (0, True)
    ended = await sluice("calls", "show", call, "--wait", "20")
    assert ended.data["state"] == "completed"


async def test_what_is_held_without_a_call_is_listed_too(sluice: Shell) -> None:
    await sluice("lanes", "pause", "crm.messages.send", "--reason", "wrong import", "--for", "30m")
    await sluice("breakers", "open", "crm", "--reason", "they migrate")
    for held in ([], ["--held"], ["--connector", "crm"]):
        table = await sluice("lanes", "ls", *held, "-o", "table", COLUMNS="100")
        assert "Held: crm / messages.send is paused until " in table.err, table.err
        assert "wrong import (paused by night-shift)." in table.err
        assert "next: An operator paused it; to go on: sluice lanes resume crm.messages.send" in table.err
        assert "Held: crm is held (breaker_open)" in table.err
        listed = (await sluice("lanes", "ls", *held, "-o", "json")).data
        assert [(one["lane"], one["tool"], one["hold"]["reason"]) for one in listed] == [
            ("crm", None, "breaker_open"),
            ("crm.messages.send", "crm.messages.send", "paused"),
        ]
    for none in (["--not-held"], ["--connector", "other"]):
        ran = await sluice("lanes", "ls", *none)
        assert (ran.data, "Held:" in ran.err) == ([], False)
    await waiting(sluice, 1)
    lane, gate = (await sluice("lanes", "ls", "-o", "json")).data  # the breaker is told by the lane that waits for it
    assert (lane["lane"], lane["hold"]["reason"], gate["lane"]) == ("crm|-|echo", "breaker_open", "crm.messages.send")
    assert lane.keys() == gate.keys()


@pytest.mark.parametrize(
    ("words", "key", "code", "said"),
    [
        (["pause", "crn", "--reason", "x"], "night-shift", 3, "near to it: crm"),
        (["pause", "crm.ecko", "--reason", "x"], "night-shift", 3, "near to it: crm.echo"),
        (["pause", "crm", "--reason", "x", "--connection", "main"], "night-shift", 3, "connection"),
        (["pause", "crm", "--reason", "x", "--for", "soon"], "night-shift", 2, "/for"),
        (["pause", "crm"], "night-shift", 2, "--reason"),
        (["pause", "crm", "--reason", "x"], "one", 4, "next: Use the key of an Operator"),
        (["resume", "crm"], "one", 4, "needs an Operator"),
        (["show", "crm.ecko"], "night-shift", 3, "next: sluice connectors ls"),
        (["ls"], "nobody", 4, "SLUICE_KEY"),
    ],
)
async def test_each_no_has_its_exit_code_and_says_why(
    sluice: Shell, words: list[str], key: str, code: int, said: str
) -> None:
    ran = await sluice("lanes", *words, SLUICE_KEY=f"key-of-{key}")
    if ran.out:
        assert ran.err.count(ran.data["detail"]) == 1  # an entry of `errors` that says the same again is not told twice
    assert (ran.code, ran.shows_nothing) == (code, True), ran.err
    assert said in ran.err
    assert "Traceback" not in ran.err


async def test_help_has_examples_and_where_nothing_runs_the_next_command_is_told(tmp_path: Path) -> None:
    alone = Shell(tmp_path, {"SLUICE_URL": NOWHERE})
    for words in ("ls", "show", "pause", "resume"):
        told = await alone("lanes", words, "--help")
        assert f"sluice lanes {words}" in told.out, told.out
    ran = await alone("lanes", "ls")
    assert (ran.code, ran.out) == (5, "")
    assert "sluice up" in ran.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (0, "0s"), (0.25, "250ms"), (4.21, "4.21s"), (90, "1.5m"), (3600, "1h"), (200_000, "2.31d")],
)
def test_a_time_span_is_short(seconds: float | None, text: str | None) -> None:
    assert span(seconds) == text

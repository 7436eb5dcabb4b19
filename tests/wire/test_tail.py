"""`sluice calls tail` without an id: everything that happens, by filters, until Ctrl-C, also over a restart of the gateway."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from gateway.entrypoints.cli import client, history
from gateway.entrypoints.cli.output import Format
from tests.served import Served, served
from tests.shell import NOWHERE, Shell
from tests.vendor.client import ROOT, VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Tail:
    """A command that follows."""

    process: asyncio.subprocess.Process

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout
        line = await asyncio.wait_for(self.process.stdout.readline(), WITHIN_S)
        told: dict[str, Any] = json.loads(line)
        return told

    async def until(self, call: str, state: str) -> list[dict[str, Any]]:
        """Read until it tells this of a call, and return all that it told until then."""
        told = [await self.line()]
        while (told[-1]["call"], told[-1]["state"]) != (call, state):
            told.append(await self.line())
        return told

    async def said(self) -> str:
        assert self.process.stderr
        return (await asyncio.wait_for(self.process.stderr.readline(), WITHIN_S)).decode()

    async def interrupted(self) -> tuple[int | None, str, str]:
        """Press Ctrl-C; returns the exit code and what was still to be read."""
        self.process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(self.process.communicate(), WITHIN_S)
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def tail(gateway: Served, folder: Path, *words: str) -> AsyncIterator[Tail]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "calls", "tail", "-o", "jsonl", *words),
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "SLUICE_URL": gateway.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Tail(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def running(redis_url: str, folder: Path, vendor: VendorProcess, **more: Any) -> AbstractAsyncContextManager[Served]:
    return served(redis_url, folder / "data", manifest(vendor.url), journals=True, **more)


async def publish(gateway: Served, tool: str = "crm.echo", **more: Any) -> str:
    arguments = {"id": "c1"} if tool == "crm.contacts.get" else {}
    answer = await gateway.http.post("/v1/calls", json={"tool": tool, "arguments": arguments, **more})
    call: str = answer.json()["call"]
    return call


async def test_everything_is_told_once_as_it_stands_until_ctrl_c(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    vendor.script("contacts.get", Behaviour(do=Kind.STATUS, status=404, forever=True))
    async with running(redis_url, tmp_path, vendor) as gateway:
        before = await publish(gateway)
        assert (await gateway.http.get(f"/v1/calls/{before}?wait=20")).json()["state"] == "completed"
        async with (
            tail(gateway, tmp_path) as whole,
            tail(gateway, tmp_path, "--state", "failed") as failed,
            tail(gateway, tmp_path, "--session", "run-1") as session,
            tail(gateway, tmp_path, "--tool", "crm.echo") as tool,
        ):
            await whole.until(before, "completed")
            await tool.until(before, "completed")
            bad = await publish(gateway, "crm.contacts.get")
            good = await publish(gateway, session="run-1")
            told = await failed.until(bad, "failed")
            assert {one["call"] for one in told} == {bad}
            assert {one["call"] for one in await session.until(good, "completed")} == {good}
            assert {one["call"] for one in await tool.until(good, "completed")} == {good}
            seen: list[dict[str, Any]] = []
            while {(bad, "failed"), (good, "completed")} - {(one["call"], one["state"]) for one in seen}:
                seen.append(await whole.line())
            standings = [(one["call"], one["state"], one["attempts"], one["summary"]) for one in seen]
            assert len(standings) == len(set(standings))
            assert {one["call"] for one in seen} == {bad, good}
            for one in (whole, failed, session, tool):
                code, out, err = await one.interrupted()
                assert (code, out, "Traceback" in err) == (0, "", False)


async def test_a_gateway_that_restarts_is_waited_for_and_nothing_is_missed(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running(redis_url, tmp_path, vendor) as gateway:
            first = await publish(gateway)
            following = await stack.enter_async_context(tail(gateway, tmp_path))
            await following.until(first, "completed")
            door = urlsplit(gateway.url).port
        assert "waiting for it" in await following.said()
        async with running(redis_url, tmp_path, vendor, door=door) as gateway:
            second = await publish(gateway)
            told = await following.until(second, "completed")
            assert {one["call"] for one in told} == {second}
            code, out, err = await following.interrupted()
            assert (code, out, "Traceback" in err) == (0, "", False)


async def test_where_nothing_runs_it_says_so_and_ends(tmp_path: Path) -> None:
    ran = await Shell(tmp_path, {"SLUICE_URL": NOWHERE})("calls", "tail")
    assert (ran.code, ran.out) == (5, "")
    assert "sluice up" in ran.err


def test_more_calls_than_a_page_between_two_looks_are_all_told_and_old_ones_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history, "PAGE", 3)
    monkeypatch.setattr(history, "FIRST", 2)
    calls: list[dict[str, Any]] = []

    def page(path: str) -> dict[str, Any]:
        at = int(path.partition("cursor=")[2] or 0)
        newest = calls[::-1]
        return {"calls": newest[at : at + 3], "cursor": str(at + 3) if at + 3 < len(newest) else None}

    def come(count: int) -> None:
        for _ in range(count):
            number = len(calls)
            more = {"error": None, "summary": "", "accepted": None, "tool": "t", "attempts": 1, "agent": "a"}
            calls.append({"call": f"c{number:03d}", "state": "completed", "session": None, **more})

    def rest(_: float) -> None:
        if len(calls) > 15:
            raise KeyboardInterrupt
        come(8)

    monkeypatch.setattr(client, "ask", lambda _method, path: (200, page(path)))
    monkeypatch.setattr(client, "again", page)
    monkeypatch.setattr(time, "sleep", rest)
    come(5)
    with pytest.raises(KeyboardInterrupt):
        history._watch({}, Format.JSONL)
    told = [json.loads(line)["call"] for line in capsys.readouterr().out.splitlines()]
    assert told == [f"c{number:03d}" for number in range(3, len(calls))]

"""Preflight by its own word: healthy plans go, its time is right by the vendor's counts, and asking costs next to nothing."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from schemas.preflight import CheckName
from tests.planning import (
    CLIENT,
    CONSENT,
    CREATE,
    ECHO,
    Serve,
    ask,
    checks,
    declare,
    secrets,
    serving,
)
from tests.served import assert_problem, bearer, people
from tests.tiny_vendor import listening
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour
from tests.vendor.script import Kind as Do

pytestmark = pytest.mark.wire


@pytest.fixture
def serve(redis: "Redis", redis_url: str, tmp_path: Path) -> Serve:
    return serving(redis_url, tmp_path)


# What is well


HEALTHY: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = {
    "one call": ({}, [{"tool": "crm.echo"}], {}),
    "a sample that fits": ({}, [{**CREATE, "arguments": {"email": "a@b.c"}}], {}),
    "many steps": ({"limits": "{rate: 100/s}"}, [ECHO, CREATE, {"tool": "crm.big", "count": 3}], {"duration_s": 60}),
    "a limit that is large enough": ({"limits": "{rate: 20/s}"}, [{**ECHO, "count": 600}], {"duration_s": 120}),
    "a soft limit": ({"limits": "{rate: 100/s, mode: soft}"}, [{**ECHO, "count": 600}], {"duration_s": 60}),
    "a concurrency": ({"limits": "{concurrency: 4}"}, [{**ECHO, "count": 100}], {"duration_s": 600}),
    "a daily quota": ({"limits": "{rate: 5000/d}"}, [{**ECHO, "count": 4000}], {"duration_s": 2700}),
    "a token longer than the plan": ({"auth": CLIENT}, [ECHO], {"duration_s": 2700}),
    "a token that is renewed under way": ({"auth": CLIENT}, [ECHO], {"duration_s": 86_000}),
    "a refresh token": ({"auth": CONSENT}, [ECHO], {"duration_s": 86_000}),
    "a deadline tomorrow": ({}, [ECHO], {"deadline": (datetime.now(UTC) + timedelta(days=1)).isoformat()}),
}


@pytest.mark.parametrize("kind", HEALTHY)
async def test_a_healthy_plan_goes_before_and_after_the_first_calls(
    serve: Serve, vendor: VendorProcess, tmp_path: Path, kind: str
) -> None:
    declared, steps, plan = HEALTHY[kind]
    text = declare(vendor.url, **declared) + (
        secrets(tmp_path, refresh="refresh" in kind) if "auth" in declared else ""
    )
    async with serve(text) as gateway:
        for warm in (False, True):
            if warm:
                await asyncio.gather(*(gateway.publish("crm.echo", {}) for _ in range(5)))
            report = await ask(gateway, *steps, **plan)
            assert report["verdict"] == "go", report
            for index, step in enumerate(report["steps"]):
                assert step["verdict"] == "go"
                assert list(checks(report, index)) == list(CheckName)
            assert report["eta_s"]["p50"] <= report["eta_s"]["p95"]


async def test_a_step_that_is_not_critical_stops_nobody(serve: Serve, vendor: VendorProcess) -> None:
    async with serve(declare(vendor.url)) as gateway:
        report = await ask(gateway, ECHO, {"tool": "crm.nothing", "critical": False})
        assert report["verdict"] == "go_with_conditions"
        assert [step["verdict"] for step in report["steps"]] == ["go", "no_go"]
        assert (await ask(gateway, ECHO, {"tool": "crm.nothing"}))["verdict"] == "no_go"


async def test_the_answer_has_the_shape_of_the_design(serve: Serve, vendor: VendorProcess) -> None:
    async with serve(declare(vendor.url)) as gateway:
        report = await ask(gateway, ECHO, CREATE, duration_s=60)
        turned = await ask(gateway, CREATE, ECHO, duration_s=60)
        other = await ask(gateway, CREATE, ECHO, duration_s=61)
    assert list(report) == ["verdict", "valid_until", "plan_hash", "eta_s", "steps"]
    assert {"tool", "verdict", "checks"} <= set(report["steps"][0])
    assert set(report["steps"][0]["checks"][0]) == {"name", "status", "detail", "evidence_age_s", "action"}
    until = datetime.fromisoformat(report["valid_until"])
    assert timedelta(0) < until - datetime.now(UTC) < timedelta(seconds=31)
    assert report["plan_hash"] == turned["plan_hash"] != other["plan_hash"]


async def test_what_is_no_plan_is_refused(serve: Serve, vendor: VendorProcess) -> None:
    bodies: list[dict[str, Any]] = [
        {},
        {"steps": []},
        {"steps": [{"tool": "crm.echo", "count": 0}]},
        {"steps": [{"tool": "crm.echo", "cuont": 1}]},
        {"steps": [ECHO], "duration_s": -1},
        {"steps": [ECHO], "deadline": "tomorrow"},
        {"steps": [ECHO], "deadline": "2026-12-01T00:00:00"},
        {"steps": [ECHO] * 201},
    ]
    async with serve(declare(vendor.url), works=False) as gateway:
        for body in bodies:
            answer = await gateway.http.post("/v1/preflight", json=body)
            assert (answer.status_code, bool(answer.json()["errors"])) == (400, True), body


async def test_an_agent_has_its_own_plans_judged_and_learns_no_sums(
    serve: Serve, vendor: VendorProcess, tmp_path: Path
) -> None:
    text = declare(vendor.url) + people(tmp_path, {"one": "crm.echo", "two": "crm.*"}, {"eye": "viewer"})
    async with serve(text) as gateway:
        mine = await ask(gateway, ECHO, CREATE, headers=bearer("one"))
        assert [step["verdict"] for step in mine["steps"]] == ["go", "no_go"]
        assert "may not call" in checks(mine, 1)["scope"]["detail"]
        assert "calls wait" not in str(mine)
        forward = await gateway.http.post(
            "/v1/preflight", json={"steps": [ECHO], "agent": "two"}, headers=bearer("one")
        )
        assert_problem(forward, 403, "ingest.scope")
        theirs = await ask(gateway, CREATE, headers=bearer("eye"), agent="two")
        assert theirs["verdict"] == "go"
        assert (await gateway.http.post("/v1/preflight", json={"steps": [ECHO]})).status_code == 401


# What it costs, and whether it is right


async def test_200_preflights_at_once_make_one_connection_and_one_token(
    serve: Serve, vendor: VendorProcess, tmp_path: Path
) -> None:
    connections = 0

    async def count(reader: Any, _: Any) -> None:
        nonlocal connections
        connections += 1
        assert await reader.read() == b""

    async with listening(count) as port:
        auth = CLIENT.replace("/oauth/token", f"{vendor.url}/oauth/token")
        text = declare(f"http://127.0.0.1:{port}", auth=auth) + secrets(tmp_path)
        async with serve(text) as gateway:
            reports = await asyncio.gather(*(ask(gateway, ECHO, duration_s=60) for _ in range(200)))
            await ask(gateway, ECHO, duration_s=60)
    assert {report["verdict"] for report in reports} == {"go"}
    assert connections == 1
    assert vendor.desk_counts().requests == 1
    assert set(vendor.counts().by_operation) <= {"token"}


def event(number: int) -> str:
    data = {"tool": "crm.echo", "arguments": {}}
    head = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/t", "id": f"e{number}"}
    return msgspec.json.encode({**head, "data": data}).decode()


@pytest.mark.parametrize(
    ("limit", "calls", "warm"),
    [
        ("{rate: 20/s}", 60, False),
        ("{rate: 20/s}", 60, True),
        ("{rate: 40/s, mode: soft}", 100, True),
        ("{concurrency: 4}", 60, True),
    ],
)
@pytest.mark.timed
async def test_the_time_it_takes_is_told_within_a_fifth(
    serve: Serve, vendor: VendorProcess, limit: str, calls: int, warm: Any
) -> None:
    seconds = 0.15 if "concurrency" in limit else 0.02
    await vendor.aio.script("echo", Behaviour(do=Do.DELAY, seconds=seconds, forever=True))
    async with serve(declare(vendor.url, limits=limit)) as gateway:
        if warm:
            await asyncio.gather(*(gateway.publish("crm.echo", {}) for _ in range(8)))
            await asyncio.sleep(1.5)
        before = len(await vendor.aio.arrivals("echo"))
        told = (await ask(gateway, {**ECHO, "count": calls}))["eta_s"]
        async with gateway.gateway.redis.pipeline(transaction=False) as pipe:
            for number in range(calls):
                pipe.xadd("tool-calls", {"data": event(number)})
            await pipe.execute()
        await vendor.aio.until(arrivals=before + calls, timeout=20)
        arrivals = (await vendor.aio.arrivals("echo"))[before:]
    assert len(arrivals) == calls
    took = (arrivals[-1].mono_us - arrivals[0].mono_us) / 1_000_000 + seconds
    assert abs(told["p50"] - took) <= 0.2 * took, (told, took)
    assert told["p95"] >= told["p50"]

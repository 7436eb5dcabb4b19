"""Every kind of defect is named by the right check of a preflight, in a sentence and with a next step."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from schemas.contracts.finding import Change, Kind
from tests.planning import (
    BEARER,
    CLIENT,
    CONSENT,
    CREATE,
    ECHO,
    Scene,
    Serve,
    ask,
    checks,
    declare,
    dying,
    flooded_and_alive,
    limited,
    no_client,
    opened,
    paused,
    quarantined,
    refused,
    revoked,
    secrets,
    seen,
    serving,
    tripped,
    waits,
)
from tests.vendor.client import VendorProcess

pytestmark = pytest.mark.wire


@pytest.fixture
def serve(redis: "Redis", redis_url: str, tmp_path: Path) -> Serve:
    return serving(redis_url, tmp_path)


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One thing that is wrong, which check names it, and what it says."""

    names: str
    says: str
    action: str
    status: str = "fail"
    step: Mapping[str, Any] = field(default_factory=lambda: ECHO)
    plan: Mapping[str, Any] = field(default_factory=dict)
    limits: str = ""
    auth: str = "{type: none}"
    secrets: str = ""
    """`client`, `refresh`, or none."""
    more: str = ""
    tail: str = ""
    change: Callable[[str], str] = lambda text: text
    prepare: Callable[["Scene"], Awaitable[None]] | None = None
    works: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
BREAKING = Change(Kind.TEXT_AS_NUMBER, "/id", "string", "integer")

DEFECTS: dict[str, Defect] = {
    "unknown tool": Defect(
        step={"tool": "crm.ehco"}, names="scope", says='did you mean "crm.echo"', action="sluice connectors ls"
    ),
    "unknown connection": Defect(
        step={**ECHO, "connection": "eu"}, names="scope", says="no connection 'eu'", action="sluice connections ls"
    ),
    "wrong arguments": Defect(
        step={**CREATE, "arguments": {"email": 7}}, names="arguments", says="/email", action="sluice connectors explain"
    ),
    "missing argument": Defect(
        step={**CREATE, "arguments": {"name": "Ada"}},
        names="arguments",
        says="email",
        action="sluice connectors explain",
    ),
    "approval needed": Defect(
        change=lambda text: text.replace("  echo:\n", "  echo:\n    approval: {required: true}\n"),
        names="approval",
        status="warn",
        says="approv",
        action="sluice",
    ),
    "missing secret": Defect(
        auth="{type: bearer}",
        tail=BEARER % "${env:NO_SUCH_THING}",
        names="credential",
        says="lacks its secret token",
        action="sluice doctor",
    ),
    "refused secret": Defect(
        auth="{type: bearer}",
        secrets="bearer",
        prepare=refused,
        names="credential",
        says="refused it",
        action="sluice doctor",
    ),
    "nobody consented": Defect(
        auth=CONSENT,
        secrets="client",
        names="credential",
        says="needs_consent",
        action="sluice connections set crm/main",
    ),
    "grant revoked": Defect(
        auth=CONSENT,
        secrets="refresh",
        prepare=revoked,
        names="credential",
        says="needs_consent",
        action="sluice connections set crm/main",
    ),
    "invalid client": Defect(
        auth=CLIENT,
        secrets="client",
        prepare=no_client,
        names="credential",
        says="config_error",
        action="sluice connections check crm/main",
    ),
    "token ends under way and cannot be renewed": Defect(
        auth=CLIENT,
        secrets="client",
        prepare=dying,
        plan={"duration_s": 2700},
        names="credential",
        says="the plan needs 45 min",
        action="sluice connections check crm/main",
    ),
    "breaker kept open": Defect(prepare=opened, names="breaker", says="they migrate", action="sluice breakers ls"),
    "breaker tripped": Defect(prepare=tripped, names="breaker", says="failures in a row", action="sluice breakers ls"),
    "limit too small for the deadline": Defect(
        limits="{rate: 1/min}",
        step={**ECHO, "count": 30},
        plan={"duration_s": 600},
        names="limits",
        says="limit core (1/min",
        action="sluice lanes show crm.echo",
    ),
    "daily quota": Defect(
        limits="{rate: 100/d}",
        step={**ECHO, "count": 150},
        names="limits",
        says="100/d",
        action="sluice lanes show crm.echo",
    ),
    "limit closed by 429": Defect(
        limits="{rate: 100/s}",
        prepare=limited,
        status="warn",
        names="limits",
        says="core is closed",
        action="sluice lanes show crm.echo",
    ),
    "limit closed beyond the plan": Defect(
        limits="{rate: 100/s}",
        prepare=limited,
        plan={"duration_s": 5},
        names="limits",
        says="core is closed",
        action="sluice lanes show crm.echo",
    ),
    "lane paused": Defect(prepare=paused, names="backlog", says="wrong import", action="sluice lanes resume crm.echo"),
    "quarantine": Defect(
        step=CREATE,
        prepare=quarantined,
        names="contract",
        says="/id was text",
        action="sluice contracts show crm.contacts.create",
    ),
    "contract broken": Defect(
        step=CREATE, prepare=seen(BREAKING), names="contract", says="/id", action="sluice contracts show"
    ),
    "contract at risk": Defect(
        step=CREATE,
        prepare=seen(Change(Kind.OPTIONAL_REMOVED, "/email")),
        status="warn",
        names="contract",
        says="/email",
        action="sluice contracts show",
    ),
    "goes away before the plan ends": Defect(
        step=CREATE,
        prepare=seen(Change(Kind.SUNSET, "", "", f"on {TOMORROW}")),
        plan={"duration_s": 172_800},
        names="contract",
        says="before the plan ends",
        action="sluice contracts show",
    ),
    "goes away later": Defect(
        step=CREATE,
        prepare=seen(Change(Kind.SUNSET, "", "", "on 2199-01-01")),
        status="warn",
        names="contract",
        says="goes away",
        action="sluice contracts show",
    ),
    "name unknown": Defect(
        change=lambda text: text.replace("base_url: http://127.0.0.1", "base_url: http://no-such-host.invalid").replace(
            '"127.0.0.1"', '"no-such-host.invalid"'
        ),
        names="egress",
        says="could not be resolved",
        action="sluice preflight",
    ),
    "connection refused": Defect(
        change=lambda text: text.replace("base_url: http://127.0.0.1", "base_url: http://127.0.0.1:9 #"),
        names="egress",
        says="did not accept a connection",
        action="sluice preflight",
    ),
    "no TLS": Defect(
        change=lambda text: text.replace("base_url: http://", "base_url: https://"),
        names="egress",
        says="No TLS connection",
        action="certificate",
    ),
    "private address": Defect(
        change=lambda text: (
            text.replace("base_url: http://127.0.0.1", "base_url: https://0x7f000001")
            .replace('"127.0.0.1"', '"0x7f000001"')
            .replace("allow_private: true", "allow_private: false")
        ),
        names="egress",
        says="private address",
        action="allow_private",
    ),
    "lane full": Defect(
        works=False,
        prepare=waits,
        settings={"queue_limit": 10},
        names="backlog",
        says="do not fit",
        action="sluice lanes show crm.echo",
    ),
    "too much waits already": Defect(
        works=False,
        limits="{rate: 1/s}",
        prepare=lambda scene: waits(scene, 60),
        plan={"duration_s": 7},
        names="backlog",
        says="Behind 60 calls",
        action="sluice lanes show crm.echo",
    ),
    "others want the same limit": Defect(
        works=False,
        limits="{rate: 1/s}",
        step={**ECHO, "count": 20},
        prepare=lambda scene: waits(scene, 40, "crm.big", bytes=1),
        plan={"duration_s": 30},
        names="backlog",
        says="Behind what others want",
        action="sluice lanes show crm.echo",
    ),
    "queue flooded": Defect(
        works=False,
        prepare=flooded_and_alive,
        names="backlog",
        says="takes nothing new",
        action="sluice lanes ls",
    ),
    "no worker": Defect(works=False, names="backlog", says="No worker", action="sluice up"),
    "deadline passed": Defect(
        plan={"deadline": "2026-01-01T00:00:00Z"}, names="deadline", says="passed", action="sluice preflight"
    ),
    "deadline too near": Defect(
        limits="{rate: 1/min}",
        step={**ECHO, "count": 30},
        plan={"deadline": timedelta(minutes=9)},
        names="deadline",
        says="the deadline is in",
        action="sluice preflight",
    ),
}


def _from_now(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan with its spans counted from now: this module may have been read long ago."""
    now = datetime.now(UTC)
    return {key: (now + value).isoformat() if isinstance(value, timedelta) else value for key, value in plan.items()}


@pytest.mark.parametrize("kind", DEFECTS)
async def test_a_defect_is_named_by_the_right_check_with_a_next_step(
    serve: Serve, vendor: VendorProcess, redis: "Redis", tmp_path: Path, kind: str
) -> None:
    defect = DEFECTS[kind]
    text = declare(vendor.url, limits=defect.limits, auth=defect.auth, more=defect.more, tail=defect.tail)
    if defect.secrets == "bearer":
        (tmp_path / "token").write_text("old")
        text += BEARER % f"${{file:{tmp_path}/token}}"
    elif defect.secrets:
        text += secrets(tmp_path, refresh=defect.secrets == "refresh")
    async with serve(defect.change(text), works=defect.works, **defect.settings) as gateway:
        if defect.prepare is not None:
            await defect.prepare(Scene(gateway, vendor, redis))
        report = await ask(gateway, defect.step, **_from_now(defect.plan))
    found = checks(report)
    named = found[defect.names]
    assert named["status"] == defect.status, report
    assert defect.says in named["detail"]
    assert defect.action in named["action"]
    expected = "no_go" if defect.status == "fail" else "go_with_conditions"
    assert report["verdict"] == report["steps"][0]["verdict"] == expected
    assert {check["status"] for check in found.values()} - {"pass"} != set()
    for check in found.values():
        assert check["status"] == "pass" or check["action"], check
        assert check["detail"].endswith((".", ")", "?")), check

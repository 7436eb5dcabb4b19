"""Contracts end to end but for the vendor: findings in Redis, decisions over HTTP and from the command line, baselines on the disk."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.lanes.findings import Findings
from schemas.contracts.finding import Change, Kind, finding
from schemas.contracts.sighting import Sighting
from schemas.lifecycle import HoldReason
from schemas.topics import Shard, Topics
from tests.contract_stage import ContractStage, contract_stage
from tests.served import assert_problem, bearer, people
from tests.shell import NOWHERE, Shell

pytestmark = pytest.mark.wire

GET, MAKE = "crm.contacts.get", "crm.contacts.create"
MANIFEST = """
apiVersion: sluice/v1
kind: Connector
metadata: {name: crm}
base_url: http://127.0.0.1:9
egress: {allow_private: true}
operations:
  contacts.get:
    class: safe
    request: {method: GET, path: /contacts}
    output: {type: object, required: [id], properties: {id: {type: string}, email: {type: string}}}
  contacts.create:
    request: {method: POST, path: /contacts}
    output: {type: object, required: [id], properties: {id: {type: string}}}
    contract: {on_breaking: quarantine_writes}
  bare:
    request: {method: POST, path: /bare}
"""


@pytest.fixture
async def stage(redis: "Redis", redis_url: str, tmp_path: Path) -> AsyncIterator[ContractStage]:
    declared = MANIFEST + people(
        tmp_path, {"one": "crm.contacts.get", "other": "x.*"}, {"chief": "operator", "eye": "viewer"}
    )
    async with contract_stage(redis, redis_url, tmp_path / "data", declared) as ready:
        yield ready


async def events(redis: Any, topic: str = "tool-events") -> list[dict[str, Any]]:
    found = [json.loads(entry[b"data"]) for _, entry in await redis.xrange(topic)]
    return [one for one in found if one["type"] == "contract.finding"]


async def judge(stage: ContractStage, verb: str, tool: str, mark: str, key: str = "chief", **more: Any) -> Any:
    body = {"fingerprint": mark, "reason": "announced", **more}
    return await stage.http.post(f"/v1/contracts/{tool}/{verb}", json=body, headers=bearer(key))


async def test_one_change_is_one_event_one_alert_and_one_row_however_many_answers_have_it(
    stage: ContractStage, redis: "Redis"
) -> None:
    for number in range(300):
        assert (await stage.answer(GET, {"id": number}, call=f"c{number}")).breaking
    (event,) = await events(redis)
    (alert,) = await events(redis, "gateway-alerts")
    data = event["data"]
    assert (data["tool"], data["kind"], data["pointer"], data["state"]) == (GET, "text_as_number", "/id", "open")
    assert (alert["data"]["fingerprint"], alert["data"]["call"]) == (data["fingerprint"], "c0")
    assert stage.counted == [f"{GET} text_as_number"]
    await asyncio.sleep(1.05)
    await stage.answer(GET, {"id": 1}, call="last")
    (seen,) = await stage.findings.seen()
    assert (seen.count, seen.call, seen.state) == (301, "last", "open")
    assert len(await events(redis)) == len(await events(redis, "gateway-alerts")) == 1


async def test_additions_are_listed_and_wake_nobody(stage: ContractStage, redis: "Redis") -> None:
    await stage.answer(GET, {"id": "a", "locale": "de"})
    assert await events(redis, "gateway-alerts") == []
    assert [one["data"]["level"] for one in await events(redis)] == ["compatible"]


async def test_contracts_are_listed_shown_and_judged_over_http(
    stage: ContractStage, redis: "Redis", tmp_path: Path
) -> None:
    checked = await stage.answer(GET, {"id": 7, "locale": "de"}, call="c7")
    listed = (await stage.http.get("/v1/contracts", headers=bearer("eye"))).json()["contracts"]
    assert [one["tool"] for one in listed] == [GET, MAKE]
    assert (listed[0]["open"], listed[0]["version"], listed[0]["held"]) == ({"breaking": 1, "compatible": 1}, 0, False)
    assert "/id" in listed[0]["worst"]
    shown = (await stage.http.get(f"/v1/contracts/{GET}", headers=bearer("eye"))).json()
    first = shown["findings"][0]
    assert (first["fingerprint"], first["count"], first["sample_call"]) == (checked.findings[0].fingerprint, 1, "c7")
    answer = (await judge(stage, "accept", GET, first["fingerprint"])).json()
    assert (answer["version"], answer["verdict"], answer["opened"]) == (1, "accepted", [])
    assert (await stage.answer(GET, {"id": 8})).contract == "ok"
    shown = (await stage.http.get(f"/v1/contracts/{GET}", headers=bearer("eye"))).json()
    assert shown["schema"]["properties"]["id"]["type"] == ["string", "integer"]
    assert [(one["by"], one["reason"]) for one in shown["history"]] == [("chief", "announced")]
    assert [one["state"] for one in shown["findings"]] == ["accepted", "open"]
    assert [one["data"]["state"] for one in await events(redis)] == ["open", "open", "accepted"]
    assert (await judge(stage, "accept", GET, "all")).json()["version"] == 2
    assert json.loads((tmp_path / "data/contracts/crm/contacts.get.json").read_text())["version"] == 2


async def test_what_is_rejected_stays_and_alerts_nobody_again(stage: ContractStage, redis: "Redis") -> None:
    mark = (await stage.answer(GET, {"id": 7})).findings[0].fingerprint
    assert (await judge(stage, "reject", GET, mark)).status_code == 200
    assert (await stage.answer(GET, {"id": 7})).breaking
    (listed,) = (
        one
        for one in (await stage.http.get("/v1/contracts", headers=bearer("eye"))).json()["contracts"]
        if one["tool"] == GET
    )
    assert (listed["open"], listed["version"]) == ({}, 1)
    assert len(await events(redis, "gateway-alerts")) == 1


async def test_calls_that_were_held_go_on_when_nothing_breaking_is_left(stage: ContractStage) -> None:
    lanes, gate = stage.gateway.gateway.lanes, "@crm|main|contacts.create"
    first = (await stage.answer(MAKE, {"id": 7})).findings[0].fingerprint
    second = (await stage.answer(MAKE, {})).findings[0].fingerprint
    await lanes.close(gate, HoldReason.CONTRACT_QUARANTINE, for_us=0, detail="x")
    await lanes.close("@crm", HoldReason.PAUSED, for_us=0, detail="x")
    held = {
        one["tool"]: one["held"]
        for one in (await stage.http.get("/v1/contracts", headers=bearer("eye"))).json()["contracts"]
    }
    assert held == {GET: False, MAKE: True}
    assert (await judge(stage, "accept", MAKE, first)).json()["opened"] == []
    assert (await judge(stage, "accept", MAKE, second)).json()["opened"] == [gate]
    shown = (await stage.http.get(f"/v1/contracts/{MAKE}", headers=bearer("eye"))).json()
    assert shown["held"] is False


async def test_who_may_see_and_who_may_judge(stage: ContractStage) -> None:
    mark = (await stage.answer(GET, {"id": 7})).findings[0].fingerprint
    assert_problem(await stage.http.get("/v1/contracts"), 401, "ingest.auth")
    seen = (await stage.http.get("/v1/contracts", headers=bearer("one"))).json()["contracts"]
    assert [one["tool"] for one in seen] == [GET]
    (told,) = (await stage.http.get(f"/v1/contracts/{GET}", headers=bearer("one"))).json()["findings"]
    assert (told["count"], told["sample_call"]) == (None, None)
    assert (await stage.http.get("/v1/contracts", headers=bearer("other"))).json()["contracts"] == []
    assert_problem(await stage.http.get(f"/v1/contracts/{GET}", headers=bearer("other")), 404, None)
    for key in ("one", "eye"):
        assert_problem(await judge(stage, "accept", GET, mark, key), 403, "ingest.scope")


@pytest.mark.parametrize(
    ("tool", "body", "status"),
    [
        (GET, {"fingerprint": "v1:000000000000", "reason": "x"}, 404),
        ("crm.gone", {"fingerprint": "all", "reason": "x"}, 404),
        (GET, {"fingerprint": "all", "reason": " "}, 400),
        (GET, {"fingerprint": "all", "reason": "two\nlines"}, 400),
        (GET, {"fingerprint": "all", "reason": "x" * 201}, 400),
        (GET, {"fingerprint": "all"}, 400),
        (GET, {"fingerprint": 7, "reason": "x"}, 400),
        (GET, {"fingerprint": "all", "reason": "x", "more": 1}, 400),
        (GET, [], 400),
    ],
)
async def test_what_cannot_be_meant_is_refused(stage: ContractStage, tool: str, body: Any, status: int) -> None:
    answer = await stage.http.post(f"/v1/contracts/{tool}/accept", json=body, headers=bearer("chief"))
    assert_problem(answer, status, answer.json()["class"])


async def test_findings_are_bounded_and_a_lost_reply_counts_once(redis: "Redis") -> None:
    findings = Findings(redis, Topics(), Shard(), most=5)
    for number in range(12):
        found = finding(Change(Kind.FIELD_ADDED, f"/f{number}"), GET)
        item = Sighting(
            fingerprint=found.fingerprint,
            tool=GET,
            call="c",
            count=1,
            finding=_json(found),
            event=json.dumps({"type": "x"}),
            alert="",
        )
        assert await findings.note([item]) == ["new"]
        assert await findings.note([item]) == ["known"]
    seen = await findings.seen()
    assert [one.finding.pointer for one in seen] == [f"/f{number}" for number in range(11, 6, -1)]
    assert {one.count for one in seen} == {1}
    assert await findings.judge("v1:nothing", "accepted", "{}") is False


def _json(found: Any) -> str:
    import msgspec  # noqa: PLC0415

    return msgspec.json.encode(found).decode()


async def test_the_commands_show_and_judge(stage: ContractStage, tmp_path: Path) -> None:
    sluice = Shell(tmp_path, {"SLUICE_URL": stage.url, "SLUICE_KEY": "key-of-chief"})
    mark = (await stage.answer(GET, {"id": 7, "locale": "de"})).findings[0].fingerprint
    listed = await sluice("contracts", "ls", "-o", "table")
    assert listed.code == 0, listed.err
    assert listed.out.splitlines()[1].split()[:3] == [GET, "block", "1"]
    shown = await sluice("contracts", "show", GET, "-o", "table")
    assert "text_as_number" not in shown.out
    assert "/id was string and now comes as a bare number." in shown.out
    assert f"sluice contracts accept {GET} {mark}" in shown.err
    done = await sluice("contracts", "accept", GET, mark, "--reason", "their changelog")
    assert (done.code, done.data["version"]) == (0, 1)
    assert "accepted: /id was string" in done.err
    rest = await sluice("contracts", "reject", GET, "all", "--reason", "no")
    assert [one["kind"] for one in rest.data["findings"]] == ["field_added"]
    missing = await sluice("contracts", "accept", GET, "v1:000000000000", "--reason", "x")
    assert (missing.code, missing.data["status"]) == (3, 404)
    denied = await sluice("contracts", "accept", GET, "all", "--reason", "x", SLUICE_KEY="key-of-one")
    assert denied.code == 4


async def test_schemas_and_answers_are_compared_offline(tmp_path: Path) -> None:
    sluice = Shell(tmp_path, {"SLUICE_URL": NOWHERE})
    old = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    (tmp_path / "new.json").write_text(json.dumps({**old, "required": []}))
    (tmp_path / "answer.json").write_text('{"id": "canary-value", "more": 1}')
    ran = await sluice("contracts", "diff", "old.json", "new.json")
    assert (ran.code, [one["kind"] for one in ran.data]) == (1, ["became_optional"])
    ran = await sluice("contracts", "diff", "old.json", "answer.json", "--answer", "-o", "table")
    assert (ran.code, "canary" in ran.out) == (0, False)
    assert "/more is new (integer)." in ran.out
    assert (await sluice("contracts", "diff", "old.json", "old.json")).data == []
    assert (await sluice("contracts", "diff", "gone.json", "old.json")).code == 3
    (tmp_path / "bad.json").write_text('{"type": 7}')
    assert (await sluice("contracts", "diff", "bad.json", "old.json")).code == 2
    for verb in ("ls", "show", "diff", "accept", "reject"):
        assert f"sluice contracts {verb}" in (await sluice("contracts", verb, "--help")).out

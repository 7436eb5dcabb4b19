"""The command line as a person meets it: real processes, a real gateway; data on stdout, messages on stderr, exit codes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from schemas.topics import FIELD
from tests.served import Served, key_of, listening, people, served
from tests.shell import NOWHERE, Shell
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

pytestmark = pytest.mark.wire

EVENT = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/a", "id": "e-1"}


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    # Commands are processes of their own: on a busy machine a few of them take longer than a call that is tried five times for 2 s.
    patient = manifest(vendor.url).replace("timeout: 2s", "timeout: 30s")
    async with served(redis_url, tmp_path / "data", patient) as running:
        yield running


@pytest.fixture
def sluice(gateway: Served, redis_url: str, tmp_path: Path) -> Shell:
    manifests = str(tmp_path / "data" / "manifests.yaml")
    data = str(tmp_path / "data")
    given = {"URL": gateway.url, "REDIS_URL": redis_url, "CONNECTORS": manifests, "DATA": data}
    return Shell(tmp_path, {f"SLUICE_{name}": value for name, value in given.items()})


@pytest.fixture
def alone(tmp_path: Path) -> Shell:
    """A command line where nothing runs."""
    return Shell(tmp_path, {"SLUICE_URL": NOWHERE})


async def test_call_prints_the_result_and_exits_0_when_it_completed(sluice: Shell) -> None:
    ran = await sluice("call", "crm.contacts.create", "-a", "email=a@b.c", "-a", "name=7", "--session", "run-42")
    assert ran.code == 0, ran.err
    assert ran.data["state"] == "completed"
    assert ran.data["session"] == "run-42"
    shown = await sluice("calls", "show", ran.data["call"], "-o", "jsonl")
    assert shown.code == 0
    assert [attempt["status"] for attempt in shown.data["attempts"]] == [201]


async def test_arguments_are_typed_by_the_schema_of_the_tool(sluice: Shell, vendor: VendorProcess) -> None:
    ran = await sluice("call", "crm.orders.create", "-a", "ref=7", "-a", "item=pump", "-a", "quantity=2")
    assert ran.code == 0, ran.err
    whole = await sluice("call", "crm.orders.create", "--json", "-", stdin='{"ref": "8", "item": "x"}')
    assert whole.code == 0, whole.err


async def test_call_exits_1_when_the_call_ended_otherwise_and_says_what_to_do(
    sluice: Shell, vendor: VendorProcess
) -> None:
    await vendor.aio.script("echo", Behaviour(do=Kind.STATUS, status=422, forever=True))
    ran = await sluice("call", "crm.echo", "-o", "table", NO_COLOR="1")
    assert ran.code == 1
    assert "http.422" in ran.out
    assert "\x1b[" not in ran.out + ran.err
    assert "next:" in ran.err


async def test_a_call_that_still_runs_exits_6_or_0_when_nobody_wanted_to_wait(
    sluice: Shell, vendor: VendorProcess
) -> None:
    await vendor.aio.script("echo", Behaviour(do=Kind.HOLD, forever=True))
    waited = await sluice("call", "crm.echo", "--wait", "1")
    assert waited.code == 6
    assert f"sluice calls show {waited.data['call']}" in waited.err
    at_once = await sluice("call", "crm.echo", "--wait", "0")
    assert at_once.code == 0
    too_late = await sluice("calls", "cancel", waited.data["call"])
    assert too_late.code == 1
    await vendor.aio.release()
    shown = await sluice("calls", "show", waited.data["call"], "--wait", "20")
    assert shown.data["state"] == "completed"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["call", "crm.ecko"], 3, "ingest.unknown_tool"),
        (["call", "crm.contacts.get", "-a", "id="], 2, "/arguments/id"),
        (["call", "crm.contacts.get"], 2, "the path needs this argument"),
        (["call", "crm.echo", "-a", "word"], 2, "name=value"),
        (["call", "crm.orders.create", "-a", "quantity=two"], 2, "quantity"),
        (["call", "crm.echo", "--json", "[]"], 2, "--json"),
        (["call", "crm.echo", "--connection", "x"], 3, "ingest.unknown_connection"),
        (["call", "crm.echo", "--deadline", "2020-01-01T00:00:00Z"], 1, "admission.deadline"),
        (["calls", "show", "01J"], 3, "01J"),
        (["calls", "cancel", "../../livez"], 3, "next: "),
        (["nonsense"], 2, "nonsense"),
        (["up", "--port", "99999"], 2, "--port"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_each_no_has_its_exit_code_and_says_why(sluice: Shell, words: list[str], code: int, said: str) -> None:
    ran = await sluice(*words)
    assert (ran.code, ran.shows_nothing) == (code, True), ran.err
    assert said in ran.err or code == 3
    assert "Traceback" not in ran.err


async def test_a_refusal_is_data_where_json_is_written_and_prose_on_a_table(sluice: Shell) -> None:
    for words, code, status in (
        (["call", "crm.ecko"], 3, 422),
        (["calls", "show", "01J"], 3, 404),
        (["call", "crm.contacts.get", "-a", "id="], 2, 422),
    ):
        for output in ([], ["-o", "json"], ["-o", "jsonl"]):
            ran = await sluice(*words, *output)
            assert (ran.code, ran.data["status"]) == (code, status), ran.err
            assert ran.data["type"].startswith("urn:sluice:problem:")
            assert ran.data["detail"] in ran.err
            assert (len(ran.out.splitlines()) == 1) == (output[-1:] == ["jsonl"])
        table = await sluice(*words, "-o", "table")
        assert (table.code, table.out) == (code, "")
    local = await sluice("call", "crm.echo", "-a", "word", "-o", "json")
    assert (local.code, local.out) == (2, "")


async def test_a_key_is_needed_where_somebody_is_declared(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    manifests = manifest(vendor.url) + people(tmp_path, {}, {"admin": "admin"})
    async with served(redis_url, tmp_path / "data", manifests) as gateway:
        shell = Shell(tmp_path, {"SLUICE_URL": gateway.url})
        nobody = await shell("call", "crm.echo")
        assert nobody.code == 4
        assert "SLUICE_KEY" in nobody.err
        assert (await shell("call", "crm.echo", SLUICE_KEY=key_of("admin"))).code == 0


async def test_where_nothing_runs_the_next_command_is_told(alone: Shell) -> None:
    for words in (("call", "crm.echo"), ("calls", "show", "01J"), ("publish", "-")):
        ran = await alone(*words, stdin='{"tool": "crm.echo", "arguments": {}}\n')
        assert (ran.code, ran.out) == (5, "")
        assert "sluice up" in ran.err


async def test_an_address_without_a_scheme_is_shown_with_one(alone: Shell) -> None:
    ran = await alone("lanes", "ls", SLUICE_URL="localhost:8080")
    assert (ran.code, ran.out) == (2, "")
    assert "SLUICE_URL=http://localhost:8080" in ran.err
    examined = await alone("doctor", SLUICE_URL="localhost:8080")
    api = next(one for one in examined.data if one["check"] == "api")
    assert (api["status"], api["fix"]) == ("fail", "export SLUICE_URL=http://localhost:8080")


async def test_a_404_of_another_server_is_no_answer_of_ours(alone: Shell) -> None:
    async def another(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b'{"error": "Not Found"}'})

    async with listening(another) as url:
        ran = await alone("lanes", "ls", SLUICE_URL=url)
    assert (ran.code, ran.out) == (5, "")
    assert f"{url} answered 404, but not as Sluice does." in ran.err
    assert "sluice doctor" in ran.err


async def test_a_letter_is_resolved_by_one_of_two_words(alone: Shell) -> None:
    ran = await alone("dlq", "resolve", "L")
    assert (ran.code, ran.out) == (2, "")
    assert "--done or --not-done" in ran.err
    assert "next: sluice dlq show L" in ran.err


async def test_publish_sends_what_is_an_event_and_tells_the_lines_that_are_none(
    sluice: Shell, redis: "Redis", vendor: VendorProcess, tmp_path: Path
) -> None:
    lines = [
        json.dumps({"tool": "crm.contacts.create", "arguments": {"email": "a@b.c"}}),
        "{",
        "",
        json.dumps({**EVENT, "data": {"tool": "crm.echo", "arguments": {}}}),
        json.dumps({"tool": "crm.echo"}),
        json.dumps({**EVENT, "type": "other", "data": {}}),
    ]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines))
    ran = await sluice("publish", "events.jsonl")
    assert ran.code == 6
    assert ran.data["published"] == 2
    assert ran.data["refused"] == 3
    assert [line.split(": ")[0] for line in ran.err.splitlines()[:3]] == [f"events.jsonl:{n}" for n in (2, 5, 6)]
    await vendor.aio.until(arrivals=2)
    entries: Any = await redis.xrange("tool-results")
    results = [json.loads(fields[FIELD.encode()]) for _, fields in entries]
    assert {result["data"]["request"]["source"] for result in results} <= {"agent/a", "agent/cli"}


async def test_publish_takes_many_from_a_pipe(sluice: Shell, gateway: Served) -> None:
    line = json.dumps({"tool": "crm.echo", "arguments": {}}) + "\n"
    ran = await sluice("publish", "-", stdin=line * 1000)
    assert (ran.code, ran.data["published"]) == (0, 1000), ran.err
    async with asyncio.timeout(30):
        while (await gateway.gateway.lanes.stats()).get("completed") != 1000:  # noqa: ASYNC110 - the queue tells when asked
            await asyncio.sleep(0.05)


async def test_publish_bounds_a_line_without_an_end(sluice: Shell, tmp_path: Path) -> None:
    (tmp_path / "big").write_text("x" * 2_000_000 + "\n" + json.dumps({"tool": "crm.echo", "arguments": {}}))
    ran = await sluice("publish", "big")
    assert (ran.code, ran.data["published"]) == (6, 1)
    assert "big:1:" in ran.err
    assert (await sluice("publish", "nothing")).code == 3
    none = await sluice("publish", "-", stdin="{\n")
    assert (none.code, none.data["published"], none.data["refused"]) == (2, 0, 1), none.err


async def test_connectors_are_listed_linted_and_explained(sluice: Shell) -> None:
    tools = (await sluice("connectors", "ls")).data
    assert {"tool": "crm.echo", "class": "safe"}.items() <= next(
        tool for tool in tools if tool["tool"] == "crm.echo"
    ).items()
    lint = await sluice("connectors", "lint")
    assert lint.code == 0
    assert lint.data == []
    explained = await sluice("connectors", "explain", "crm.contacts.create", "-o", "table")
    assert "manifests.yaml:" in "".join(explained.out.split())  # a long path goes on in the next line
    assert (await sluice("connectors", "explain", "crm.contacts.creat")).code == 3
    assert (await sluice("connectors", "schema")).data["$schema"].startswith("https://json-schema.org")


async def test_the_tools_are_those_of_the_gateway_that_runs(gateway: Served, sluice: Shell, tmp_path: Path) -> None:
    far = Shell(tmp_path, {"SLUICE_URL": gateway.url})
    assert (await far("connectors", "ls")).data == (await sluice("connectors", "ls")).data
    values = (await far("connectors", "explain", "crm.echo")).data
    assert values == (await sluice("connectors", "explain", "crm.echo")).data
    assert any("manifests.yaml:" in one["origin"] for one in values)
    wrong = await far("connectors", "explain", "crm.ecko")
    assert (wrong.code, "did you mean 'crm.echo'" in wrong.err) == (3, True), wrong.err
    # Files that are named are read, whatever the gateway has.
    (tmp_path / "empty").mkdir()
    assert (await far("connectors", "ls", "--connectors", "empty")).data == []


async def test_an_agent_is_explained_what_a_tool_takes_and_not_where_files_lie(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    manifests = manifest(vendor.url) + people(tmp_path, {"one": "crm.contacts.*"}, {"eye": "viewer"})
    async with served(redis_url, tmp_path / "data", manifests) as gateway:
        shell = Shell(tmp_path, {"SLUICE_URL": gateway.url})
        mine = await shell("connectors", "explain", "crm.contacts.create", SLUICE_KEY=key_of("one"))
        assert {one["key"]: one["origin"] for one in mine.data}["input"] == "the gateway"
        assert vendor.url not in mine.out
        assert (await shell("connectors", "explain", "crm.echo", SLUICE_KEY=key_of("one"))).code == 3
        whole = await shell("connectors", "explain", "crm.echo", SLUICE_KEY=key_of("eye"))
        assert {one["key"]: one["value"] for one in whole.data}["base_url"] == vendor.url


async def test_without_a_gateway_the_files_tell_and_their_first_error_is_told(alone: Shell, tmp_path: Path) -> None:
    (tmp_path / "connectors.d").mkdir()
    (tmp_path / "connectors.d" / "bad.yaml").write_text("apiVersion: sluice/v1\nkind: Conector\n")
    ran = await alone("connectors", "ls")
    assert (ran.code, ran.data) == (6, [])
    told = await alone("connectors", "explain", "crm.echo")
    assert (told.code, told.out) == (3, "")
    for err in (ran.err, told.err):
        assert f"No gateway tells its tools at {NOWHERE}; these are of connectors.d." in err
        assert "bad.yaml:2:7:" in err
        assert "Errors: 1;" in err


async def test_lint_points_at_the_place_and_exits_1(alone: Shell, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("apiVersion: sluice/v1\nkind: Conector\n")
    ran = await alone("connectors", "lint", "bad.yaml", "-o", "table")
    assert ran.code == 1
    assert "bad.yaml:2:7:" in ran.out


async def test_doctor_finds_a_running_gateway_well(sluice: Shell, tmp_path: Path) -> None:
    (tmp_path / "data").chmod(0o700)
    ran = await sluice("doctor")
    found = {finding["check"]: finding["status"] for finding in ran.data}
    assert ran.code == 0, ran.out
    for check in (
        "python",
        "data",
        "keys",
        "redis",
        "redis durability",
        "redis eviction",
        "consumer group",
        "secrets",
        "api",
    ):
        assert found[check] == "ok", ran.out
    assert "guards" not in found  # whatever is declared acts


async def test_doctor_names_what_is_wrong_and_how_to_mend_it_and_no_secret(alone: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "keys").write_text("k1:very-secret")
    (data / "keys").chmod(0o644)
    manifests = tmp_path / "m.yaml"
    manifests.write_text(
        "apiVersion: sluice/v1\nkind: Agent\nmetadata: {name: a}\nkey: ${env:SLUICE_TEST_NOT_SET}\nallow: ['*']\n"
    )
    url = "redis://user:very-secret@127.0.0.1:9/0"
    flags = ["--data", "data", "--connectors", "m.yaml", "--redis", url, "--host", "0.0.0.0"]
    ran = await alone("doctor", *flags)
    assert ran.code == 1
    failed = {finding["check"]: finding for finding in ran.data if finding["status"] == "fail"}
    assert set(failed) == {"keys", "redis", "secrets", "exposure"}
    assert all(finding["fix"] for finding in failed.values())
    assert "very-secret" not in ran.out + ran.err


async def test_help_is_immediate_and_every_command_has_an_example(alone: Shell) -> None:
    started = time.monotonic()
    ran = await alone("--help")
    assert time.monotonic() - started < 1.5  # 0.25 s on an idle machine; heavy imports alone would be more than that
    assert ran.code == 0
    for words in ("up", "worker", "api", "call", "publish", "doctor", "calls show", "calls cancel", "connectors ls"):
        told = await alone(*words.split(), "--help")
        assert f"sluice {words}" in told.out, told.out

"""Calls that wait for a person: nothing runs before the word, exactly what was shown runs after it, and once."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from redis.asyncio import Redis

from gateway.ports import Claim
from schemas.tool_call import ToolCall
from tests.served import Served, assert_problem, bearer, people, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess, manifest

pytestmark = pytest.mark.wire

SEND = "crm.messages.send"


def declared(vendor: VendorProcess, approval: str, folder: Path) -> str:
    text = manifest(vendor.url)
    return text.replace("    class: unsafe", f"    class: unsafe\n    approval: {approval}") + people(
        folder,
        {"one": "crm.*", "boss": "crm.*"},
        {"boss": "operator, approver", "second": "approver", "night": "operator", "guest": "viewer"},
    )


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    text = declared(vendor, "{required: true, timeout: 20s}", tmp_path)
    async with served(redis_url, tmp_path / "data", text, beat_every=0.1) as running:
        yield running


@pytest.fixture
async def brief(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    """With half a second to decide, after which a call is left to a person."""
    text = declared(vendor, "{required: true, timeout: 500ms, on_timeout: escalate}", tmp_path)
    async with served(redis_url, tmp_path / "data", text, beat_every=0.1) as running:
        yield running


async def ask(gateway: Served, ref: str, **more: Any) -> str:
    body = {"tool": SEND, "arguments": {"ref": ref, "text": "hi"}, **more}
    answer = await gateway.http.post("/v1/calls", json=body, headers=bearer("one"))
    assert answer.status_code == 202, answer.text
    call: str = answer.json()["call"]
    return call


async def say(gateway: Served, call: str, verb: str, who: str = "second", **body: Any) -> httpx2.Response:
    return await gateway.http.post(f"/v1/approvals/{call}/{verb}", json=body, headers=bearer(who))


async def end_of(gateway: Served, call: str) -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/calls/{call}?wait=20", headers=bearer("one"))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert "hold" not in found, found
    return found


async def test_nothing_runs_before_the_word_and_the_call_says_whom_it_waits_for(
    gateway: Served, vendor: VendorProcess
) -> None:
    call = await ask(gateway, "a")
    look = (await gateway.http.get(f"/v1/calls/{call}", headers=bearer("one"))).json()
    assert (look["state"], look["hold"]["reason"]) == ("waiting_for_review", "review")
    assert look["hold"]["action"] == "A reviewer must decide: sluice approvals ls"
    (one,) = (await gateway.http.get("/v1/approvals", headers=bearer("second"))).json()["approvals"]
    assert (one["call"], one["tool"], one["agent"], one["arguments"]) == (call, SEND, "one", {"ref": "a", "text": "hi"})
    assert (one["class"], one["on_timeout"], one["decision"]) == ("unsafe", "reject", None)
    await asyncio.sleep(0.3)
    assert vendor.counts().arrivals == 0
    assert (await say(gateway, call, "approve", hash=one["hash"], reason="checked")).status_code == 200
    ended = await end_of(gateway, call)
    assert (ended["state"], ended["effect"]) == ("completed", "executed")
    assert vendor.counts().effects_by_ref["messages.send"] == {"a": 1}
    assert (await gateway.http.get("/v1/approvals", headers=bearer("second"))).json()["approvals"] == []


async def test_a_denied_call_is_rejected_with_the_reason_and_never_sent(gateway: Served, vendor: VendorProcess) -> None:
    call = await ask(gateway, "b")
    assert_problem(await say(gateway, call, "deny"), 400, None)
    assert (await say(gateway, call, "deny", reason="wrong customer")).json()["decision"] == "denied"
    ended = await end_of(gateway, call)
    assert (ended["state"], ended["effect"], ended["error"]["class"]) == ("rejected", "not_executed", "approval.denied")
    assert "second denied it: wrong customer" in ended["error"]["message"]
    assert vendor.counts().arrivals == 0


async def test_nobody_decides_about_his_own_request_or_without_the_role(gateway: Served) -> None:
    body = {"tool": SEND, "arguments": {"ref": "c", "text": "hi"}}
    call = (await gateway.http.post("/v1/calls", json=body, headers=bearer("boss"))).json()["call"]
    for who in ("boss", "one", "night", "guest"):
        assert_problem(await say(gateway, call, "approve", who), 403, "ingest.scope")
    assert (await say(gateway, call, "approve", "second")).status_code == 200


async def test_a_word_about_something_else_than_what_waits_changes_nothing(
    gateway: Served, vendor: VendorProcess
) -> None:
    call = await ask(gateway, "d")
    assert_problem(await say(gateway, call, "approve", hash="0" * 64), 409, None)
    assert_problem(await say(gateway, "01JCW3H5N0000000000000000A", "approve"), 404, None)
    assert vendor.counts().arrivals == 0
    assert (await gateway.http.get(f"/v1/approvals/{call}", headers=bearer("second"))).json()["decision"] is None


async def test_arguments_that_were_changed_after_the_approval_never_run(
    gateway: Served, redis: "Redis", vendor: VendorProcess
) -> None:
    await gateway.http.post("/v1/lanes/pause", json={"connector": "crm", "reason": "x"}, headers=bearer("night"))
    call = await ask(gateway, "e")
    assert (await say(gateway, call, "approve")).status_code == 200
    books: Any = redis
    key = gateway.gateway.shard.key("calls")
    body = msgspec.json.decode(await books.hget(key, call), type=ToolCall)
    changed = msgspec.structs.replace(body, arguments={"ref": "e", "text": "send everything to me"})
    await books.hset(key, call, msgspec.json.encode(changed))
    await gateway.http.post("/v1/lanes/resume", json={"connector": "crm"}, headers=bearer("night"))
    ended = await end_of(gateway, call)
    assert (ended["state"], ended["error"]["class"]) == ("rejected", "approval.stale")
    assert vendor.counts().arrivals == 0


async def test_what_nobody_decides_in_time_goes_to_a_person_with_a_letter(
    brief: Served, redis: "Redis", vendor: VendorProcess
) -> None:
    call = await ask(brief, "f")
    ended = await end_of(brief, call)
    assert (ended["state"], ended["effect"], ended["error"]["class"]) == (
        "escalated", "not_executed", "approval.expired"
    )  # fmt: skip
    books: Any = redis
    assert await books.xlen("dead-letters") == 1
    assert vendor.counts().arrivals == 0
    assert_problem(await say(brief, call, "approve"), 404, None)


WORDS = ("approve", "deny", "cancel", "expire")


@pytest.mark.parametrize("order", list(itertools.permutations(WORDS, 2)), ids="-".join)
async def test_the_first_word_counts_whatever_comes_second(
    gateway: Served, vendor: VendorProcess, redis: "Redis", order: tuple[str, str]
) -> None:
    await gateway.http.post("/v1/lanes/pause", json={"connector": "crm", "reason": "x"}, headers=bearer("night"))
    call = await ask(gateway, "g")
    for word in order:
        await speak(gateway, redis, call, word)
    await gateway.http.post("/v1/lanes/resume", json={"connector": "crm"}, headers=bearer("night"))
    ended = await end_of(gateway, call)
    wanted = {"approve": "completed", "deny": "rejected", "cancel": "cancelled", "expire": "rejected"}[order[0]]
    if order == ("approve", "cancel"):
        wanted = "cancelled"  # an approved call that waits may still be withdrawn
    assert ended["state"] == wanted
    assert vendor.counts().arrivals == (wanted == "completed")


async def test_words_at_the_same_moment_make_one_end(gateway: Served, vendor: VendorProcess) -> None:
    calls = [await ask(gateway, f"h{number}") for number in range(12)]
    said = [
        speak_quietly(gateway, call, word)
        for call in calls
        for word in ("approve", "deny", "cancel", "approve", "deny")
    ]
    await asyncio.gather(*said)
    states = [(await end_of(gateway, call))["state"] for call in calls]
    assert set(states) <= {"completed", "rejected", "cancelled"}
    assert vendor.counts().arrivals == states.count("completed")
    assert vendor.counts().repeated_refs == []


async def test_a_reviewer_whose_process_dies_after_a_denial_leaves_nothing_that_may_run(
    gateway: Served, redis: "Redis", vendor: VendorProcess
) -> None:
    call = await ask(gateway, "i")
    parts = gateway.gateway.approvals._parts

    async def dies(_: Claim) -> Any:
        raise ConnectionError("killed")

    object.__setattr__(parts, "end", dies)
    with pytest.raises(httpx2.HTTPError):
        (await say(gateway, call, "deny", reason="no")).raise_for_status()
    books: Any = redis
    key = gateway.gateway.shard.key("leases")
    await books.zadd(key, {call: 1})  # its lease has ended
    ended = await end_of(gateway, call)
    assert (ended["state"], ended["error"]["class"]) == ("rejected", "approval.denied")
    assert vendor.counts().arrivals == 0


async def test_the_commands_show_exactly_what_would_run(gateway: Served, tmp_path: Path) -> None:
    sluice = Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": "key-of-second"})
    call = await ask(gateway, "j")
    listed = await sluice("approvals", "ls", "-o", "table", COLUMNS="140")
    assert call in listed.out
    assert '"ref": "j"' in listed.out
    shown = await sluice("approvals", "show", call)
    assert shown.data["arguments"] == {"ref": "j", "text": "hi"}
    assert f"next: sluice approvals approve {call} --hash {shown.data['hash']}" in shown.err
    ran = await sluice("approvals", "approve", call, "--hash", shown.data["hash"], "--reason", "ok")
    assert (ran.code, ran.data["decision"]) == (0, "approved"), ran.err
    again = await sluice("approvals", "deny", call, "--reason", "late")
    assert again.code in {1, 3}, again.out
    assert (await end_of(gateway, call))["state"] == "completed"


async def speak(gateway: Served, redis: "Redis", call: str, word: str) -> None:
    if word == "expire":
        books: Any = redis
        key, runs = gateway.gateway.shard.key("reviews"), gateway.gateway.shard.key("runs")
        if await books.zscore(key, call) is None:
            return
        run = msgspec.msgpack.decode(await books.hget(runs, call))
        run["review"]["until_us"] = 1
        await books.hset(runs, call, msgspec.msgpack.encode(run))
        await books.zadd(key, {call: 1})
        await gateway.gateway.approvals.expire()
    else:
        await speak_quietly(gateway, call, word)


async def speak_quietly(gateway: Served, call: str, word: str) -> None:
    if word == "cancel":
        await gateway.http.delete(f"/v1/calls/{call}", headers=bearer("one"))
    else:
        await say(gateway, call, word, reason="so be it")

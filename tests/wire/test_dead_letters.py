"""Letters over HTTP and at the command line: found, grouped, shown, decided; nothing personal in clear, and keys remembered while open."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from gateway.journal.letter_index import JournalIndex
from gateway.journal.letters import LetterIndex
from gateway.lanes.letters import LetterScan, LetterStates
from gateway.ports.letters import LetterFilter
from schemas.letter import LetterStatus
from tests.served import Served, assert_problem, bearer, key_of, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess
from tests.wire.letters import (
    BROKEN,
    CREATE,
    LOST,
    RAN_AND_LOST,
    SEND,
    WHO,
    declared,
    letter,
    listed,
    plan,
    replayed,
    say,
    show,
)

pytestmark = pytest.mark.wire

CANARY = "CANARY-5d1e9a"


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    async with served(redis_url, tmp_path / "data", declared(vendor, tmp_path), beat_every=0.1) as running:
        yield running


@pytest.fixture
def sluice(gateway: Served, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"SLUICE_URL": gateway.url, "SLUICE_KEY": key_of(WHO)})


async def some(gateway: Served, vendor: VendorProcess) -> tuple[list[str], str]:
    """Leave three letters that are alike and one that is not."""
    vendor.script("messages.send", BROKEN)
    alike = [await letter(gateway, SEND, {"ref": f"r{number}", "text": CANARY}) for number in range(3)]
    vendor.script("contacts.create", RAN_AND_LOST)
    return alike, await letter(gateway, CREATE, {"email": f"{CANARY}@b.c"}, session="s-9")


async def test_letters_are_found_by_what_they_are_page_by_page(gateway: Served, vendor: VendorProcess) -> None:
    alike, other = await some(gateway, vendor)
    for query, wanted in (
        ({}, [other, *alike[::-1]]),
        ({"tool": SEND}, alike[::-1]),
        ({"effect": "unknown"}, [other]),
        ({"error": "http.422"}, alike[::-1]),
        ({"session": "s-9"}, [other]),
        ({"text": "422 crm.messages"}, alike[::-1]),
        ({"status": "discarded"}, []),
        ({"since": "2100-01-01T00:00:00Z"}, []),
        ({"until": "2100-01-01T00:00:00Z", "agent": "one", "connector": "crm"}, [other, *alike[::-1]]),
    ):
        assert [one["letter"] for one in await listed(gateway, **query)] == wanted, query
    first = (await gateway.http.get("/v1/dead-letters?limit=3", headers=bearer(WHO))).json()
    rest = (await gateway.http.get(f"/v1/dead-letters?cursor={first['cursor']}", headers=bearer(WHO))).json()
    assert [one["letter"] for one in first["letters"] + rest["letters"]] == [other, *alike[::-1]]
    assert rest["cursor"] is None
    for wrong in ("status=new", "since=yesterday", "limit=0", "limit=x", "cursor=1"):
        assert_problem(await gateway.http.get(f"/v1/dead-letters?{wrong}", headers=bearer(WHO)), 400, None)


async def test_with_a_journal_letters_are_found_in_it_and_what_became_of_them_is_told(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    async with served(
        redis_url, tmp_path / "data", declared(vendor, tmp_path), beat_every=0.1, journals=True
    ) as gateway:
        alike, other = await some(gateway, vendor)
        index = JournalIndex(LetterIndex(gateway.gateway.history.database), cast("Any", Deaf()), newest_is(other))
        async with asyncio.timeout(10):
            while not await index._in_step():  # noqa: ASYNC110 - it follows, and tells nobody
                await asyncio.sleep(0.05)
        page = await index.find(LetterFilter(tool=SEND), cursor=None, limit=2)
        assert [row.letter for row in page.rows] == alike[:0:-1]
        rest = await index.find(LetterFilter(tool=SEND), cursor=page.cursor, limit=2)
        assert [row.letter for row in rest.rows] == alike[:1]
        assert [(group.letters, group.open) for group in await index.groups(LetterFilter())] == [(3, 3), (1, 1)]
        in_journal = await index.groups(LetterFilter())
        assert [group.effects for group in in_journal] == [{"not_executed": 3}, {"unknown": 1}]
        assert in_journal == await index_of_topic(gateway).groups(LetterFilter())
        assert [one["letter"] for one in await listed(gateway, tool=SEND)] == alike[::-1]
        await say(gateway, alike[0], "discard", reason="a test of ours")
        async with asyncio.timeout(10):
            while (became := await index.became(alike[0])) is None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        assert (became.status, became.by, became.reason) == ("discarded", WHO, "a test of ours")
        assert [one["letter"] for one in await listed(gateway, status="discarded")] == [alike[0]]
        await say(gateway, other, "resolve", outcome="done", reason="it is in their list")
        async with asyncio.timeout(10):
            resolved = LetterFilter(status=LetterStatus.RESOLVED)
            while not (await index.find(resolved, cursor=None, limit=2)).rows:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        (row,) = (await index.find(LetterFilter(effect="executed"), cursor=None, limit=2)).rows
        assert (row.letter, row.status) == (other, "resolved")
        assert [group.effects for group in await index.groups(LetterFilter(effect="executed"))] == [{"executed": 1}]


def index_of_topic(gateway: Served) -> LetterScan:
    parts = gateway.gateway
    return LetterScan(parts.redis, parts.topics, LetterStates(parts.redis, parts.shard, parts.lanes.home))


class Deaf:
    """A topic that nobody may ask."""

    async def became(self, _: str) -> None:
        return None


def newest_is(letter_id: str) -> Any:
    async def newest() -> str:
        return letter_id

    return newest


async def test_what_is_alike_is_one_group(gateway: Served, vendor: VendorProcess) -> None:
    alike, other = await some(gateway, vendor)
    await say(gateway, alike[0], "discard", reason="a test")
    found = (await gateway.http.get("/v1/dead-letters/groups", headers=bearer(WHO))).json()["groups"]
    assert [(one["letters"], one["open"], one["newest"]) for one in found] == [(3, 2, alike[2]), (1, 1, other)]
    assert found[0]["effects"] == {"not_executed": 3}
    assert (await listed(gateway, status="discarded"))[0]["reason"] == "a test"


async def test_an_agent_sees_its_own_letters_sealed_and_an_operator_may_open_them(
    gateway: Served, vendor: VendorProcess
) -> None:
    alike, other = await some(gateway, vendor)
    assert await listed(gateway, "other") == []
    assert len(await listed(gateway, "one", agent="other")) == 4
    assert_problem(await gateway.http.get(f"/v1/dead-letters/{other}", headers=bearer("other")), 404, None)
    for who in ("one", "guest"):
        assert (await show(gateway, other, who))["opened"] is None
        answer = await gateway.http.get(f"/v1/dead-letters/{other}?open=true", headers=bearer(who))
        assert_problem(answer, 403, "ingest.scope")
    assert (await show(gateway, alike[0], open="true"))["opened"]["arguments"] == {"ref": "r0", "text": CANARY}
    assert_problem(
        await gateway.http.get("/v1/dead-letters/01JCW3H5N0000000000000000A", headers=bearer(WHO)), 404, None
    )


async def test_nothing_personal_rests_in_clear_while_letters_wait_or_after_their_replay(
    gateway: Served, vendor: VendorProcess, redis: "Redis", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alike, other = await some(gateway, vendor)
    vendor.script("*")
    vendor.script("messages.send")
    vendor.script("contacts.create")
    await plan(gateway, ids=[alike[0]], patch=[{"op": "replace", "path": "/text", "value": CANARY + "2"}], dry_run=True)
    await replayed(gateway, *alike[1:], other)
    books: Any = redis
    for key in await books.keys("*"):
        if key == b"tool-results" or b":answer:" in key:
            continue  # the vendor's answer, which is the agent's
        packed = await books.dump(key)
        kind = await books.type(key)
        text = str(await books.xrange(key)) if kind == b"stream" else ""
        text += str(await books.hgetall(key)) if kind == b"hash" else ""
        assert CANARY not in text + str(packed), key
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
    told = capsys.readouterr()
    assert CANARY not in told.out + told.err


async def test_keys_are_remembered_while_a_letter_of_their_chain_is_open_and_a_day_after(
    gateway: Served, vendor: VendorProcess, redis: "Redis"
) -> None:
    vendor.script("messages.send", BROKEN)
    one = await letter(gateway, SEND, {"ref": "k", "text": "hi"}, idempotency_key="k-1")
    books: Any = redis
    (scope,) = await books.keys("*:idem:*")
    assert await books.ttl(scope) == -1
    over = await replayed(gateway, one)
    assert await books.ttl(scope) == -1  # its successor is open
    successor = over["letters"][0]["successor"]
    assert (await say(gateway, successor, "resolve", outcome="done", reason="by hand")).json()["status"] == "resolved"
    for key in await books.keys("*:idem:*"):
        assert 0 < await books.ttl(key) <= 86_400
    assert await books.hlen("{s0}:letters") == 0
    assert_problem(await say(gateway, successor, "discard", reason="late"), 409, None)


async def test_what_could_not_be_read_is_a_letter_that_can_only_be_put_away(gateway: Served, redis: "Redis") -> None:
    books: Any = redis
    await books.xadd("tool-calls", {"data": b"{broken"})
    found: list[dict[str, Any]] = []
    while not found:
        found = await listed(gateway)
    (one,) = found
    assert (one["error"], one["tool"], one["status"]) == ("decode.json", None, "open")
    made = await plan(gateway, ids=[one["letter"]], dry_run=True)
    assert "no call" in made["actions"][0]["reason"]
    assert (await say(gateway, one["letter"], "discard", reason="nonsense")).status_code == 200
    assert (await listed(gateway))[0]["status"] == "discarded"


async def test_the_commands_lead_from_a_group_to_a_replay(
    gateway: Served, vendor: VendorProcess, sluice: Shell
) -> None:
    alike, other = await some(gateway, vendor)
    wide = await sluice("dlq", "groups", "-o", "table", COLUMNS="120")
    group = wide.err.split("--group ")[1].split()[0]
    assert group in wide.out
    shown = await sluice("dlq", "ls", "--tool", SEND, "-o", "table", COLUMNS="120")
    assert all(one in shown.out for one in alike)
    assert max(len(line.rstrip()) for line in shown.out.splitlines()) <= 120
    assert (await sluice("dlq", "show", other, "-o", "table")).out.count(CANARY) == 0
    opened = await sluice("dlq", "show", alike[0], "--open", "-o", "table")
    assert CANARY in opened.out
    exported = await sluice("dlq", "export", "--group", group)
    assert [json.loads(line)["letter"] for line in exported.out.splitlines()] == alike[::-1]
    arrivals = vendor.counts().arrivals
    dry = await sluice("dlq", "replay", "--group", group, "--dry-run", "-o", "table")
    assert (dry.code, vendor.counts().arrivals) == (0, arrivals), dry.err
    assert "3 × call" in dry.out
    unasked = await sluice("dlq", "replay", "--group", group)
    assert (unasked.code, vendor.counts().arrivals) == (2, arrivals)
    vendor.script("messages.send")
    ran = await sluice("dlq", "replay", "--group", group, "--yes")
    assert (ran.code, ran.data["progress"]["replayed_ok"]) == (0, 3), ran.err
    vendor.script("contacts.create", BROKEN)
    failed = await sluice("dlq", "replay", other, "--yes")
    assert failed.code == 6, failed.err
    listed_ = await sluice("replays", "ls", "-o", "table")
    assert ran.data["replay"] in listed_.out
    assert (await sluice("replays", "show", ran.data["replay"])).data["state"] == "done"
    assert (await sluice("replays", "cancel", ran.data["replay"])).code == 1
    assert (await sluice("dlq", "show", "01JCW3H5N0000000000000000A")).code == 3
    for words in (["dlq", "replay"], ["dlq", "replay", other, "--group", group], ["dlq", "replay", "--where", "x"]):
        assert (await sluice(*words)).code == 2


async def test_the_commands_resolve_and_discard(gateway: Served, vendor: VendorProcess, sluice: Shell) -> None:
    vendor.script("messages.send", LOST)
    first, second = [await letter(gateway, SEND, {"ref": name, "text": "hi"}) for name in "ab"]
    told = await sluice("dlq", "show", first)
    assert f"next: Find out whether it ran, then: sluice dlq resolve {first} --done | --not-done" in told.err
    assert f"what was sent: sluice dlq show {first} --open" in told.err
    nothing = await sluice("dlq", "replay", first, "--dry-run")
    assert "There is nothing to replay" in nothing.err
    assert "replays start" not in nothing.err
    ran = await sluice("dlq", "resolve", first, "--not-done", "--reason", "asked them")
    assert (ran.code, ran.data["status"], ran.data["effect"]) == (0, "open", "not_executed"), ran.err
    assert f"next: sluice dlq replay {first} --dry-run" in ran.err
    shown = await sluice("dlq", "show", first, "-o", "table")
    assert f"not_executed (by {WHO})" in shown.out
    assert f"next: sluice dlq replay {first} --dry-run" in shown.err
    done = await sluice("dlq", "resolve", second, "--done")  # as the letter itself says it
    assert done.data["reason"] == "no reason was given"
    assert (done.data["status"], done.data["effect"], done.data["decided_by"]) == ("resolved", "executed", WHO)
    assert "its effect: executed" in done.err
    again = (await sluice("dlq", "show", second)).data
    assert (again["effect"], again["record"]["effect"]["state"]) == ("executed", "unknown")
    rows = (await sluice("dlq", "ls")).data
    assert {row["letter"]: row["effect"] for row in rows} == {first: "not_executed", second: "executed"}
    assert (await sluice("dlq", "discard", first, "--reason", "not needed")).code == 0
    assert (await sluice("dlq", "discard", first, "--reason", "not needed")).code == 1
    assert (await sluice("dlq", "resolve", first, "--reason", "x")).code == 2


async def test_an_editor_changes_what_did_not_run_and_only_that(
    gateway: Served, vendor: VendorProcess, sluice: Shell, tmp_path: Path
) -> None:
    vendor.script("contacts.create", BROKEN)
    one = await letter(gateway, CREATE, {"email": "wrong@b.c"})
    vendor.script("contacts.create")
    same = await sluice("dlq", "edit", one, "--yes", EDITOR="true")
    assert (same.code, "Nothing was changed" in same.err) == (0, True)
    assert (await sluice("dlq", "edit", one, "--yes", EDITOR="false")).code == 1
    broken = await sluice("dlq", "edit", one, "--yes", EDITOR="sh -c 'echo { > $0'")
    assert (broken.code, "not JSON" in broken.err) == (2, True)
    done = await sluice("dlq", "edit", one, "--yes", EDITOR="sed -i s/wrong/right/")
    assert (done.code, done.data["patched"], done.data["progress"]["replayed_ok"]) == (0, True, 1), done.err
    assert vendor.counts().effects_total == 1
    call = (await gateway.http.get(f"/v1/calls/{done.data['letters'][0]['call']}", headers=bearer("one"))).json()
    assert (call["result"]["email"], call["replay_of"]) == ("right@b.c", one)
    assert list(tmp_path.glob("sluice-*.json")) == []

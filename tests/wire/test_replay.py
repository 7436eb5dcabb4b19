"""Replay by the vendor's counts: what ran is never called again, what did not is called once, and nothing in between by itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.served import Served, assert_problem, bearer, served
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind
from tests.wire.letters import (
    BROKEN,
    CHANGED,
    CREATE,
    GET,
    LOST,
    ORDER,
    RAN_AND_LOST,
    SEND,
    UPDATE,
    WHO,
    declared,
    ended,
    letter,
    plan,
    replayed,
    say,
    show,
)

pytestmark = pytest.mark.wire


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    async with served(redis_url, tmp_path / "data", declared(vendor, tmp_path), beat_every=0.1) as running:
        yield running


async def test_what_did_not_run_is_called_once_under_its_own_key(gateway: Served, vendor: VendorProcess) -> None:
    vendor.script("contacts.create", BROKEN)
    one = await letter(gateway, CREATE, {"email": "a@b.c"}, session="s-1", idempotency_key="k-1")
    vendor.script("contacts.create")
    over = await replayed(gateway, one)
    assert over["state"] == "done", over
    assert over["progress"] == {
        "waiting": 0, "replaying": 0, "replayed_ok": 1, "replayed_failed": 0, "open": 0, "skipped": 0
    }  # fmt: skip
    counts = vendor.counts()
    assert sum(counts.effects["contacts.create"].values()) == 1
    assert len({arrival.key for arrival in vendor.arrivals("contacts.create")}) == 1
    assert (await show(gateway, one))["status"] == "replayed_ok"
    again = await gateway.http.post(
        "/v1/calls",
        json={"tool": CREATE, "arguments": {"email": "a@b.c"}, "session": "s-1", "idempotency_key": "k-1"},
        headers={**bearer("one"), "Prefer": "wait=5"},
    )
    assert (again.json()["state"], again.json()["replay_of"]) == ("completed", one)
    assert vendor.counts().arrivals == counts.arrivals


async def test_what_ran_is_only_judged_again_and_delivered_once_its_contract_fits(
    redis: "Redis", vendor: VendorProcess, redis_url: str, tmp_path: Path
) -> None:
    vendor.script("contacts.create", CHANGED)
    async with served(redis_url, tmp_path / "data", declared(vendor, tmp_path), beat_every=0.1) as gateway:
        first, second = [await letter(gateway, CREATE, {"email": f"{name}@b.c"}) for name in "ab"]
        arrivals = vendor.counts().arrivals
        over = await replayed(gateway, first)
        assert (over["revalidations"], over["progress"]["replayed_failed"]) == (1, 1)
        successor = await show(gateway, over["letters"][0]["successor"])
        lifecycle = successor["record"]["lifecycle"]
        assert (successor["effect"], lifecycle["parent_id"], lifecycle["generation"]) == ("executed", first, 1)
        assert (await show(gateway, first))["status"] == "replayed_failed"
    text = declared(vendor, tmp_path, lambda text: text.replace("required: [id], properties: {id", "properties: {id"))
    async with served(redis_url, tmp_path / "data", text, beat_every=0.1) as mended:
        over = await replayed(mended, successor["letter"], second)
        assert over["progress"]["replayed_ok"] == 2, over
        ended_call = (await mended.http.get(f"/v1/calls/{over['letters'][0]['call']}", headers=bearer("one"))).json()
    assert (ended_call["state"], ended_call["effect"]) == ("completed", "executed")
    assert ended_call["result"] == {"identifier": "c1"}
    assert ended_call["summary"] == "Its answer was judged again and delivered; nothing was sent."
    assert vendor.counts().arrivals == arrivals


async def test_an_effect_nobody_knows_is_called_again_only_where_the_vendor_will_not_run_it_twice(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("*", RAN_AND_LOST)
    keyed = await letter(gateway, CREATE, {"email": "a@b.c"})
    put = await letter(gateway, UPDATE, {"id": "c1", "email": "a@b.c"})
    unsafe = await letter(gateway, SEND, {"ref": "u", "text": "hi"})
    verifiable = await letter(gateway, ORDER, {"ref": "o", "item": "i"})
    vendor.script("*")
    before = vendor.counts()
    over = await replayed(gateway, keyed, put, unsafe, verifiable)
    assert over["progress"]["replayed_ok"] == 3
    assert over["excluded"] == 1
    for action in over["actions"]:
        if action["action"] == "excluded":
            assert "sluice dlq resolve" in action["next"]
    counts = vendor.counts()
    assert counts.arrivals == before.arrivals + 3
    assert counts.by_operation["orders.create"] == before.by_operation["orders.create"]  # it was asked for, and found
    assert counts.repeated_effects == counts.repeated_refs == []
    assert (await show(gateway, unsafe))["status"] == "open"


async def test_a_person_says_whether_it_ran_and_only_what_did_not_is_called(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("messages.send", RAN_AND_LOST)
    ran = await letter(gateway, SEND, {"ref": "ran", "text": "hi"})
    vendor.script("messages.send", LOST)
    lost = await letter(gateway, SEND, {"ref": "lost", "text": "hi"})
    vendor.script("messages.send")
    assert_problem(await say(gateway, lost, "resolve", outcome="not_done", reason=" "), 400, None)
    assert_problem(await say(gateway, lost, "resolve", "guest", outcome="not_done", reason="x"), 403, "ingest.scope")
    assert_problem(await say(gateway, lost, "resolve", "one", outcome="not_done", reason="x"), 403, "ingest.scope")
    assert (await say(gateway, ran, "resolve", outcome="done", reason="they have it")).json()["status"] == "resolved"
    decided = (await say(gateway, lost, "resolve", outcome="not_done", reason="asked them")).json()
    assert (decided["status"], decided["effect"], decided["decided_by"]) == ("open", "not_executed", WHO)
    assert_problem(await say(gateway, lost, "resolve", outcome="not_done", reason="again"), 409, None)
    over = await replayed(gateway, ran, lost)
    assert (over["excluded"], over["progress"]["replayed_ok"]) == (1, 1)
    assert vendor.counts().effects_by_ref["messages.send"] == {"ran": 1, "lost": 1}
    assert vendor.counts().repeated_refs == []


async def test_a_dry_run_calls_nothing_and_says_what_would_be_done(gateway: Served, vendor: VendorProcess) -> None:
    vendor.script("messages.send", BROKEN)
    letters = [await letter(gateway, SEND, {"ref": f"d{number}", "text": "hi"}) for number in range(3)]
    vendor.script("messages.send")
    await gateway.http.post("/v1/lanes/pause", json={"tool": SEND, "reason": "later"}, headers=bearer(WHO))
    arrivals = vendor.counts().arrivals
    made = await plan(gateway, filter={"tool": SEND}, dry_run=True)
    assert (made["state"], made["total"], made["calls"], made["excluded"]) == ("planned", 3, 3, 0)
    assert [one["letter"] for one in made["letters"]] == letters
    assert made["actions"][0]["effect"] == "not_executed"
    (lane,) = made["lanes"]
    assert lane["letters"] == 3
    assert "later" in lane["held"]
    assert made["eta_s"] > 0
    await asyncio.sleep(0.5)
    assert vendor.counts().arrivals == arrivals
    late = await letter_while_paused(gateway, vendor)
    started = await gateway.http.post(f"/v1/replays/{made['replay']}/start", headers=bearer(WHO))
    assert started.json()["state"] == "running"
    await gateway.http.post("/v1/lanes/resume", json={"tool": SEND}, headers=bearer(WHO))
    over = await ended(gateway, made["replay"])
    assert over["progress"]["replayed_ok"] == 3
    assert (await show(gateway, late))["status"] == "open"


async def letter_while_paused(gateway: Served, vendor: VendorProcess) -> str:
    """Make one more letter, which comes too late for a plan that is made."""
    vendor.script("contacts.create", BROKEN)
    made = await letter(gateway, CREATE, {"email": "late@b.c"})
    vendor.script("contacts.create")
    return made


async def test_two_operators_and_a_second_replay_send_each_letter_once(gateway: Served, vendor: VendorProcess) -> None:
    vendor.script("messages.send", BROKEN)
    await asyncio.gather(*(letter(gateway, SEND, {"ref": f"t{number}", "text": "hi"}) for number in range(12)))
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.1, forever=True))
    both = await asyncio.gather(
        plan(gateway, filter={"tool": SEND}), plan(gateway, who="second", filter={"tool": SEND})
    )
    for one in both:
        over = await ended(gateway, one["replay"])
        assert over["state"] == "done", over
    third = await ended(gateway, (await plan(gateway, filter={"tool": SEND}))["replay"])
    assert third["total"] == 0
    refs = vendor.counts().effects_by_ref["messages.send"]
    assert refs == {f"t{number}": 1 for number in range(12)}
    sums = [one["progress"] for one in [await ended(gateway, one["replay"]) for one in both]]
    assert sum(one["replayed_ok"] for one in sums) == 12
    assert sum(one["skipped"] for one in sums) <= 12


async def test_the_same_failure_again_stops_a_replay_before_it_has_tried_all(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("messages.send", BROKEN)
    await asyncio.gather(*(letter(gateway, SEND, {"ref": f"f{number}", "text": "hi"}) for number in range(30)))
    arrivals = vendor.counts().arrivals
    over = await ended(gateway, (await plan(gateway, filter={"tool": SEND}, stop_after=2, canary=4))["replay"])
    assert over["state"] == "stopped", over
    assert "failed again" in over["why"] or "of the first 4" in over["why"]
    sent = vendor.counts().arrivals - arrivals
    assert 2 <= sent <= 4  # no more than the canary
    assert over["progress"]["waiting"] == 30 - sent
    vendor.script("messages.send")
    resumed = await gateway.http.post(
        f"/v1/replays/{over['replay']}/resume", json={"reason": "mended"}, headers=bearer(WHO)
    )
    assert resumed.json()["state"] == "running"
    over = await ended(gateway, over["replay"])
    assert (over["state"], over["progress"]["replayed_ok"]) == ("done", 30 - sent)
    assert vendor.counts().repeated_refs == []


async def test_a_pause_and_a_cancel_send_nothing_more_from_the_moment_they_are_answered(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("messages.send", BROKEN)
    await asyncio.gather(*(letter(gateway, SEND, {"ref": f"p{number}", "text": "hi"}) for number in range(20)))
    vendor.script("messages.send", Behaviour(do=Kind.DELAY, seconds=0.2, forever=True))
    made = await plan(gateway, filter={"tool": SEND}, canary=3)
    await asyncio.sleep(0.15)
    paused = (await gateway.http.post(f"/v1/replays/{made['replay']}/pause", headers=bearer(WHO))).json()
    assert paused["state"] == "paused"
    taken = 20 - paused["progress"]["waiting"]
    await asyncio.sleep(0.8)
    look = (await gateway.http.get(f"/v1/replays/{made['replay']}", headers=bearer(WHO))).json()
    assert look["progress"]["waiting"] == 20 - taken
    assert len(vendor.counts().effects_by_ref.get("messages.send", {})) == taken
    await gateway.http.post(f"/v1/replays/{made['replay']}/cancel", headers=bearer(WHO))
    assert_problem(await gateway.http.post(f"/v1/replays/{made['replay']}/resume", headers=bearer(WHO)), 409, None)
    await asyncio.sleep(0.3)
    assert len(vendor.counts().effects_by_ref.get("messages.send", {})) == taken


async def test_a_letter_is_replayed_three_generations_and_then_left_to_a_person(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("messages.send", BROKEN)
    one = root = await letter(gateway, SEND, {"ref": "g", "text": "hi"})
    for generation in range(1, 4):
        over = await replayed(gateway, one, canary=0)
        assert over["progress"]["replayed_failed"] == 1, over
        one = over["letters"][0]["successor"]
        lifecycle = (await show(gateway, one))["record"]["lifecycle"]
        assert (lifecycle["root_id"], lifecycle["generation"]) == (root, generation)
    arrivals = vendor.counts().arrivals
    over = await replayed(gateway, one)
    assert (over["excluded"], over["state"]) == (1, "done")
    assert "replayed 3 times" in over["actions"][0]["reason"]
    assert vendor.counts().arrivals == arrivals


async def test_a_patch_makes_a_new_request_with_a_key_of_its_own_and_never_of_what_may_have_run(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("contacts.create", BROKEN)
    wrong = await letter(gateway, CREATE, {"email": "wrong@b.c"})
    vendor.script("contacts.create", CHANGED)
    ran = await letter(gateway, CREATE, {"email": "ran@b.c"})
    vendor.script("contacts.create")
    change = [
        {"op": "test", "path": "/email", "value": "wrong@b.c"},
        {"op": "replace", "path": "/email", "value": "x@b.c"},
    ]
    before = {arrival.key for arrival in vendor.arrivals("contacts.create")}
    unfit = await plan(gateway, ids=[wrong], patch=[{"op": "remove", "path": "/email"}], dry_run=True)
    assert unfit["excluded"] == 1
    assert "email" in unfit["actions"][0]["reason"]
    over = await replayed(gateway, ran, patch=[{"op": "replace", "path": "/email", "value": "x@b.c"}])
    assert "only what did not run may be changed" in over["actions"][0]["reason"]
    arrivals = vendor.counts().arrivals
    over = await replayed(gateway, wrong, patch=change)
    assert (over["patched"], over["progress"]["replayed_ok"]) == (True, 1)
    assert vendor.counts().arrivals == arrivals + 1
    (new,) = {arrival.key for arrival in vendor.arrivals("contacts.create")} - before
    assert new


async def asked(gateway: Served) -> dict[str, Any]:
    """Return the one review that waits, when it does."""
    for _ in range(200):
        found: list[dict[str, Any]] = (await gateway.http.get("/v1/approvals", headers=bearer("boss"))).json()[
            "approvals"
        ]
        if found:
            (one,) = found
            return one
        await asyncio.sleep(0.05)
    raise AssertionError("nothing waits for a review")


async def test_a_replayed_call_of_an_operation_with_an_approval_waits_for_somebody_else(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    text = declared(
        vendor, tmp_path, lambda text: text.replace("class: unsafe", "class: unsafe\n    approval: {required: true}")
    )
    async with served(redis_url, tmp_path / "data", text, beat_every=0.1) as gateway:
        vendor.script("messages.send", BROKEN)
        call = (
            await gateway.http.post(
                "/v1/calls", json={"tool": SEND, "arguments": {"ref": "a", "text": "hi"}}, headers=bearer("one")
            )
        ).json()["call"]
        await gateway.http.post(f"/v1/approvals/{call}/approve", json={}, headers=bearer("boss"))
        over: Any = (await gateway.http.get(f"/v1/calls/{call}?wait=10", headers=bearer("one"))).json()
        vendor.script("messages.send")
        made = await plan(gateway, ids=[over["error"]["dead_letter"]])
        waits = await asked(gateway)
        assert waits["arguments"] == {"ref": "a", "text": "hi"}
        await gateway.http.post(f"/v1/approvals/{waits['call']}/deny", json={"reason": "no"}, headers=bearer("boss"))
        done = await ended(gateway, made["replay"])
        assert done["progress"]["open"] == 1, done
        assert vendor.counts().effects.get("messages.send", {}) == {}
        made = await plan(gateway, who="boss", ids=[over["error"]["dead_letter"]])
        waits = await asked(gateway)
        yes = f"/v1/approvals/{waits['call']}/approve"
        assert_problem(await gateway.http.post(yes, json={}, headers=bearer("boss")), 403, "ingest.scope")
        assert (await gateway.http.post(yes, json={}, headers=bearer("third"))).status_code == 200
        assert (await ended(gateway, made["replay"]))["progress"]["replayed_ok"] == 1
        assert vendor.counts().effects_by_ref["messages.send"] == {"a": 1}


async def test_who_may_only_read_starts_nothing(gateway: Served) -> None:
    for who in ("guest", "one"):
        answer = await gateway.http.post("/v1/replays", json={"filter": {}}, headers=bearer(who))
        assert_problem(answer, 403, "ingest.scope")
    assert (await gateway.http.get("/v1/replays", headers=bearer("guest"))).status_code == 200
    assert_problem(await gateway.http.get("/v1/replays", headers=bearer("one")), 403, "ingest.scope")
    bodies: list[dict[str, Any]] = [
        {},
        {"ids": []},
        {"filter": {"colour": "red"}},
        {"ids": ["x"], "share": 2},
        {"filter": {}, "canary": -1},
    ]
    for body in bodies:
        answer = await gateway.http.post("/v1/replays", json=body, headers=bearer(WHO))
        assert_problem(answer, 400, None)
    assert_problem(await gateway.http.post("/v1/replays", json={"ids": ["x"]}, headers=bearer(WHO)), 404, None)


async def test_a_safe_operation_is_read_again(gateway: Served, vendor: VendorProcess) -> None:
    vendor.script("contacts.get", RAN_AND_LOST)
    one = await letter(gateway, GET, {"id": "c1"})
    vendor.script("contacts.get", Behaviour(do=Kind.STATUS, status=200, body={"id": "c1"}, forever=True))
    assert (await replayed(gateway, one))["progress"]["replayed_ok"] == 1


async def test_a_key_that_the_vendor_may_have_forgotten_is_not_used_again_not_even_by_a_call_that_waited(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    text = declared(vendor, tmp_path, lambda text: text.replace("window: 24h", "window: 4s"))
    async with served(redis_url, tmp_path / "data", text, beat_every=0.1) as gateway:
        vendor.script("contacts.create", RAN_AND_LOST)
        one = await letter(gateway, CREATE, {"email": "a@b.c"})
        vendor.script("contacts.create")
        arrivals = vendor.counts().arrivals
        await gateway.http.post("/v1/lanes/pause", json={"tool": CREATE, "reason": "x"}, headers=bearer(WHO))
        made = await plan(gateway, ids=[one])
        assert made["calls"] == 1
        await asyncio.sleep(3.2)  # the window of three seconds, less the time an attempt may take, is over
        await gateway.http.post("/v1/lanes/resume", json={"tool": CREATE}, headers=bearer(WHO))
        over = await ended(gateway, made["replay"])
        assert over["progress"]["replayed_failed"] == 1
        successor = await show(gateway, over["letters"][0]["successor"])
        assert successor["effect"] == "unknown"
        assert "forgotten" in successor["record"]["failure"]["message"]
        over = await replayed(gateway, successor["letter"])
        assert (over["excluded"], "forgotten" in over["actions"][0]["reason"]) == (1, True)
        assert vendor.counts().arrivals == arrivals


async def test_a_failure_of_a_replay_does_not_forget_that_the_call_may_have_run(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("contacts.create", RAN_AND_LOST)
    one = await letter(gateway, CREATE, {"email": "a@b.c"})
    vendor.script("contacts.create", BROKEN)
    over = await replayed(gateway, one)
    successor = await show(gateway, over["letters"][0]["successor"])
    assert successor["effect"] == "unknown"
    assert successor["record"]["effect"]["evidence"] == "earlier_attempt"
    over = await replayed(gateway, successor["letter"], patch=[{"op": "replace", "path": "/email", "value": "x@b.c"}])
    assert over["excluded"] == 1
    vendor.script("contacts.create")
    assert (await replayed(gateway, successor["letter"]))["progress"]["replayed_ok"] == 1
    assert vendor.counts().effects_total == 1
    assert len({arrival.key for arrival in vendor.arrivals("contacts.create")}) == 1


async def test_a_replay_takes_its_share_of_a_lane_and_no_more(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess
) -> None:
    limits = "limits: {core: {rate: 20/s, per: connector}}\ndefaults: {limits: {core: 1}, "
    text = declared(vendor, tmp_path, lambda text: text.replace("defaults: {", limits))
    async with served(redis_url, tmp_path / "data", text, beat_every=0.1) as gateway:
        vendor.script("messages.send", BROKEN)
        await asyncio.gather(*(letter(gateway, SEND, {"ref": f"r{number}", "text": "hi"}) for number in range(12)))
        vendor.reset()
        made = await plan(gateway, filter={}, share=0.25, canary=0)
        (lane,) = made["lanes"]
        assert (lane["pace_per_s"], lane["eta_s"]) == (5.0, 2.4)
        over = await ended(gateway, made["replay"])
        assert over["progress"]["replayed_ok"] == 12, over
        assert vendor.window(1.0) <= 7  # five a second, and one at either edge

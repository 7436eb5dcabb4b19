"""What a plan tells and keeps: why a chain goes on, what a patch changes, and what its calls take of the limits."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.served import Served, assert_problem, bearer, served
from tests.vendor.client import VendorProcess
from tests.wire.letters import BROKEN, CREATE, RAN_AND_LOST, SEND, WHO, declared, ended, letter, plan, replayed, show

pytestmark = pytest.mark.wire

WHY = "they fixed their validation"


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    def limited(text: str) -> str:
        limits = "limits: {core: {rate: 500/s, per: connector}}\ndefaults: {limits: {core: 1}, "
        return text.replace("defaults: {", limits)

    text = declared(vendor, tmp_path, limited)
    async with served(redis_url, tmp_path / "data", text, beat_every=0.1) as running:
        yield running


async def exhausted(gateway: Served, vendor: VendorProcess) -> str:
    """Return a letter that was replayed as often as it may be."""
    vendor.script("messages.send", BROKEN)
    one = await letter(gateway, SEND, {"ref": "g", "text": "hi"})
    for _ in range(3):
        one = (await replayed(gateway, one, canary=0))["letters"][0]["successor"]
    return one


async def test_a_chain_that_is_long_enough_goes_on_only_for_a_reason_that_is_kept(
    gateway: Served, vendor: VendorProcess
) -> None:
    one = await exhausted(gateway, vendor)
    barred = await plan(gateway, ids=[one], dry_run=True)
    assert barred["excluded"] == 1
    assert f"sluice dlq replay {one} --override" in barred["actions"][0]["next"]
    for empty in (" ", "", "x" * 501):
        answer = await gateway.http.post("/v1/replays", json={"ids": [one], "override": empty}, headers=bearer(WHO))
        assert_problem(answer, 400, None)
    refused = await gateway.http.post("/v1/replays", json={"ids": [one], "override": WHY}, headers=bearer("guest"))
    assert_problem(refused, 403, "ingest.scope")
    before = vendor.counts().arrivals
    failed = await replayed(gateway, one, override=WHY)
    assert (failed["override"], failed["progress"]["replayed_failed"]) == (WHY, 1), failed
    assert vendor.counts().arrivals == before + 1
    successor = failed["letters"][0]["successor"]
    lifecycle = (await show(gateway, successor))["record"]["lifecycle"]
    assert (lifecycle["generation"], lifecycle["parent_id"], lifecycle["override"]) == (4, one, WHY)
    assert (await plan(gateway, ids=[successor], dry_run=True))["excluded"] == 1  # a reason is for one time
    vendor.script("messages.send")
    assert (await replayed(gateway, successor, override=WHY))["progress"]["replayed_ok"] == 1
    assert vendor.counts().effects_by_ref["messages.send"] == {"g": 1}


async def test_a_reason_to_go_on_says_nothing_about_whether_it_ran(gateway: Served, vendor: VendorProcess) -> None:
    vendor.script("messages.send", RAN_AND_LOST)
    one = await letter(gateway, SEND, {"ref": "u", "text": "hi"})
    before = vendor.counts().arrivals
    over = await replayed(gateway, one, override=WHY)
    assert (over["excluded"], vendor.counts().arrivals) == (1, before)
    assert "override" not in (await show(gateway, one))["record"]["lifecycle"]


async def test_a_plan_shows_what_a_patch_changes_and_its_values_only_to_who_may_open_them(
    gateway: Served, vendor: VendorProcess
) -> None:
    vendor.script("contacts.create", BROKEN)
    one = await letter(gateway, CREATE, {"email": "private@b.c", "name": "Ada"})
    vendor.script("contacts.create")
    change = [
        {"op": "replace", "path": "/email", "value": "other@b.c"},
        {"op": "remove", "path": "/name"},
    ]
    arrivals = vendor.counts().arrivals
    made = await plan(gateway, ids=[one], patch=change, dry_run=True)
    sealed = [
        {"pointer": "/email", "change": "replaced", "before": "text of 11 characters", "after": "text of 9 characters"},
        {"pointer": "/name", "change": "removed", "before": "text of 3 characters", "after": None},
    ]
    assert sorted(made["changes"], key=lambda change: change["pointer"]) == sealed
    path = f"/v1/replays/{made['replay']}"
    seen = await gateway.http.get(path, headers=bearer("guest"))
    assert seen.json()["changes"] == made["changes"]
    assert "private" not in seen.text
    assert_problem(await gateway.http.get(f"{path}?open=true", headers=bearer("guest")), 403, "ingest.scope")
    opened = (await gateway.http.get(f"{path}?open=true", headers=bearer(WHO))).json()["changes"]
    assert {change["pointer"]: (change["before"], change["after"]) for change in opened} == {
        "/email": ("private@b.c", "other@b.c"),
        "/name": ("Ada", None),
    }
    assert vendor.counts().arrivals == arrivals
    await gateway.http.post(f"{path}/start", headers=bearer(WHO))
    assert (await ended(gateway, made["replay"]))["progress"]["replayed_ok"] == 1


async def test_a_plan_tells_what_its_calls_take_of_each_limit(gateway: Served, vendor: VendorProcess) -> None:
    vendor.script("messages.send", BROKEN)
    letters = [await letter(gateway, SEND, {"ref": f"r{number}", "text": "hi"}) for number in range(3)]
    vendor.script("messages.send")
    made = await plan(gateway, ids=letters, dry_run=True)
    (lane,) = made["lanes"]
    (limit,) = lane["limits"]
    assert (limit["limit"], limit["most"], limit["takes"]) == ("core", "500/s", 3)
    assert limit["used"] is not None
    await gateway.http.post(f"/v1/replays/{made['replay']}/start", headers=bearer(WHO))
    over = await ended(gateway, made["replay"])
    assert over["progress"]["replayed_ok"] == 3
    assert over["lanes"][0]["limits"][0]["takes"] == 0

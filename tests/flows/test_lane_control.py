"""Lane control on the real lanes: what is listed, what a pause closes, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog

from connectors.declared import Limit, Use
from gateway.flow.lane_control import LaneControl, Target, Wanted, target_of
from gateway.flow.lane_target import check, lane_of
from gateway.flow.lane_view import view
from gateway.flow.refusals import Nowhere, Unfit
from gateway.lanes.overview import Overview
from schemas.lifecycle import HoldReason
from schemas.tool_call import restored
from tests.examples import operation
from tests.flows.stage import CREATE, GET, SEND, SHARD, Stage, catalog, event

LIMIT = Limit(name="core", per="connector", kind="strict", most=2, window_us=60_000_000, text="2/min")
PACED = operation(tool="erp.read", connector="erp", name="read", uses=(Use(limit=LIMIT),))


PAY = "bank.pay"


def anybody(_: str) -> bool:
    return True


@pytest.fixture
def control(stage: Stage) -> LaneControl:
    stage.catalog = catalog(operations={**stage.catalog.operations, PACED.tool: PACED})
    return LaneControl(stage.lanes, Overview(stage.redis, SHARD, high_bytes=1 << 30), lambda: stage.catalog)


async def fill(stage: Stage, **counts: int) -> None:
    """Put calls into lanes; a name is a tool with `__` for its dots."""
    bodies = [
        event(tool, at=("agent/a", f"{tool}-{number}"), **({"connection": "main"} if tool == PAY else {}))
        for tool, count in ((name.replace("__", "."), count) for name, count in counts.items())
        for number in range(count)
    ]
    await stage.take_in(*bodies)


async def listed(control: LaneControl, **wanted: Any) -> list[tuple[str, int]]:
    page = await control.page(Wanted(**{"sees": anybody, **wanted}), 0)
    assert page.cursor == 0
    return [(state.lane, state.waiting) for state in page.lanes]


async def test_lanes_are_listed_by_how_many_calls_wait(stage: Stage, control: LaneControl) -> None:
    await fill(stage, crm__contacts__get=2, crm__messages__send=3, bank__pay=1)
    assert await listed(control) == [("crm|-|messages.send", 3), ("crm|-|contacts.get", 2), ("bank|main|pay", 1)]
    assert await listed(control, connector="bank") == [("bank|main|pay", 1)]
    assert await listed(control, sees=lambda tool: tool == GET) == [("crm|-|contacts.get", 2)]
    assert await listed(control, held=True) == []


async def test_many_lanes_come_in_pages_each_once(stage: Stage, control: LaneControl) -> None:
    names = [f"crm|-|op{number}" for number in range(3000)]
    await stage.redis.hset(SHARD.key("held"), mapping=dict.fromkeys(names, 1))
    seen: list[str] = []
    cursor, pages = 0, 0
    while pages == 0 or cursor:
        page = await control.page(Wanted(sees=anybody), cursor)
        assert len(page.lanes) <= 2200
        seen += [state.lane for state in page.lanes]
        cursor, pages = page.cursor, pages + 1
    assert pages > 1
    assert sorted(seen) == sorted(names)


async def test_a_limit_that_is_used_up_holds_only_where_something_waits(stage: Stage, control: LaneControl) -> None:
    await fill(stage, erp__read=3)
    assert len(await stage.claim()) == 2
    page = await control.page(Wanted(sees=anybody, held=True), 0)
    shown = view(page.lanes[0], page.now_us, whole=True)
    assert shown.hold is not None
    assert (shown.hold.reason, shown.hold.limit) == (HoldReason.RATE_LIMIT, "core")
    assert (shown.waiting, shown.under_way_or_delayed, shown.limits[0].used) == (1, 2, 2)
    assert shown.eta_s is not None
    assert shown.eta_s >= 60
    call = (await stage.redis.zrange(SHARD.key("lane:erp|-|read"), 0, 0))[0].decode()
    assert await stage.status.cancel(call) == "cancelled"
    assert await listed(control, held=True) == []
    hidden = view((await control.page(Wanted(sees=anybody), 0)).lanes[0], page.now_us, whole=False)
    assert (hidden.live, hidden.waiting, hidden.under_way_or_delayed, hidden.oldest_s) == (None, None, None, None)
    assert (hidden.limits[0].used, hidden.limits[0].most) == (None, 2)


@pytest.mark.parametrize(
    ("target", "gate", "text"),
    [
        ((None, "crm.contacts.get", None), "@crm||contacts.get", "crm.contacts.get"),
        (("crm", None, None), "@crm", "crm"),
        (("bank", None, "main"), "@bank|main", "bank --connection main"),
        ((None, "bank.pay", "main"), "@bank|main|pay", "bank.pay --connection main"),
    ],
)
def test_a_target_has_one_gate_and_is_written_as_the_commands_take_it(
    target: tuple[str | None, str | None, str | None], gate: str, text: str
) -> None:
    read = target_of(*target)
    assert (read.gate, read.text) == (gate, text)
    check(read, catalog())


@pytest.mark.parametrize(
    ("target", "held", "free"),
    [
        (Target(connector="crm"), {CREATE, GET}, {PAY}),
        (Target(connector="crm", operation="contacts.get"), {GET}, {CREATE, "bank.pay"}),
        (Target(connector="bank", connection="main"), {PAY}, {GET}),
        (Target(connector="bank", connection="spare"), set[str](), {PAY, GET}),
        (Target(connector="bank", connection="main", operation="pay"), {PAY}, {GET}),
    ],
    ids=lambda value: value.gate if isinstance(value, Target) else None,
)
async def test_a_pause_holds_the_lanes_of_its_target_and_no_others(
    stage: Stage, control: LaneControl, target: Target, held: set[str], free: set[str]
) -> None:
    paused = await control.pause(target, reason="a look at it", lasting=None, by="ann")
    assert (paused.target, paused.until_us) == (target.text, None)
    await fill(stage, **dict.fromkeys((tool.replace(".", "__") for tool in held | free), 1))
    claims = await stage.claim()
    assert {restored(claim.body).tool for claim in claims} == free
    page = await control.page(Wanted(sees=anybody, held=True), 0)
    for state in page.lanes:
        hold = view(state, page.now_us, whole=True).hold
        assert hold is not None
        assert "a look at it (paused by ann)" in hold.detail
        assert hold.action.endswith(f"sluice lanes resume {target.text}")
    assert len(page.lanes) == len(held)
    assert (await control.resume(target, by="ann")).was_paused
    claims = await stage.claim()
    assert {restored(claim.body).tool for claim in claims} == held


async def test_a_pause_is_replaced_by_the_next_and_ends_by_itself(stage: Stage, control: LaneControl) -> None:
    target = Target(connector="crm")
    await control.pause(target, reason="first", lasting=None, by="ann")
    await fill(stage, crm__contacts__get=1)
    assert await stage.claim() == ()
    second = await control.pause(target, reason="second", lasting="250ms", by="bob")
    page = await control.page(Wanted(sees=anybody), 0)
    assert second.until_us is not None
    assert 0 < second.until_us - page.now_us <= 250_000
    assert "second (paused by bob)" in str(view(page.lanes[0], page.now_us, whole=True).hold)
    while not (claims := await stage.claim()):
        now_us, _ = await stage.lanes.survey([])
        assert now_us < second.until_us + 50_000
    assert len(claims) == 1
    assert (await control.resume(target, by="ann")).was_paused is False


async def test_a_resume_says_what_is_still_paused(stage: Stage, control: LaneControl) -> None:
    wide, tool, elsewhere = (
        Target(connector="crm"),
        Target(connector="crm", operation="contacts.get"),
        Target(connector="bank"),
    )
    for target in (wide, tool, elsewhere):
        await control.pause(target, reason="x", lasting=None, by="ann")
    assert (await control.resume(tool, by="ann")).still == ["crm"]
    other = Target(connector="crm", operation="messages.send")
    assert (await control.resume(other, by="ann")).still == ["crm"]
    assert (await control.resume(wide, by="ann")).still == []
    again = await control.resume(wide, by="ann")
    assert (again.was_paused, again.still) == (False, [])


async def test_what_a_vendor_closed_is_no_pause(stage: Stage, control: LaneControl) -> None:
    target = Target(connector="crm")
    await stage.lanes.close(target.gate, HoldReason.BREAKER_OPEN, for_us=0, detail="down")
    await control.pause(target, reason="x", lasting=None, by="ann")
    await control.resume(target, by="ann")
    assert (await control.resume(target, by="ann")).was_paused is False
    await fill(stage, crm__contacts__get=1)
    assert await stage.claim() == ()


async def test_a_resume_opens_what_the_vendor_closed_within_its_target_and_names_what_it_leaves(
    stage: Stage, control: LaneControl
) -> None:
    for key in ("crm|core", "crm|-|core", "crm||contacts.get|core", "bank|core", "@bank|main"):
        await stage.lanes.close(
            key, HoldReason.RATE_LIMIT, for_us=60_000_000, detail="the vendor asked to wait", most=1
        )
    tool = await control.resume(Target(connector="crm", operation="contacts.get"), by="ann")
    assert (tool.was_paused, tool.opened, tool.still) == (False, ["crm / contacts.get / core"], ["crm"])
    whole = await control.resume(Target(connector="crm"), by="ann")
    assert (whole.opened, whole.still) == (["crm / core", "crm / core"], [])
    main = await control.resume(Target(connector="bank", connection="main"), by="ann")
    assert (main.opened, main.still) == (["bank / main"], ["bank"])
    assert [one.key for one in await Overview(stage.redis, SHARD, high_bytes=1).closed()] == ["bank|core"]


async def test_what_was_removed_while_it_was_paused_can_be_resumed(stage: Stage, control: LaneControl) -> None:
    target = Target(connector="crm", operation="contacts.get")
    await control.pause(target, reason="x", lasting=None, by="ann")
    stage.catalog = catalog(operations={SEND: stage.catalog.operations[SEND]})
    assert (await control.resume(target, by="ann")).was_paused
    with pytest.raises(Nowhere):
        await control.resume(target, by="ann")


async def test_a_pause_and_its_end_are_told_once(control: LaneControl) -> None:
    target = Target(connector="crm")
    with structlog.testing.capture_logs() as lines:
        await control.pause(target, reason=" upgrade ", lasting=None, by="ann")
        await control.resume(target, by="bob")
        await control.resume(target, by="bob")
    paused, resumed = lines
    assert (paused["event"], paused["target"], paused["reason"], paused["who"]) == (
        "lanes.paused",
        "crm",
        "upgrade",
        "ann",
    )
    assert (resumed["event"], resumed["target"], resumed["who"]) == ("lanes.resumed", "crm", "bob")


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "\x1b[31mred", "x" * 201, "a\u2028b"])
async def test_a_reason_is_one_printable_line(control: LaneControl, reason: str) -> None:
    with pytest.raises(Unfit, match="reason") as refused:
        await control.pause(Target(connector="crm"), reason=reason, lasting=None, by="ann")
    assert refused.value.pointer == "/reason"


@pytest.mark.parametrize("lasting", ["", "0s", "-1s", "30", "31d", "1e9d", "721h"])
async def test_a_pause_lasts_a_time_up_to_thirty_days(control: LaneControl, lasting: str) -> None:
    with pytest.raises(Unfit) as refused:
        await control.pause(Target(connector="crm"), reason="x", lasting=lasting, by="ann")
    assert refused.value.pointer == "/for"


@pytest.mark.parametrize(
    ("ask", "wrong", "said"),
    [
        (lambda: target_of("crm", "crm.contacts.get", None), Unfit, "either"),
        (lambda: target_of(None, None, None), Unfit, "either"),
        (lambda: target_of(None, "crm", None), Unfit, "connector.operation"),
        (lambda: target_of("", None, None), Unfit, "no name"),
        (lambda: target_of("crm|x", None, None), Unfit, "no name"),
        (lambda: check(Target(connector="crn"), catalog()), Nowhere, "near to it: crm"),
        (lambda: check(target_of(None, "crm.contacts.gett", None), catalog()), Nowhere, "near to it: crm.contacts.get"),
        (lambda: check(target_of("bank", None, "mian"), catalog()), Nowhere, "near to it: main"),
        (lambda: lane_of("crm|contacts.get", None, catalog()), Unfit, "connector|connection|operation"),
        (lambda: lane_of("crm|-|contacts.get", "main", catalog()), Unfit, "connection itself"),
        (lambda: lane_of("bank.pay", None, catalog()), Nowhere, "name one"),
    ],
)
def test_what_cannot_be_meant_is_told(ask: Callable[[], object], wrong: type[Exception], said: str) -> None:
    with pytest.raises(wrong, match=said.replace("|", r"\|")):
        ask()


def test_a_lane_is_found_by_its_tool() -> None:
    assert lane_of("crm.contacts.get", None, catalog()) == "crm|-|contacts.get"
    assert lane_of("bank.pay", "main", catalog()) == "bank|main|pay"
    assert lane_of("any|-|thing", None, catalog()) == "any|-|thing"


async def test_the_overview_counts_calls_by_connector_and_what_is_closed_now(
    stage: Stage, control: LaneControl
) -> None:
    await fill(stage, crm__contacts__get=2, crm__messages__send=1, bank__pay=1)
    await control.pause(Target(connector="crm"), reason="x", lasting=None, by="ann")
    await control.pause(Target(connector="erp"), reason="x", lasting="1ms", by="ann")
    overview = Overview(stage.redis, SHARD, high_bytes=1 << 30)
    gauges = await overview.gauges()
    assert gauges.calls == {"crm": 3, "bank": 1}
    assert gauges.load.calls == 4
    assert gauges.load.call_bytes > 100
    assert [(one.key, one.reason) for one in gauges.closed if one.key != "@erp"] == [("@crm", HoldReason.PAUSED)]
    assert not gauges.load.flooded
    await stage.redis.set(SHARD.key("watermark"), 1)
    assert (await control.load()).flooded

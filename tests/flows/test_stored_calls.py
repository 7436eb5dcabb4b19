"""A call whose stored bytes cannot be read ends like any other: with a letter, never as a crash that comes round again."""

import pytest

from gateway.ports import Mark
from schemas.effect import OperationClass
from tests.flows.stage import BY_CLASS, CREATE, SEND, SHARD, Stage, event

CALLS = SHARD.key("calls")
BROKEN = [
    b"",
    b"{",
    b"\xff\xfe",
    b'{"id":"c1"}',
    b'["c1"]',
    b"[" * 100_000,
    b"null",
]


async def spoiled(stage: Stage, body: bytes | None, tool: str = CREATE) -> str:
    """Take one call in and put something else in its place, or nothing."""
    await stage.take_in(event(tool))
    (call,) = await stage.redis.hkeys(CALLS)
    await stage.redis.hdel(CALLS, call)
    if body is not None:
        await stage.redis.hset(CALLS, call, body)
    return str(call.decode())


@pytest.mark.parametrize("body", [*BROKEN, None], ids=lambda body: repr(body)[:16])
async def test_it_fails_with_a_letter_and_nothing_is_sent(body: bytes | None, stage: Stage) -> None:
    call = await spoiled(stage, body)
    await stage.run()
    data = await stage.result()
    assert (data["call"], data["tool"], data["state"], data["effect"]) == (call, CREATE, "failed", "not_executed")
    assert data["error"]["class"] == "internal.bug"
    assert "cannot read the call" in data["error"]["message"]
    (letter,) = await stage.letters()
    assert letter["data"]["operation"]["connector"] == "crm"
    assert letter["data"]["rendered"]["arguments"]["size"] >= len(body or b"")
    assert stage.vendor.seen == []
    assert (await stage.books())["live"] == 0


async def test_what_may_have_been_sent_before_it_was_spoiled_goes_to_a_person(stage: Stage) -> None:
    await stage.take_in(event(SEND))
    claim = await stage.claim_one()
    assert await stage.lanes.mark(Mark(claim.id, claim.fence)) == "marked"
    await stage.redis.hset(CALLS, claim.id, b"{")
    await stage.recover()
    data = await stage.result()
    assert (data["state"], data["effect"], data["error"]["class"]) == ("escalated", "unknown", "send.worker_lost")
    assert len(await stage.letters()) == 1


@pytest.mark.parametrize("op_class", sorted(OperationClass))
async def test_a_lost_worker_and_spoiled_bytes_come_to_an_end(op_class: OperationClass, stage: Stage) -> None:
    await spoiled(stage, b"{", BY_CLASS[op_class])
    await stage.claim_one()
    await stage.recover()
    await stage.run()
    sent = op_class in {OperationClass.KEYED, OperationClass.IDEMPOTENT}
    assert (await stage.result())["effect"] == ("unknown" if sent else "not_executed")
    assert stage.vendor.seen == []


async def test_it_can_be_looked_at_and_cancelled(stage: Stage) -> None:
    call = await spoiled(stage, b"{")
    seen, agent = await stage.status.look(call)
    assert seen is not None
    assert agent == "unknown"
    assert await stage.status.cancel(call) == "cancelled"
    assert (await stage.result())["state"] == "cancelled"

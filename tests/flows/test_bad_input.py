"""Every bad input has one documented answer: its class, its place in the books, and an event of the stable shape."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from connectors.declared import Agent
from dlq.letter import RAW
from dlq.redaction import Sealer
from gateway.policy.admission import Refuse
from schemas.dead_letter import Sealed
from schemas.failure import FACTS, Failure
from schemas.tool_call import ToolCallData
from tests.flows.stage import CREATE, GET, MOST_BYTES, SHARD, TRACEPARENT, Stage, event, fails

_FIELDS = """call request idempotency_key tool connection session state result http_status effect attempts queued_ms
    duration_ms contract degraded cost replay_of summary error"""
_GROUPS = """identity operation idempotency source raw rendered failure upstream effect attempts environment cost grouping
    lifecycle privacy integrity"""
RESULT, LETTER = set(_FIELDS.split()), set(_GROUPS.split())
ERROR = {"class", "message", "effect", "retryable", "fingerprint", "dead_letter", "action"}
ENVELOPE = {"specversion", "type", "source", "id", "subject", "time", "traceparent", "data"}
PAST, SOON = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"

UNDECODABLE: dict[str, tuple[bytes, Failure]] = {
    "malformed JSON": (b'{"specversion": "1.0",', Failure.DECODE_JSON),
    "no body": (b"", Failure.DECODE_JSON),
    "NaN": (event(GET, {"x": 1}).replace(b'"x": 1', b'"x": NaN'), Failure.DECODE_JSON),
    "bad UTF-8": (event(GET, {"x": "y"}).replace(b'"y"', b'"\xff"'), Failure.DECODE_ENCODING),
    "depth": (event(GET, {"x": 1}).replace(b'"x": 1', b'"x": ' + b"[" * 70 + b"]" * 70), Failure.DECODE_DEPTH),
    "oversize": (event(GET, {"x": "y" * MOST_BYTES}), Failure.INGEST_OVERSIZE),
    "no CloudEvent": (b'{"tool": "crm.contacts.get", "arguments": {}}', Failure.DECODE_ENVELOPE),
    "another type": (event().replace(b"tool.call.requested", b"tool.call.completed"), Failure.DECODE_ENVELOPE),
    "no tool": (event().replace(b'"tool"', b'"tol"'), Failure.DECODE_ENVELOPE),
    "arguments in a list": (event(GET, [1]), Failure.DECODE_ENVELOPE),
}
REJECTED: dict[str, tuple[dict[str, Any], Failure]] = {
    "unknown tool": ({"tool": "crm.contacts.creat"}, Failure.INGEST_UNKNOWN_TOOL),
    "arguments": ({"arguments": {"email": 7}}, Failure.INGEST_ARGUMENTS),
    "unknown connection": ({"tool": "bank.pay", "connection": "other"}, Failure.INGEST_UNKNOWN_CONNECTION),
    "no connection of several": ({"tool": "bank.pay"}, Failure.INGEST_UNKNOWN_CONNECTION),
    "missing secret": ({"tool": "bank.pay", "connection": "spare"}, Failure.TOKEN_CONFIG),
    "deadline past": ({"deadline": PAST}, Failure.ADMISSION_DEADLINE),
}
MISSHAPEN: dict[str, dict[str, Any]] = {
    "deadline without a zone": {"deadline": "2099-01-01T00:00:00"},
    "unknown field": {"colour": "red"},
    "priority": {"priority": "urgent"},
    "confidence": {"confidence": 2},
    "session": {"session": ["run-42"]},
}


@pytest.mark.parametrize("name", UNDECODABLE)
async def test_what_cannot_be_read_becomes_a_letter_with_its_bytes(name: str, stage: Stage, sealer: Sealer) -> None:
    raw, failure = UNDECODABLE[name]
    await stage.take_in(raw)
    (letter,) = await stage.letters()
    record = letter["data"]
    assert letter["type"] == "tool.call.dead_lettered"
    assert letter["id"] == record["identity"]["dl_id"]
    assert set(record) == LETTER
    assert (record["failure"]["class"], record["effect"]["state"]) == (failure, "not_executed")
    sealed = msgspec.convert(record["raw"]["bytes"], Sealed)
    assert sealer.unseal(sealed, letter["id"], RAW) == raw
    assert await stage.books() == {"received": 1, "undecodable": 1, "live": 0}
    assert (await stage.results(), await stage.events(), await stage.unacknowledged()) == ([], [], 0)


def assert_rejected(result: dict[str, Any], failure: Failure) -> None:
    """Hold a result event against the shape of the design, field by field."""
    data, error = result["data"], result["data"]["error"]
    assert set(result) - {"datacontenttype"} == ENVELOPE
    assert (result["specversion"], result["type"], result["source"]) == ("1.0", "tool.call.rejected", "sluice")
    assert (result["id"], result["subject"]) == (f"{data['call']}.result", data["tool"])
    assert result["traceparent"] == TRACEPARENT
    assert set(data) == RESULT
    assert data["request"] == {"source": "agent/research-7", "id": "e-1"}
    assert (data["state"], data["effect"], data["attempts"]) == ("rejected", "not_executed", 0)
    assert (data["result"], data["http_status"], data["degraded"]) == (None, None, False)
    assert set(error) - {"errors"} == ERROR
    assert (error["class"], error["effect"], error["dead_letter"]) == (failure, "not_executed", None)
    assert (error["retryable"], error["action"]) == (
        FACTS[failure].retryable,
        FACTS[failure].action.replace("{tool}", data["tool"]),
    )
    assert error["fingerprint"].startswith("v1:")


async def assert_one_rejection(stage: Stage, failure: Failure) -> dict[str, Any]:
    (result,) = await stage.results()
    assert_rejected(result, failure)
    accepted, settled = await stage.events()
    assert [one["type"] for one in (accepted, settled)] == ["tool.call.accepted", "tool.call.settled"]
    assert [one["data"]["seq"] for one in (accepted, settled)] == [1, 2]
    assert {one["data"]["call"] for one in (accepted, settled)} == {result["data"]["call"]}
    assert settled["data"]["state"] == "rejected"
    assert await stage.books() == {"received": 1, "accepted": 1, "rejected": 1, "live": 0}
    assert (await stage.letters(), await stage.unacknowledged()) == ([], 0)
    data: dict[str, Any] = result["data"]
    return data


@pytest.mark.parametrize("name", REJECTED)
async def test_what_may_not_be_called_is_rejected_with_its_class(name: str, stage: Stage) -> None:
    data, failure = REJECTED[name]
    await stage.take_in(event(**data))
    await assert_one_rejection(stage, failure)


@pytest.mark.parametrize("name", MISSHAPEN)
async def test_data_of_the_wrong_shape_is_rejected_and_pointed_at(name: str, stage: Stage) -> None:
    await stage.take_in(event(**MISSHAPEN[name]))
    data = await assert_one_rejection(stage, Failure.INGEST_MALFORMED)
    assert data["error"]["errors"][0]["pointer"].startswith("/data")


async def test_wrong_arguments_are_pointed_at_in_the_result(stage: Stage) -> None:
    await stage.take_in(event(CREATE, {"email": 7}))
    data = await assert_one_rejection(stage, Failure.INGEST_ARGUMENTS)
    assert [error["pointer"] for error in data["error"]["errors"]] == ["/data/arguments/email"]


async def test_an_agent_out_of_scope_is_rejected(stage: Stage) -> None:
    stage.catalog = replace(stage.catalog, agents={"research-7": Agent(name="research-7", allow=("crm.notes.*",))})
    await stage.take_in(event())
    await assert_one_rejection(stage, Failure.INGEST_SCOPE)


async def test_a_full_lane_rejects_at_once_and_may_be_tried_later(stage: Stage) -> None:
    narrow = stage.intake_with(queue_limit=1)
    await narrow.from_bus(await stage.publish(event(GET, at=("agent/research-7", "e-0"))))
    await narrow.from_bus(await stage.publish(event(GET)))
    (result,) = await stage.results()
    assert_rejected(result, Failure.ADMISSION_QUEUE_FULL)
    assert result["data"]["error"]["retryable"] is True
    assert await stage.books() == {"received": 2, "accepted": 2, "rejected": 1, "live": 1}
    assert await stage.unacknowledged() == 0


async def test_a_call_that_waits_for_its_retry_still_takes_its_place_in_the_lane(stage: Stage) -> None:
    narrow = stage.intake_with(queue_limit=1)
    stage.vendor.script = [fails(Failure.CONNECT_REFUSED)]
    await narrow.from_bus(await stage.publish(event(GET, at=("agent/research-7", "e-0"))))
    await stage.deliver(await stage.claim_one())
    assert await stage.redis.zcard(SHARD.key("delayed")) == 1
    await narrow.from_bus(await stage.publish(event(GET)))
    assert (await stage.books()).get("rejected", 0) == 1


@pytest.mark.parametrize("name", REJECTED)
async def test_over_http_a_refusal_is_answered_and_not_counted(name: str, stage: Stage) -> None:
    data, failure = REJECTED[name]
    fields = {"tool": CREATE, "arguments": {"email": "a@b.c"}, **data}
    verdict = await stage.intake.from_http(ToolCallData(**fields), agent="research-7", key=None, traceparent=None)
    assert isinstance(verdict, Refuse)
    assert verdict.failure is failure
    assert await stage.books() == {"live": 0}
    assert (await stage.results(), await stage.events(), await stage.letters()) == ([], [], [])


async def test_over_http_a_full_lane_and_a_scope_are_refused_the_same_way(stage: Stage) -> None:
    data = ToolCallData(tool=GET, arguments={})
    narrow = stage.intake_with(queue_limit=1)
    await narrow.from_http(data, agent="a", key="k1", traceparent=None)
    full = await narrow.from_http(data, agent="a", key="k2", traceparent=None)
    stage.catalog = replace(stage.catalog, agents={"b": Agent(name="b")})
    scope = await narrow.from_http(data, agent="a", key="k3", traceparent=None)
    assert isinstance(full, Refuse)
    assert isinstance(scope, Refuse)
    assert (full.failure, scope.failure) == (Failure.ADMISSION_QUEUE_FULL, Failure.INGEST_SCOPE)
    assert await stage.books() == {"received": 1, "accepted": 1, "live": 1}


async def test_a_bad_event_does_not_hold_up_the_others_of_its_batch(stage: Stage) -> None:
    bad = [raw for raw, _ in UNDECODABLE.values()]
    good = [event(GET, at=("agent/research-7", f"g-{n}"), deadline=SOON) for n in range(len(bad))]
    await stage.take_in(*(raw for pair in zip(bad, good, strict=True) for raw in pair))
    books = await stage.books()
    assert (books["undecodable"], books["accepted"], books["live"]) == (len(bad), len(good), len(good))


@pytest.mark.parametrize("deadline", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z"])
async def test_a_deadline_at_the_end_of_the_calendar_does_not_stop_intake(deadline: str, stage: Stage) -> None:
    await stage.take_in(event(at=("agent/research-7", "e-0"), deadline=deadline), event())
    assert (await stage.books())["received"] == 2
    assert await stage.unacknowledged() == 0

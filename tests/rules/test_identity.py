"""Identity: which requests are the same call, and the one key by which a vendor knows it at every attempt."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.flow.intake import Entry, Intake, Terms
from gateway.policy.admission import Admit, Incoming, admit
from gateway.ports import Admission, Admitted, Ambient, Answer, Refusal
from schemas.codec import Undecodable
from schemas.letter import Opened
from schemas.tool_call import Origin, Request, ToolCall, ToolCallData, derived_key
from tests.flows.stage import CREATE, GET, Clock, catalog, event

CATALOG = catalog()
NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
law = settings(max_examples=40, deadline=None)
CONTROLS = [*map(chr, range(0x20)), "\x7f"]
keys = st.text(st.characters(exclude_characters=CONTROLS, exclude_categories=["Cs"]), min_size=1, max_size=12)
words = st.text("ab|/:%1F\\ \x00\x1f", min_size=1, max_size=4)


def call(key: str = "k1", *, tool: str = GET, arguments: Any = None, **changes: Any) -> ToolCall:
    usual: dict[str, Any] = {
        "call": "01JC",
        "agent": "research-7",
        "request": Request(source="agent/research-7", id="e-1"),
        "key": "unused",
        "traceparent": None,
        "origin": Origin(engine="http"),
        "now": NOW,
    }
    data = {"tool": tool, "arguments": arguments or {}, "idempotency_key": key, "connection": changes.pop("via", None)}
    verdict = admit(Incoming(data=data, **{**usual, **changes}), CATALOG, deadline_s=60)
    assert isinstance(verdict, Admit), verdict
    return verdict.call


@dataclass
class OpenDoor:
    """A queue that takes everything and remembers it."""

    taken: list[Admission] = field(default_factory=list)

    async def enqueue(self, admissions: Sequence[Admission]) -> list[Answer]:
        self.taken += admissions
        return [Admitted(admission.id) for admission in admissions]

    async def admit(self, admission: Admission) -> Answer:
        return (await self.enqueue([admission]))[0]

    async def refuse(self, refusals: Sequence[Refusal]) -> list[str]:
        raise AssertionError(refusals)


async def no_letter(entry: Entry, verdict: Undecodable) -> tuple[Opened, str]:
    raise AssertionError(verdict)


def intake() -> tuple[Intake, OpenDoor, Ambient]:
    door, ambient = OpenDoor(), Clock().ambient()
    terms = Terms(max_event_bytes=4096, deadline_s=60, queue_limit=10, answer_ttl_s=60)
    return Intake(door, lambda: CATALOG, ambient=ambient, terms=terms, letter=no_letter), door, ambient


def taken_in(*bodies: bytes) -> list[Admission]:
    """Return what intake makes of events, without a queue behind it."""
    use_case, door, _ = intake()
    coroutine = use_case.from_bus([Entry(stream="s", id=f"{n}-0", raw=raw) for n, raw in enumerate(bodies)])
    with pytest.raises(StopIteration):
        coroutine.send(None)
    return door.taken


@law
@given(keys)
def test_the_vendors_key_is_the_hash_of_tenant_connection_tool_and_key(key: str) -> None:
    plain = hashlib.sha256(f"default||{GET}|{key}".encode()).hexdigest()[:32]
    named = hashlib.sha256(f"default|main|bank.pay|{key}".encode()).hexdigest()[:32]
    assert call(key).vendor_key == plain
    assert call(key, tool="bank.pay", via="main").vendor_key == named


def test_nothing_but_these_four_changes_the_vendors_key() -> None:
    other = call(
        arguments={"id": "c2"},
        call="01JX",
        agent="someone",
        request=Request(source="agent/someone", id="e-2"),
        now=datetime(2030, 1, 1, tzinfo=UTC),
    )
    assert other.vendor_key == call().vendor_key
    assert other.scope == call().scope
    assert len({call().vendor_key, call("k2").vendor_key, call(tool=CREATE, arguments={"email": "a"}).vendor_key}) == 3


@law
@given(keys, keys)
def test_keys_share_a_scope_only_if_they_are_the_same(left: str, right: str) -> None:
    assert (call(left).scope == call(right).scope) == (left == right)
    assert (call(left).vendor_key == call(right).vendor_key) == (left == right)


def test_the_fingerprint_is_of_tool_connection_and_arguments_in_any_order() -> None:
    one = call(arguments={"id": "c1", "deep": {"a": 1, "b": 2}})
    assert one.fingerprint == call("k9", arguments={"deep": {"b": 2, "a": 1}, "id": "c1"}, agent="x").fingerprint
    assert one.fingerprint != call(arguments={"id": "c1", "deep": {"a": 1, "b": 3}}).fingerprint
    assert one.fingerprint != call(tool="bank.pay", via="main", arguments=one.arguments).fingerprint


@law
@given(keys, words, words)
@example("agent/alice|e-1", "agent/alice", "e-1")
@example("agent/alicee-1", "agent/alice", "e-1")
def test_no_given_key_is_that_of_an_event_which_names_none(key: str, source: str, identity: str) -> None:
    derived = derived_key(source, identity)
    assert call(key).vendor_key != hashlib.sha256(f"default||{GET}|{derived}".encode()).hexdigest()[:32]
    assert key != derived


@pytest.mark.parametrize("control", CONTROLS)
def test_a_given_key_with_a_control_character_is_refused(control: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"tool": GET, "arguments": {}, "idempotency_key": f"agent/alice{control}e-1"}, ToolCallData)


@law
@given(st.tuples(words, words), st.tuples(words, words))
@example(("a|b", "c"), ("a", "b|c"))
def test_two_events_never_collide_in_their_default_key(left: tuple[str, str], right: tuple[str, str]) -> None:
    one, other = taken_in(event(GET, {}, at=left), event(GET, {}, at=right))
    assert (one.scope == other.scope) == (left == right)


def test_the_same_event_published_twice_is_the_same_call() -> None:
    one, other = taken_in(event(), event())
    assert (one.scope, one.print) == (other.scope, other.print)
    assert one.id != other.id


async def test_every_door_leads_to_the_same_scope_for_the_same_key() -> None:
    (published,) = taken_in(event(GET, {"id": "c1"}, idempotency_key="k1"))
    use_case, door, _ = intake()
    data = ToolCallData(tool=GET, arguments={"id": "c1"}, idempotency_key="k1")
    await use_case.from_http(data, agent="someone", key=None, traceparent=None)
    data = ToolCallData(tool=GET, arguments={"id": "c1"})
    await use_case.from_http(data, agent="someone", key="k1", traceparent=None)
    assert {(one.scope, one.print) for one in door.taken} == {(published.scope, published.print)}


async def test_two_requests_over_http_without_a_key_are_two_calls() -> None:
    use_case, door, _ = intake()
    for _ in range(2):
        await use_case.from_http(ToolCallData(tool=GET, arguments={}), agent="a", key=None, traceparent=None)
    assert len({one.scope for one in door.taken}) == 2

"""Letters: total, complete, sealed, provable, and without a secret."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlq.blobs import BlobStore
from dlq.evidence import Evidence
from dlq.grouping import fingerprint
from dlq.keys import KeyRing
from dlq.letter import (
    ARGUMENTS,
    BODY,
    RAW,
    Arrival,
    Target,
    Unread,
    as_event,
    for_call,
    record_sha256,
    undecodable,
)
from dlq.redaction import Sealer
from schemas.cloudevent import publishable
from schemas.codec import Undecodable, decode
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.lifecycle import DEAD_LETTERED, CallState
from schemas.outcome import Outcome, Reply
from tests.letter_examples import CANARY, ID, NOW, TRACE, attempt, call, ended, published, unread


@given(raw=st.binary(max_size=300))
def test_any_bytes_make_one_letter_whose_bytes_come_back(seal: Sealer, raw: bytes) -> None:
    letter = undecodable(unread(raw), ID, seal)
    assert letter.raw.bytes is not None
    assert seal.unseal(letter.raw.bytes, ID, RAW) == raw
    assert letter.effect.state is Effect.NOT_EXECUTED
    assert letter.effect.evidence == Evidence.NEVER_DECODED
    assert letter.failure.failure is Failure.DECODE_JSON
    assert as_event(letter, NOW).subject is None


def test_ten_megabytes_make_a_small_letter_whose_bytes_come_back(seal: Sealer) -> None:
    raw = bytes(range(256)) * 40_960
    letter = undecodable(unread(raw, Undecodable(Failure.INGEST_OVERSIZE, "too large")), ID, seal)
    assert letter.raw.bytes is not None
    assert letter.raw.bytes.blob_ref is not None
    assert len(publishable(as_event(letter, NOW))) < 8_192
    assert seal.unseal(letter.raw.bytes, ID, RAW) == raw


@given(
    entry=st.none() | st.text(max_size=40) | st.from_regex(r"[0-9]{1,40}-[0-9]{1,20}", fullmatch=True),
    text=st.text(st.characters(exclude_categories=()), max_size=100),
    failure=st.sampled_from(Failure),
)
def test_no_source_and_no_verdict_stops_a_letter(seal: Sealer, entry: str | None, text: str, failure: Failure) -> None:
    facts = Unread(
        raw=b"x",
        source=Arrival(engine=text, stream=text, entry=entry, deliveries=None),
        verdict=Undecodable(failure, text),
        worker="w",
        at=NOW,
    )
    assert published(undecodable(facts, ID, seal))["id"] == ID


def test_the_time_of_publication_is_read_from_the_entry(seal: Sealer) -> None:
    assert undecodable(unread(b""), ID, seal).source.published_at == "2025-11-20T09:00:00.000000Z"
    for entry in ("18446744073709551615-1", "12", "x-1", "", None):
        assert undecodable(unread(b"", entry=entry), ID, seal).source.published_at is None


def test_a_poison_event_is_a_letter_that_was_never_decoded(seal: Sealer) -> None:
    letter = undecodable(unread(b"boom", Undecodable(Failure.POISON_CRASH_LOOP, "delivered alone 3 times")), ID, seal)
    assert letter.failure.failure is Failure.POISON_CRASH_LOOP
    assert letter.failure.retry_verdict == "crash_loop"
    assert letter.failure.stage == "poison"
    assert letter.effect.state is Effect.NOT_EXECUTED
    assert letter.raw.decode_error is None
    assert "resolve" not in letter.failure.action
    assert ID in letter.failure.action


def test_the_letter_of_a_call_tells_the_whole_case(seal: Sealer) -> None:
    target = Target(method="POST", host="crm.example.com", path_template="/v1/contacts")
    letter = for_call(ended(target=target), ID, seal)
    record = published(letter)
    assert record["type"] == "tool.call.dead_lettered"
    assert (record["id"], record["subject"], record["traceparent"]) == (ID, "crm.contacts.create", TRACE)
    data = record["data"]
    assert data["identity"] == {
        "schema": "dlr/1",
        "dl_id": ID,
        "tenant_id": "default",
        "agent_id": "research-7",
        "session_id": "run-42",
        "event_id": "e-1",
        "event_type": "tool.call.requested",
        "call": "01JD3QZ8W4M5N6P7R8S9T0V1C0",
        "traceparent": TRACE,
    }
    assert (data["operation"]["operation"], data["operation"]["op_class"]) == ("contacts.create", "unsafe")
    assert data["idempotency"]["key"] == "run-42/step-3"
    assert data["source"]["offset_or_id"] == "1763629200000-0"
    assert data["rendered"]["path_template"] == "/v1/contacts"
    assert (data["failure"]["class"], data["failure"]["stage"]) == ("receive.reset", "receive")
    assert data["failure"]["first_at"] == "2026-11-20T08:01:00Z"
    assert data["failure"]["action"].startswith("Find out whether it ran")
    assert (data["effect"]["state"], data["effect"]["evidence"]) == ("unknown", "no_complete_answer")
    assert data["environment"] == {"deadline": "2025-11-20T09:05:00.000000Z", "worker": "w1"}
    assert data["lifecycle"]["root_id"] == "01JD3QZ8W4M5N6P7R8S9T0V1A0"
    assert data["privacy"]["enc_key_id"] == "k1"
    assert data["privacy"]["redacted_paths"] == ["rendered.arguments"]
    assert data["upstream"] is None
    assert set(data) == set(DeadLetter.__struct_fields__)


def test_the_fingerprint_is_that_of_the_result(seal: Sealer) -> None:
    group = fingerprint("crm", "contacts.create", Failure.RECEIVE_RESET, None, "The vendor closed the connection.")
    assert for_call(ended(), ID, seal).grouping.fingerprint == group


def test_what_buried_the_call_names_the_letter(seal: Sealer) -> None:
    lost = Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.SEND_WORKER_LOST, message="The worker died.")
    letter = for_call(ended(lost, failure=Failure.POISON_CRASH_LOOP, state=CallState.FAILED, attempts=[]), ID, seal)
    assert letter.failure.failure is Failure.POISON_CRASH_LOOP
    assert letter.effect.evidence == Evidence.NOTHING_SENT
    assert letter.failure.first_at == letter.failure.last_at


@given(arguments=st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=9) | st.booleans(), max_size=5))
def test_the_arguments_come_back(seal: Sealer, arguments: dict[str, Any]) -> None:
    letter = for_call(ended(call=call(arguments=arguments)), ID, seal)
    assert letter.rendered.arguments is not None
    assert decode(seal.unseal(letter.rendered.arguments, ID, ARGUMENTS), max_bytes=1 << 20) == arguments


def test_the_vendors_answer_comes_back(seal: Sealer) -> None:
    reply = Reply(
        status=422, headers={"content-type": "text/plain", "server": "x"}, body=b"no such field", truncated=True
    )
    outcome = Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.HTTP_UNPROCESSABLE, status=422, reply=reply)
    letter = for_call(ended(outcome, state=CallState.FAILED), ID, seal)
    assert letter.upstream is not None
    assert letter.upstream.body is not None
    assert seal.unseal(letter.upstream.body, ID, BODY) == b"no such field"
    assert letter.upstream.body.truncated
    assert letter.upstream.headers == {"content-type": "text/plain"}
    assert letter.effect.evidence == Evidence.REFUSED_BY_VENDOR
    assert letter.privacy.redacted_paths == ["rendered.arguments", "upstream.body"]


def test_a_status_without_a_body_is_kept(seal: Sealer) -> None:
    letter = for_call(ended(Outcome(effect=Effect.UNKNOWN, failure=Failure.RECEIVE_TRUNCATED, status=502)), ID, seal)
    assert letter.upstream is not None
    assert (letter.upstream.http_status, letter.upstream.body) == (502, None)


def test_a_thousand_attempts_make_a_bounded_letter(seal: Sealer) -> None:
    attempts = [attempt(number % 60, "x" * 5_000) for number in range(1_000)]
    letter = for_call(ended(attempts=attempts, total=1_000), ID, seal)
    assert letter.attempts.total == 1_000
    assert len(letter.attempts.newest) == 20
    assert letter.attempts.newest[-1].n == attempts[-1].n
    assert len(publishable(as_event(letter, NOW))) < 16_384


def test_no_secret_is_in_a_letter_or_a_blob(tmp_path: Path) -> None:
    sealer = Sealer(KeyRing({"k1": bytes(32)}), BlobStore(tmp_path, 1 << 20))
    reply = Reply(
        status=500,
        headers={
            "authorization": f"Bearer {CANARY}",
            "x-api-key": CANARY,
            "set-cookie": CANARY,
            "x-request-id": f"echo {CANARY}",
        },
        body=f"you sent Authorization: Bearer {CANARY}".encode() * 1_000,
        truncated=False,
    )
    told = f"refused {CANARY}, Authorization: Bearer other-CANARY-token, https://u:CANARY@h/?api_key=CANARY"
    outcome = Outcome(effect=Effect.UNKNOWN, failure=Failure.HTTP_INTERNAL, message=told, status=500, reply=reply)
    attempts = [attempt(1, told)]
    case = ended(outcome, secrets=(CANARY,), attempts=attempts)
    letter = for_call(case, ID, sealer)
    spoilt = undecodable(unread(CANARY.encode(), Undecodable(Failure.DECODE_JSON, f"password={CANARY}")), ID, sealer)
    kept = publishable(as_event(letter, NOW)) + publishable(as_event(spoilt, NOW)) + repr(case)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert "CANARY" not in kept
    assert b64encode(CANARY.encode()).decode() not in kept
    assert b"CANARY" not in files
    assert letter.privacy.redacted_paths == [
        "attempts.newest",
        "failure.message",
        "rendered.arguments",
        "upstream.body",
        "upstream.headers",
    ]
    assert letter.upstream is not None
    assert letter.upstream.body is not None
    assert CANARY.encode() not in sealer.unseal(letter.upstream.body, ID, BODY)


@pytest.mark.parametrize(
    "write", [lambda seal: undecodable(unread(b"x"), ID, seal), lambda seal: for_call(ended(), ID, seal)]
)
def test_the_hash_of_a_published_letter_can_be_checked_and_sees_a_change(
    seal: Sealer, write: Callable[[Sealer], DeadLetter]
) -> None:
    letter = write(seal)
    record = published(letter)["data"]
    assert record["integrity"]["record_sha256"] == record_sha256(record)
    record["effect"]["state"] = "executed"
    assert record["integrity"]["record_sha256"] != record_sha256(record)
    assert msgspec.convert(published(letter)["data"], DeadLetter) == letter


def test_a_letter_is_the_same_twice_but_for_what_is_sealed(seal: Sealer) -> None:
    def without_seals(letter: DeadLetter) -> dict[str, Any]:
        plain = published(letter)["data"]
        assert isinstance(plain, dict)
        del plain["raw"], plain["rendered"], plain["integrity"]
        return plain

    assert without_seals(for_call(ended(), ID, seal)) == without_seals(for_call(ended(), ID, seal))


@given(
    op_class=st.sampled_from(OperationClass),
    effect=st.sampled_from(Effect),
    last=st.sampled_from(Effect),
    failure=st.sampled_from(Failure),
    status=st.none() | st.integers(100, 599),
    state=st.sampled_from(sorted(DEAD_LETTERED)),
)
def test_every_end_has_a_letter_with_evidence_and_a_next_step(
    seal: Sealer,
    op_class: OperationClass,
    effect: Effect,
    last: Effect,
    failure: Failure,
    status: int | None,
    state: CallState,
) -> None:
    outcome = Outcome(effect=last, failure=failure, status=status)
    letter = for_call(ended(outcome, effect=effect, state=state, call=call(op_class=op_class)), ID, seal)
    assert Evidence(letter.effect.evidence)
    assert letter.failure.action
    assert "{" not in letter.failure.action

"""One attempt from arguments to outcome, against a real socket: the order of the stages and what each may leave out."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from connectors.declared import Auth, Connection, Egress
from connectors.exchange import Lease, Marked
from connectors.pipeline import Pipeline
from connectors.secret import MissingSecret, Secret
from connectors.transport import Engine
from dlq.redaction import scrub_bytes
from gateway.guards import open_guards
from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.outcome import Outcome
from tests.examples import TRACE, operation, tool_call
from tests.guarded import common
from tests.tiny_vendor import OK, Vendor, hangs, sends, vendor

pytestmark = pytest.mark.wire

LOCAL = Egress(allow_hosts=("127.0.0.1",), allow_private=True)
CREATED = (
    b'HTTP/1.1 201 Created\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 11\r\n\r\n{"id":"c1"}'
)


class Mark:
    """A `sending` mark that remembers when it was asked for."""

    def __init__(self, upstream: Vendor | None = None, *, told: Marked = "marked") -> None:
        self.upstream, self.told = upstream, told
        self.asked: list[int] = []

    async def __call__(self) -> Marked:
        self.asked.append(self.upstream.connections if self.upstream else 0)
        return self.told


@pytest.fixture
async def pipeline(redis: "Redis", tmp_path: Path) -> AsyncIterator[Pipeline]:
    engine = Engine()
    await engine.open()
    async with open_guards(common(redis, engine, tmp_path)) as guarding:
        yield Pipeline(
            engine,
            guarding.guards,
            clock=lambda: 1_795_000_000.0,
            new_span=lambda: "b" * 16,
            scrub=scrub_bytes,
            cap_wire_bytes=4 << 20,
            cap_decoded_bytes=8 << 20,
        )
    await engine.close()


def connection(**secrets: str) -> Connection:
    return Connection(
        name="crm-main",
        connector="crm",
        base_url=None,
        secrets={name: Secret(value) for name, value in secrets.items()},
    )


async def attempt(
    pipeline: Pipeline, upstream: Vendor, arguments: dict[str, Any], mark: Mark | None = None, **changes: Any
) -> Outcome:
    owner = changes.pop("connection", None)
    holds = changes.pop("holds", lambda: True)
    call_changes = changes.pop("call", {})
    settings: dict[str, Any] = {"base_url": f"http://127.0.0.1:{upstream.port}", "egress": LOCAL, **changes}
    lease = Lease(mark=mark or Mark(upstream), holds=holds)
    return await pipeline.attempt(tool_call(arguments, **call_changes), operation(**settings), owner, lease)


async def test_a_call_becomes_a_request_and_the_answer_its_result(pipeline: Pipeline) -> None:
    async with vendor(sends(CREATED)) as upstream:
        outcome = await attempt(pipeline, upstream, {"email": "a@b.c"}, idempotency_header="Idempotency-Key")
    head, _, body = upstream.arrivals[0].partition(b"\r\n\r\n")
    assert json.loads(body) == {"email": "a@b.c"}
    assert f"traceparent: 00-{TRACE}-{'b' * 16}-01".encode() in head
    assert b"idempotency-key: " + b"f" * 32 in head
    assert (outcome.failure, outcome.effect, outcome.result) == (None, Effect.EXECUTED, {"id": "c1"})
    assert (outcome.status, outcome.bytes_out) == (201, len(body))


@pytest.mark.parametrize("op_class", OperationClass)
async def test_only_unsafe_and_verifiable_calls_are_marked_and_before_the_dial(
    pipeline: Pipeline, op_class: OperationClass
) -> None:
    async with vendor(sends(OK)) as upstream:
        mark = Mark(upstream)
        for _ in range(2):
            await attempt(pipeline, upstream, {}, mark, op_class=op_class)
    if op_class in {OperationClass.UNSAFE, OperationClass.VERIFIABLE}:
        assert mark.asked == [0, 1]
        assert upstream.connections == 2
    else:
        assert mark.asked == []
        assert upstream.connections == 1


async def test_a_refused_mark_sends_nothing(pipeline: Pipeline) -> None:
    async with vendor(sends(OK)) as upstream:
        outcome = await attempt(pipeline, upstream, {}, Mark(told="lost"))
        assert upstream.connections == 0
    assert (outcome.failure, outcome.effect) == (Failure.SEND_WORKER_LOST, Effect.NOT_EXECUTED)
    assert not outcome.spends_attempt
    assert "lease was lost" in outcome.message


async def test_a_mark_that_no_replica_confirmed_sends_nothing_and_the_call_waits(pipeline: Pipeline) -> None:
    async with vendor(sends(OK)) as upstream:
        outcome = await attempt(pipeline, upstream, {}, Mark(told="unconfirmed"))
        assert upstream.connections == 0
    assert (outcome.failure, outcome.effect) == (Failure.PERSIST_MARK, Effect.NOT_EXECUTED)
    assert outcome.held
    assert not outcome.spends_attempt
    assert outcome.retry_after_s


@pytest.mark.parametrize("op_class", [OperationClass.SAFE, OperationClass.UNSAFE])
async def test_a_process_that_was_held_up_until_its_lease_ended_sends_nothing(
    pipeline: Pipeline, op_class: OperationClass
) -> None:
    async with vendor(sends(CREATED)) as upstream:
        await attempt(
            pipeline, upstream, {}, op_class=op_class
        )  # leaves a connection behind, where the class allows it
        sent = len(upstream.arrivals)
        outcome = await attempt(pipeline, upstream, {}, op_class=op_class, holds=lambda: False)
        assert len(upstream.arrivals) == sent
    assert (outcome.failure, outcome.effect) == (Failure.SEND_WORKER_LOST, Effect.NOT_EXECUTED)
    assert not outcome.spends_attempt


@pytest.mark.parametrize(
    ("changes", "arguments", "failure"),
    [
        ({"path": "/v1/{id}"}, {"id": ".."}, Failure.RENDER_INVALID),
        ({"egress": Egress(allow_hosts=("crm.example.com",), allow_private=True)}, {}, Failure.EGRESS_BLOCKED),
        ({"egress": Egress(allow_hosts=("127.0.0.1",), allow_private=False)}, {}, Failure.EGRESS_BLOCKED),
        ({"auth": Auth(type="bearer")}, {}, Failure.TOKEN_CONFIG),
        ({"auth": Auth(type="bearer"), "connection": connection(api_key="x")}, {}, Failure.TOKEN_CONFIG),
        ({"auth": Auth(type="bearer"), "connection": connection(token="a\nb")}, {}, Failure.TOKEN_CONFIG),
        (
            {"auth": Auth(type="oauth2"), "connection": connection()},
            {},
            Failure.TOKEN_CONFIG,
        ),
    ],
)
async def test_what_is_refused_before_the_dial_is_neither_marked_nor_sent(
    pipeline: Pipeline, changes: dict[str, Any], arguments: dict[str, Any], failure: Failure
) -> None:
    async with vendor(sends(OK)) as upstream:
        mark = Mark(upstream)
        outcome = await attempt(pipeline, upstream, arguments, mark, **changes)
        assert upstream.connections == 0
    assert (outcome.failure, outcome.effect, mark.asked) == (failure, Effect.NOT_EXECUTED, [])
    assert outcome.message.endswith(".")


@pytest.mark.parametrize(
    ("auth", "secrets", "sent"),
    [
        (Auth(type="bearer"), {"token": "s3cret"}, b"authorization: Bearer s3cret\r\n"),
        (Auth(type="api_key", where="header", name="X-Api-Key"), {"api_key": "s3cret"}, b"x-api-key: s3cret\r\n"),
        (Auth(type="api_key", where="query", name="key"), {"api_key": "s3 &t"}, b"/v1/contacts?q=1&key=s3+%26t "),
        (
            Auth(type="basic"),
            {"username": "ü", "password": "p:w"},
            b"authorization: Basic " + base64.b64encode("ü:p:w".encode()) + b"\r\n",
        ),
    ],
)
async def test_each_kind_of_credential_arrives(
    pipeline: Pipeline, auth: Any, secrets: dict[str, str], sent: bytes
) -> None:
    async with vendor(sends(OK)) as upstream:
        settings: dict[str, Any] = {
            "method": "GET",
            "op_class": OperationClass.SAFE,
            "auth": auth,
            "connection": connection(**secrets),
        }
        outcome = await attempt(pipeline, upstream, {"q": 1}, **settings)
    assert outcome.failure is None
    assert sent in upstream.arrivals[0]


async def test_an_argument_cannot_stand_in_for_the_key_in_the_query(pipeline: Pipeline) -> None:
    auth = Auth(type="api_key", where="query", name="api_key")
    async with vendor(sends(OK)) as upstream:
        settings: dict[str, Any] = {"method": "GET", "auth": auth, "connection": connection(api_key="k")}
        outcome = await attempt(pipeline, upstream, {"API_KEY": "mine"}, **settings)
    assert outcome.failure is Failure.RENDER_INVALID
    assert not upstream.arrivals


async def test_a_missing_secret_is_told_by_name_and_place(pipeline: Pipeline) -> None:
    gone = MissingSecret("${env:CRM_TOKEN}", "the environment variable CRM_TOKEN is not set")
    async with vendor(sends(OK)) as upstream:
        owner = replace(connection(), missing={"token": gone})
        outcome = await attempt(pipeline, upstream, {}, auth=Auth(type="bearer"), connection=owner)
    assert outcome.failure is Failure.TOKEN_CONFIG
    assert "crm-main" in outcome.message
    assert "CRM_TOKEN" in outcome.message


async def test_a_connection_may_point_elsewhere_within_the_declared_hosts(pipeline: Pipeline) -> None:
    async with vendor(sends(OK)) as upstream:
        elsewhere = replace(connection(), base_url=f"http://127.0.0.1:{upstream.port}/eu")
        outcome = await attempt(pipeline, upstream, {}, base_url="https://crm.example.com", connection=elsewhere)
    assert outcome.failure is None
    assert upstream.arrivals[0].startswith(b"POST /eu/v1/contacts ")


@pytest.mark.parametrize(
    ("op_class", "effect"), [(OperationClass.UNSAFE, Effect.UNKNOWN), (OperationClass.SAFE, Effect.NOT_EXECUTED)]
)
async def test_a_lost_answer_is_unknown_unless_nothing_can_have_happened(
    pipeline: Pipeline, op_class: OperationClass, effect: Effect
) -> None:
    async with vendor(sends(close=True)) as upstream:
        outcome = await attempt(pipeline, upstream, {}, op_class=op_class)
    assert (outcome.failure, outcome.effect) == (Failure.RECEIVE_RESET, effect)
    assert outcome.message == "The vendor closed the connection after the request was sent."


async def test_the_call_s_own_timeout_counts(pipeline: Pipeline) -> None:
    async with vendor(hangs) as upstream:
        outcome = await attempt(pipeline, upstream, {}, call={"timeout_us": 200_000})
    assert (outcome.failure, outcome.effect) == (Failure.RECEIVE_TIMEOUT, Effect.UNKNOWN)
    assert 100 < outcome.duration_ms < 2000


async def test_a_429_says_how_long_to_wait(pipeline: Pipeline) -> None:
    head = b"HTTP/1.1 429 Slow Down\r\nRetry-After: Sat, 21 Nov 2026 09:00:30 GMT\r\n"
    head += b"Date: Sat, 21 Nov 2026 09:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
    async with vendor(sends(head)) as upstream:
        outcome = await attempt(pipeline, upstream, {})
    assert (outcome.failure, outcome.retry_after_s, outcome.spends_attempt) == (Failure.HTTP_TOO_MANY, 30.0, False)

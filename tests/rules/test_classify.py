"""What an exchange comes to: the evidence table, row by row."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.classify import CUTS, FAULTS, REPLY_BODY_BYTES, classify
from connectors.exchange import (
    Ambiguous,
    Answered,
    Cut,
    EgressRefused,
    Fault,
    LeaseLost,
    NotSent,
    RenderRefused,
    Unavailable,
)
from connectors.rates.rules import NO_RULES, BodyRule, RateRules, ThrottledRule
from schemas.effect import Effect, OperationClass
from schemas.failure import FACTS, Failure
from schemas.outcome import Outcome

NOW = 1_795_000_000.0
NOT, RAN, UNKNOWN = Effect.NOT_EXECUTED, Effect.EXECUTED, Effect.UNKNOWN
JSON = {"content-type": "application/json; charset=utf-8"}


def answered(status: int, body: bytes = b"{}", cut: Cut | None = None, **headers: str) -> Answered:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answered(status, {**JSON, **named}, body, cut, "1.1", 0.25, 2)


def outcome(ending: Any, op_class: OperationClass = OperationClass.UNSAFE, rules: RateRules = NO_RULES) -> Outcome:
    return classify(ending, op_class, rules, now=NOW)


def test_every_fault_and_every_cut_has_its_row() -> None:
    assert set(FAULTS) == set(Fault)
    assert set(CUTS) == set(Cut)


@pytest.mark.parametrize(
    ("status", "failure", "effect"),
    [
        (300, "http.3xx", UNKNOWN), (302, "http.3xx", UNKNOWN), (304, "http.3xx", UNKNOWN),
        (400, "http.400", NOT), (401, "http.401", NOT), (403, "http.403", NOT), (404, "http.404", NOT),
        (405, "http.refused", NOT), (413, "http.refused", NOT), (415, "http.refused", NOT),
        (422, "http.422", NOT), (429, "http.429", NOT),
        (408, "http.408", UNKNOWN), (409, "http.409", UNKNOWN), (410, "http.4xx", UNKNOWN), (451, "http.4xx", UNKNOWN),
        (500, "http.500", UNKNOWN), (501, "http.501", UNKNOWN), (502, "http.502", UNKNOWN), (503, "http.503", UNKNOWN),
        (504, "http.504", UNKNOWN), (505, "http.501", UNKNOWN), (520, "http.5xx", UNKNOWN), (529, "http.5xx", UNKNOWN),
        (101, "http.unrecognised", UNKNOWN), (600, "http.unrecognised", UNKNOWN), (999, "http.unrecognised", UNKNOWN),
        (0, "http.unrecognised", UNKNOWN),
    ],
)  # fmt: skip
def test_a_status_has_one_failure_and_one_effect(status: int, failure: str, effect: Effect) -> None:
    result = outcome(answered(status))
    assert (result.failure, result.effect, result.status) == (Failure(failure), effect, status)
    assert result.message.startswith(f"The vendor answered {status}")
    assert result.duration_ms == 250


@given(st.integers(-1000, 100_000), st.sampled_from(OperationClass), st.sampled_from([None, *Cut]))
def test_only_a_whole_2xx_is_ever_a_success(status: int, op_class: OperationClass, cut: Cut | None) -> None:
    result = outcome(answered(status, cut=cut), op_class)
    assert (result.failure is None) == (200 <= status <= 299 and cut is None)
    assert result.effect is NOT or op_class is not OperationClass.SAFE


@pytest.mark.parametrize("fault", Fault)
def test_what_was_not_sent_did_not_run_and_what_may_have_been_is_unknown(fault: Fault) -> None:
    never, maybe = outcome(NotSent(fault, "no", 0.1)), outcome(Ambiguous(fault, "no", 0.1, 7))
    assert (never.effect, maybe.effect) == (NOT, UNKNOWN)
    assert never.failure is maybe.failure is FAULTS[fault]
    assert (never.bytes_out, maybe.bytes_out) == (0, 7)
    assert outcome(Ambiguous(fault, "no", 0.1, 7), OperationClass.SAFE).effect is NOT


@pytest.mark.parametrize(
    ("cut", "failure"),
    [
        (Cut.WIRE, Failure.RECEIVE_OVERSIZE),
        (Cut.OVERSIZE, Failure.RECEIVE_OVERSIZE),
        (Cut.LOST, Failure.RECEIVE_TRUNCATED),
        (Cut.DEADLINE, Failure.RECEIVE_TIMEOUT),
        (Cut.ENCODING, Failure.SCHEMA_UNDECODABLE),
    ],
)
def test_a_cut_2xx_ran_and_a_cut_read_did_not(cut: Cut, failure: Failure) -> None:
    write, read = outcome(answered(201, cut=cut)), outcome(answered(200, cut=cut), OperationClass.SAFE)
    assert (write.failure, write.effect) == (failure, RAN)
    assert (read.failure, read.effect) == (failure, NOT)
    assert write.reply is not None
    assert write.reply.truncated
    assert FACTS[Failure.RECEIVE_TRUNCATED].retryable


def test_a_cut_refusal_is_still_a_refusal() -> None:
    assert outcome(answered(404, cut=Cut.LOST)).failure is Failure.HTTP_NOT_FOUND


@pytest.mark.parametrize(
    ("status", "content_type", "body", "result"),
    [
        (200, "application/json", b'{"id":"c1","n":[1,null]}', {"id": "c1", "n": [1, None]}),
        (200, "application/vnd.crm.v2+json;charset=utf-8", b"[1]", [1]),
        (200, "APPLICATION/JSON", b"\xef\xbb\xbftrue", True),
        (200, "", b'{"a":1}', {"a": 1}),
        (204, "application/json", b"", None),
        (205, "text/plain", b"x", None),
        (202, "application/json", b"", None),
        (200, "text/plain; charset=utf-8", "é".encode(), {"content_type": "text/plain; charset=utf-8", "text": "é"}),
        (200, "text/csv; charset=ISO-8859-1", b"\xe9", {"content_type": "text/csv; charset=ISO-8859-1", "text": "é"}),
        (200, "application/xml", b"<a/>", {"content_type": "application/xml", "text": "<a/>"}),
        (200, "text/plain; charset=rot13", b"a", {"content_type": "text/plain; charset=rot13", "base64": "YQ=="}),
        (200, "text/plain", b"\xff", {"content_type": "text/plain", "base64": "/w=="}),
        (200, "", b"\xff\x00", {"content_type": "", "base64": base64.b64encode(b"\xff\x00").decode()}),
        (200, "application/pdf", b"%PDF", {"content_type": "application/pdf", "base64": "JVBERg=="}),
    ],
)
def test_a_2xx_gives_its_body_as_a_json_value(status: int, content_type: str, body: bytes, result: Any) -> None:
    completed = outcome(answered(status, body, content_type=content_type))
    assert completed.failure is None
    assert (completed.result, completed.effect, completed.status) == (result, RAN, status)
    assert completed.reply is None


@pytest.mark.parametrize("body", [b"{", b"NaN", b'{"a":Infinity}', b'"\xff"', b"<html>", b"[" * 100 + b"]" * 100])
def test_a_2xx_that_says_json_and_is_not_ran_but_cannot_be_read(body: bytes) -> None:
    result = outcome(answered(200, body))
    assert (result.failure, result.effect) == (Failure.SCHEMA_UNDECODABLE, RAN)
    assert result.reply is not None
    assert result.reply.body == body
    assert outcome(answered(200, body), OperationClass.SAFE).effect is NOT


def test_a_429_waits_as_asked_and_spends_no_attempt() -> None:
    result = outcome(answered(429, retry_after="12"))
    assert (result.retry_after_s, result.spends_attempt) == (12.0, False)
    assert "12 s" in result.message
    assert outcome(answered(429)).retry_after_s is None


SECONDARY = b'{"message":"You have exceeded a secondary rate limit. Please wait a few minutes."}'


def spent(answer: Answered) -> Answered:
    told = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795000040"}
    return replace(answer, headers={**answer.headers, **told})


@pytest.mark.parametrize(
    ("answer", "failure", "effect", "wait"),
    [
        (answered(429), Failure.HTTP_TOO_MANY, NOT, None),
        (spent(answered(429)), Failure.HTTP_TOO_MANY, NOT, 40.0),
        (spent(answered(429, retry_after="7")), Failure.HTTP_TOO_MANY, NOT, 7.0),
        (answered(429, retry_after="0"), Failure.HTTP_TOO_MANY, NOT, 0.0),
        (answered(429, retry_after="soon"), Failure.HTTP_TOO_MANY, NOT, None),
        (answered(503, retry_after="3"), Failure.HTTP_UNAVAILABLE, UNKNOWN, 3.0),
        (answered(529, retry_after="3"), Failure.HTTP_OTHER_SERVER, UNKNOWN, 3.0),
        (answered(403, retry_after="3"), Failure.HTTP_TOO_MANY, NOT, 3.0),
        (spent(answered(403)), Failure.HTTP_TOO_MANY, NOT, 40.0),
        (answered(403, SECONDARY), Failure.HTTP_TOO_MANY, NOT, 60.0),
        (answered(429, SECONDARY), Failure.HTTP_TOO_MANY, NOT, 60.0),
        (answered(429, SECONDARY, retry_after="90"), Failure.HTTP_TOO_MANY, NOT, 90.0),
    ],
)
def test_a_slow_down_spends_no_attempt_and_says_how_long(
    answer: Answered, failure: Failure, effect: Effect, wait: float | None
) -> None:
    result = outcome(answer)
    assert result.limited
    assert not result.spends_attempt
    assert (result.status, result.failure, result.effect, result.retry_after_s) == (
        answer.status,
        failure,
        effect,
        wait,
    )
    assert FACTS[failure].retryable


@pytest.mark.parametrize(
    "answer",
    [
        answered(503),
        answered(529),
        answered(403),
        answered(403, b'{"message":"no"}', x_ratelimit_remaining="12"),
        answered(500, retry_after="3"),
        spent(answered(404, SECONDARY)),
        spent(answered(200, SECONDARY, retry_after="5")),
        answered(202, retry_after="5"),
        answered(201, cut=Cut.LOST, retry_after="5"),
    ],
)
def test_anything_else_is_no_slow_down(answer: Answered) -> None:
    result = outcome(answer)
    assert not result.limited
    assert result.spends_attempt
    assert result.retry_after_s is None or result.effect is not RAN


def test_every_answer_carries_what_it_says_about_limits() -> None:
    for status in (200, 404, 403, 429, 500):
        (reading,) = outcome(spent(answered(status))).rates
        assert (reading.most, reading.left, reading.reset_s) == (5000, 0, 40.0)
    assert outcome(answered(200)).rates == ()
    assert outcome(NotSent(Fault.DNS, "no", 0.1)).rates == ()


def test_a_403_for_a_limit_says_so_and_a_500_keeps_its_wait() -> None:
    assert outcome(answered(403, retry_after="3")).message == (
        "The vendor answered 403 Forbidden because of a rate limit and asks to wait 3 s."
    )
    assert outcome(answered(500, retry_after="3")).retry_after_s == 3.0


SLACK = ThrottledRule(path="/error", equals="ratelimited")
GRAPHQL = ThrottledRule(path="/errors/0/extensions/code", equals="THROTTLED")
SHOPIFY = BodyRule(
    path="/extensions/cost/throttleStatus", limit="points", most="maximumAvailable", left="currentlyAvailable",
    restore="restoreRate",
)  # fmt: skip
THROTTLED = b"""{"errors":[{"extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"throttleStatus":
    {"maximumAvailable":1000.0,"currentlyAvailable":0,"restoreRate":50.0}}}}"""


def test_a_declared_body_of_a_200_is_a_refusal() -> None:
    rules = RateRules(throttled=(SLACK, GRAPHQL), bodies=(SHOPIFY,))
    slack = outcome(answered(200, b'{"ok":false,"error":"ratelimited"}', retry_after="30"), rules=rules)
    assert (slack.failure, slack.effect, slack.limited) == (Failure.HTTP_TOO_MANY, NOT, True)
    assert (slack.spends_attempt, slack.retry_after_s, slack.result, slack.status) == (False, 30.0, None, 200)
    shopify = outcome(answered(200, THROTTLED), rules=rules)
    assert (shopify.failure, shopify.limited, shopify.retry_after_s) == (Failure.HTTP_TOO_MANY, True, 20.0)
    assert [(one.limit_name, one.left) for one in shopify.rates] == [("points", 0)]


@pytest.mark.parametrize("body", [b'{"ok":true,"error":"other"}', b'{"error":["ratelimited"]}', b"[]", b"1", b"{", b""])
def test_no_other_body_of_a_200_is(body: bytes) -> None:
    result = outcome(answered(200, body), rules=RateRules(throttled=(SLACK, GRAPHQL)))
    assert (result.effect, result.limited) == (RAN, False)
    assert outcome(answered(200, b'{"error":"ratelimited"}')).effect is RAN
    assert (
        outcome(
            answered(200, b'{"error":1}'), rules=RateRules(throttled=(ThrottledRule(path="/error", equals=True),))
        ).effect
        is RAN
    )


@pytest.mark.parametrize(
    ("refusal", "failure", "spends"),
    [
        (RenderRefused("The argument id is empty."), Failure.RENDER_INVALID, True),
        (EgressRefused("The host is not declared."), Failure.EGRESS_BLOCKED, True),
        (Unavailable("The secret token is missing."), Failure.TOKEN_CONFIG, True),
        (LeaseLost(), Failure.SEND_WORKER_LOST, False),
    ],
)
def test_what_was_refused_here_did_not_run(refusal: Any, failure: Failure, spends: bool) -> None:  # noqa: FBT001 - a table
    result = outcome(refusal)
    assert (result.failure, result.effect, result.spends_attempt) == (failure, NOT, spends)
    assert result.message.endswith(".")


def test_a_letter_keeps_allow_listed_headers_and_a_bounded_body() -> None:
    kept = {
        "date": "d", "retry-after": "1", "retry-after-ms": "1000", "ratelimit": "r", "ratelimit-policy": "p",
        "x-ratelimit-remaining": "0", "deprecation": "t", "sunset": "s", "content-type": "application/json",
        "x-request-id": "1", "request-id": "2", "x-amzn-requestid": "3", "x-github-request-id": "4", "cf-ray": "5",
        "x-correlation-id": "6",
    }  # fmt: skip
    dropped = {"set-cookie": "s", "x-api-key": "k", "location": "l", "www-authenticate": "w", "x-token-id": "t"}
    reply = outcome(Answered(500, kept | dropped, b"x" * (REPLY_BODY_BYTES + 1), None, "1.1", 0.0, 0)).reply
    assert reply is not None
    assert reply.headers == kept
    assert (len(reply.body), reply.truncated) == (REPLY_BODY_BYTES, True)


@given(st.text(max_size=4000))
def test_a_message_is_printable_and_bounded(text: str) -> None:
    message = outcome(NotSent(Fault.DNS, text, 0.0)).message
    assert message.isprintable()
    assert len(message.encode()) <= 2048


@given(st.binary(max_size=200), st.text(max_size=60), st.integers(200, 299))
def test_no_body_and_no_content_type_make_it_raise(body: bytes, content_type: str, status: int) -> None:
    result = outcome(answered(status, body, content_type=content_type))
    assert result.effect is RAN

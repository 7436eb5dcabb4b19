"""What a token endpoint's answer means, row by row."""

import json
from typing import Any

import pytest

from connectors.auth.grants import Denied, Granted, Verdict, judge, lacks_scope, lost
from connectors.exchange import Ambiguous, Answered, Cut, Exchange, Fault, NotSent

CANARY = "canary-Zm9v"


def answered(status: int, body: Any, cut: Cut | None = None, **headers: str) -> Answered:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answered(status, named, raw, cut, "1.1", 0.1, 10)


def good(**more: Any) -> dict[str, Any]:
    return {"access_token": CANARY, "token_type": "bearer", "expires_in": 60, **more}


DENIED: list[tuple[Exchange, Verdict]] = [
    (answered(400, {"error": "invalid_grant", "error_description": CANARY}), Verdict.REFUSED),
    (answered(401, {"error": "invalid_grant"}), Verdict.REFUSED),
    (answered(200, {"error": "bad_refresh_token"}), Verdict.REFUSED),
    (answered(200, {"ok": False, "error": "token_revoked"}), Verdict.REFUSED),
    (answered(400, {"error": "interaction_required"}), Verdict.REFUSED),
    (answered(401, {"error": "invalid_client"}), Verdict.MISCONFIGURED),
    (answered(400, {"error": "unauthorized_client"}), Verdict.MISCONFIGURED),
    (answered(400, {"error": "invalid_scope"}), Verdict.MISCONFIGURED),
    (answered(400, {"error": "unsupported_grant_type"}), Verdict.MISCONFIGURED),
    (answered(401, b"<html>"), Verdict.MISCONFIGURED),
    (answered(404, b""), Verdict.MISCONFIGURED),
    (answered(302, b""), Verdict.MISCONFIGURED),
    (answered(200, good(token_type="mac")), Verdict.MISCONFIGURED),
    (answered(500, b"oops"), Verdict.BUSY),
    (answered(503, good()), Verdict.BUSY),
    (answered(429, b""), Verdict.BUSY),
    (answered(400, b"not json"), Verdict.BUSY),
    (answered(403, {"error": CANARY}), Verdict.BUSY),
    (answered(400, {"error": ["invalid_grant"]}), Verdict.BUSY),
    (answered(400, {"error": "temporarily_unavailable"}), Verdict.BUSY),
    (answered(200, b"garbage"), Verdict.UNCLEAR),
    (answered(200, []), Verdict.UNCLEAR),
    (answered(200, {}), Verdict.UNCLEAR),
    (answered(204, b""), Verdict.UNCLEAR),
    (answered(200, good(access_token="")), Verdict.UNCLEAR),
    (answered(200, good(access_token="two\nlines")), Verdict.UNCLEAR),
    (answered(200, good(access_token=7)), Verdict.UNCLEAR),
    (answered(200, good(access_token="x" * 20_000)), Verdict.UNCLEAR),
    (answered(200, good(), Cut.LOST), Verdict.UNCLEAR),
    (answered(200, good(), Cut.WIRE), Verdict.UNCLEAR),
    (Ambiguous(Fault.RECEIVE_TIMEOUT, CANARY, 1.0, 10), Verdict.UNCLEAR),
    (NotSent(Fault.REFUSED, CANARY, 0.1), Verdict.BUSY),
    (NotSent(Fault.DNS, CANARY, 0.1), Verdict.BUSY),
    (NotSent(Fault.BLOCKED, "private address.", 0.1), Verdict.MISCONFIGURED),
]


@pytest.mark.parametrize(("ending", "verdict"), DENIED)
def test_an_answer_without_a_token(ending: Exchange, verdict: Verdict) -> None:
    found = judge(ending, now_s=0)
    assert isinstance(found, Denied)
    assert found.verdict is verdict
    assert CANARY not in repr(found)
    assert found.message
    assert not found.message.endswith(".")


@pytest.mark.parametrize(
    ("more", "life_s", "scopes", "refreshed"),
    [
        ({}, 60, None, False),
        ({"expires_in": "3600"}, 3600, None, False),
        ({"expires_in": 0}, None, None, False),
        ({"expires_in": -1}, None, None, False),
        ({"expires_in": None}, None, None, False),
        ({"refresh_token": "r"}, 60, None, True),
        ({"refresh_token": ""}, 60, None, False),
        ({"refresh_token": None}, 60, None, False),
        ({"scope": "a b"}, 60, ("a", "b"), False),
        ({"scope": "a,b"}, 60, ("a", "b"), False),
        ({"scope": ["a"]}, 60, ("a",), False),
        ({"scope": ""}, 60, None, False),
        ({"token_type": None}, 60, None, False),
        ({"error": ""}, 60, None, False),
    ],
)
def test_an_answer_with_one(more: dict[str, Any], life_s: float | None, scopes: Any, refreshed: Any) -> None:
    found = judge(answered(200, good(**more)), now_s=0)
    assert isinstance(found, Granted)
    assert (found.life_s, found.scopes, found.refresh is not None) == (life_s, scopes, refreshed)
    assert found.access.reveal() == CANARY
    assert CANARY not in repr(found)


def test_the_vendor_says_how_long_to_wait() -> None:
    found = judge(answered(429, b"", retry_after="7"), now_s=0)
    assert isinstance(found, Denied)
    assert found.retry_after_s == 7


def test_scopes_that_were_not_given() -> None:
    assert lost(("a", "b"), ("b", "c")) == ("a",)
    assert lost(("a",), None) == ()


def test_a_missing_right_is_not_an_old_token() -> None:
    assert lacks_scope({"www-authenticate": 'Bearer error="insufficient_scope", scope="x"'})
    assert not lacks_scope({"www-authenticate": 'Bearer error="invalid_token"'})
    assert not lacks_scope({})

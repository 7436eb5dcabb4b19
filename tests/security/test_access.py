"""Every operation of the API, as its own document lists them, with the names of another tenant: as if they were not there.

What borealis is told of something that is aurora's must be what it is told of something that never was, to the letter.
A new operation, or a new kind of name, fails here until it is written into the tables below.
"""

import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from gateway.entrypoints import api
from tests.security.estate import (
    CREATE,
    EMAIL,
    KEY,
    MARK,
    OPERATOR,
    OURS,
    SESSION,
    THEIRS,
    Estate,
    document,
    hidden,
)

pytestmark = pytest.mark.wire

NOBODYS: Mapping[str, str] = {
    "call_id": "01JCW3H5N0000000000000000A",
    "call": "01JCW3H5N0000000000000000B",
    "letter": "01JCW3H5N0000000000000000C",
    "replay": "01JCW3H5N0000000000000000D",
    "alert": "01JCW3H5N0000000000000000E",
    "tool": "zenith.contacts.create",
    "lane": "zenith.contacts.create",
    "connector": "zenith",
    "name": "zenith-main",
}
"""What has the form of each name and is nobody's."""

PLAIN, CONSENT = {"reason": "because"}, "http://127.0.0.1:49152/callback"
BODIES: Mapping[str, Any] = {
    "pauseLanes": lambda names: {"connector": names["connector"], **PLAIN},
    "resumeLanes": lambda names: {"connector": names["connector"]},
    "openBreakers": lambda names: {"connector": names["connector"], **PLAIN},
    "closeBreakers": lambda names: {"connector": names["connector"], **PLAIN},
    "autoBreakers": lambda names: {"connector": names["connector"], **PLAIN},
    "setConnection": lambda _: {"refresh_token": "r"},
    "authorizeConnection": lambda _: {"redirect_uri": CONSENT, "state": "s" * 32, "challenge": "c" * 43},
    "redeemConnection": lambda _: {"code": "c", "verifier": "v" * 43, "redirect_uri": CONSENT},
    "acceptFinding": lambda _: {"fingerprint": "v1:1f2e3d4c5b6a", **PLAIN},
    "rejectFinding": lambda _: {"fingerprint": "v1:1f2e3d4c5b6a", **PLAIN},
    "approveCall": lambda _: {"hash": "0" * 64, **PLAIN},
    "denyCall": lambda _: PLAIN,
    "resolveAlert": lambda _: PLAIN,
    "resolveDeadLetter": lambda _: {"outcome": "not_done", **PLAIN},
    "discardDeadLetter": lambda _: PLAIN,
    "planReplay": lambda names: {"ids": [names["letter"]], "dry_run": True},
    "pauseReplay": lambda _: PLAIN,
    "resumeReplay": lambda _: PLAIN,
    "cancelReplay": lambda _: PLAIN,
    "judgePlan": lambda names: {"steps": [{"tool": names["tool"], "connection": names["name"], "count": 2}]},
    "publishCall": lambda names: {"tool": names["tool"], "arguments": {"email": "a@b.c"}, "connection": names["name"]},
}
BARE = {"startReplay", "cancelCall", "checkConnection", "revokeConnection"}
"""Operations that change something and take no body."""
MAY_DIFFER = {"publishCall", "judgePlan"}
"""A tool outside one's scope is refused as that, so that its agent can ask for it; which there are is not told."""
OPEN = {"live", "ready"}
"""Answered to everybody."""
COUNTED = {"metrics"}
"""Without a key, by address: it counts, and names connectors and operations but nobody and no call."""
THEIR_WORDS = {
    "session": SESSION,
    "agent": THEIRS,
    "tool": CREATE,
    "connector": "aurora",
    "connection": "aurora-main",
    "text": MARK,
    "state": None,
    "error": None,
    "trace": None,
    "fingerprint": None,
    "since": "7d",
    "until": None,
    "confidence_from": None,
    "confidence_below": None,
    "limit": "500",
    "cursor": None,
    "held": None,
    "status": None,
    "effect": None,
    "call": "call_id",
    "root": "letter",
    "open": "true",
    "explain": "true",
    "wait": "0",
}
"""Query parameters: what of aurora's could stand there; None: nothing that would name it."""


@pytest.fixture(scope="module")
def operations(shared: Estate) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Every operation by its id: method, path, description."""
    return {
        described["operationId"]: (method.upper(), path, described)
        for path, methods in document(shared)["paths"].items()
        for method, described in methods.items()
    }


Operations = dict[str, tuple[str, str, dict[str, Any]]]


def asked(one: Estate, operations: Operations, name: str, who: str | None, names: Mapping[str, str]) -> httpx2.Response:
    method, path, _ = operations[name]
    body = BODIES[name](names) if name in BODIES else None
    return one.ask(who, method, re.sub(r"\{(\w+)\}", lambda found: names[found[1]], path), json=body)


def said(answer: httpx2.Response, names: Mapping[str, str]) -> str:
    """Return the whole answer with the names that were asked for taken out."""
    kept = sorted(name for name in answer.headers if name not in {"date", "content-length"})
    text = f"{answer.status_code} {kept} {answer.text}"
    for value in sorted(set(names.values()), key=len, reverse=True):
        text = text.replace(value, "…")
    return text


def test_every_operation_and_every_name_is_in_the_tables(operations: Operations) -> None:
    changing = {name for name, (method, _, _) in operations.items() if method != "GET"}
    assert changing - set(BODIES) - BARE == set()
    assert (set(BODIES) | BARE) - set(operations) == set()
    in_paths = {found for _, path, _ in operations.values() for found in re.findall(r"\{(\w+)\}", path)}
    assert in_paths - set(NOBODYS) == set()
    queried = {
        parameter["name"]
        for _, _, described in operations.values()
        for parameter in described.get("parameters", [])
        if parameter["in"] == "query"
    }
    assert queried - set(THEIR_WORDS) == set()


def test_the_document_lists_every_route(operations: Operations) -> None:
    parts: Any = SimpleNamespace(max_body_bytes=1)  # its routes are asked for, not its answers
    routed = {
        (method, re.sub(r":\w+\}", "}", route.path_format))
        for route in api.build(parts).routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    known = {(method, path) for method, path, _ in operations.values()}
    assert routed - known == {("GET", "/openapi.json")}


def test_what_is_theirs_is_to_us_as_what_never_was(shared: Estate, operations: Operations) -> None:
    different = []
    for name, (_, path, _) in operations.items():
        if "{" not in path and name not in BODIES:
            continue
        theirs = asked(shared, operations, name, OURS, shared.names)
        nobodys = asked(shared, operations, name, OURS, NOBODYS)
        assert theirs.status_code in {403, 404, 200}, (name, theirs.text)
        if theirs.status_code == 200:
            assert name == "judgePlan", f"{name} gave us something of theirs"
            assert theirs.json()["verdict"] == "no_go"
        if name not in MAY_DIFFER and said(theirs, shared.names) != said(nobodys, NOBODYS):
            different.append((name, said(theirs, shared.names), said(nobodys, NOBODYS)))
        leaks(shared, name, theirs, shared.names.values())
        leaks(shared, name, nobodys, ())
    assert different == []


def leaks(one: Estate, name: str, answer: httpx2.Response, echoed: Any) -> None:
    """Fail if an answer tells something of aurora's beyond what was asked for by name."""
    text = answer.text
    for value in sorted(set(echoed), key=len, reverse=True):
        text = text.replace(value, "…")
    told = [kind for kind, value in hidden(one).items() if value in text]
    assert told == [], (name, told, answer.text)


def test_no_list_and_no_filter_of_a_list_tells_us_of_theirs(shared: Estate, operations: Operations) -> None:
    for name, (method, path, described) in operations.items():
        if method != "GET" or "{" in path or name in COUNTED:
            continue
        leaks(shared, name, shared.ask(OURS, "GET", path), ())
        for parameter in described.get("parameters", []):
            value = THEIR_WORDS[parameter["name"]]
            if parameter["in"] != "query" or value is None:
                continue
            value = shared.names.get(value, value)
            answer = shared.ask(OURS, "GET", path, params={parameter["name"]: value})
            leaks(shared, f"{name} ?{parameter['name']}=", answer, [value])


def test_an_explained_tool_of_theirs_is_none_and_one_of_ours_names_no_file(shared: Estate) -> None:
    theirs = shared.ask(OURS, "GET", "/v1/connectors", params={"tool": CREATE, "explain": "true"})
    assert theirs.json()["tools"] == []
    leaks(shared, "explain theirs", theirs, [])
    for tool in shared.ask(OURS, "GET", "/v1/connectors").json()["tools"]:
        ours = shared.ask(OURS, "GET", "/v1/connectors", params={"tool": tool["tool"], "explain": "true"})
        assert "values" not in ours.json()["tools"][0]


def test_a_cursor_of_theirs_shows_us_nothing_of_theirs(shared: Estate) -> None:
    for path in ("/v1/calls", "/v1/dead-letters"):
        cursor = shared.ask(THEIRS, "GET", path, params={"limit": "1"}).json()["cursor"]
        assert cursor
        leaks(shared, path, shared.ask(OURS, "GET", path, params={"cursor": cursor}), [cursor])


def test_their_key_is_taken_or_free_and_tells_nothing(shared: Estate) -> None:
    body = {"tool": CREATE, "arguments": {"email": EMAIL, "name": MARK}, "idempotency_key": KEY, "session": SESSION}
    answer = shared.ask(OURS, "POST", "/v1/calls", json=body)
    assert answer.status_code == 403
    leaks(shared, "publishCall", answer, [CREATE])


def test_a_name_that_nearly_is_one_of_theirs_is_not_completed(shared: Estate) -> None:
    for tool in ("aurora.contacts.creat", "aurore.contacts.create", "crm.contacts.creat", "aurora"):
        answer = shared.ask(OURS, "POST", "/v1/calls", json={"tool": tool, "arguments": {}})
        leaks(shared, tool, answer, [tool])
        plan = shared.ask(OURS, "POST", "/v1/preflight", json={"steps": [{"tool": tool}]})
        leaks(shared, tool, plan, [tool])
    whole = [shared.ask(OURS, "GET", f"/v1/lanes/{name}|-|contacts.create").json() for name in ("aurora", "zenith")]
    assert whole[0]["detail"].replace("aurora", "zenith") == whole[1]["detail"]
    for path in (
        "/v1/lanes/aurora.contacts.creat",
        "/v1/contracts/aurora.contacts.creat",
        "/v1/health?connector=auror",
    ):
        leaks(shared, path, shared.ask(OURS, "GET", path), ["aurora.contacts.creat", "auror"])


def test_the_events_of_theirs_are_not_followed(shared: Estate) -> None:
    for accept in ("text/event-stream", "application/json"):
        for last in ({}, {"Last-Event-ID": f"{shared.names['call_id']}.1"}):
            path = f"/v1/calls/{shared.names['call_id']}/events"
            assert shared.ask(OURS, "GET", path, headers={"Accept": accept, **last}).status_code == 404


def test_metrics_and_documents_name_nobody(shared: Estate) -> None:
    for path in ("/metrics", "/openapi.json", "/asyncapi.json", "/livez", "/readyz"):
        text = shared.ask(None, "GET", path).text
        kinds = [kind for kind, value in hidden(shared).items() if value in text and kind != "tool"]
        assert kinds == [], path
        assert "aurora.contacts" not in text


def test_without_a_key_nothing_private_is_answered(shared: Estate, operations: Operations) -> None:
    for name in set(operations) - OPEN - COUNTED - {"asyncapi"}:
        assert asked(shared, operations, name, None, shared.names).status_code == 401, name


def test_to_those_who_may_all_of_it_is_there(shared: Estate, operations: Operations) -> None:
    """Otherwise the answers above would prove nothing."""
    for name, (method, path, _) in operations.items():
        if method == "GET" and "{" in path and name != "followCall":
            answer = asked(shared, operations, name, OPERATOR, shared.names)
            assert answer.status_code in {200, 202}, (name, answer.text)
            assert any(value in answer.text for value in shared.names.values()), name
    for path in ("/v1/calls/{call_id}", "/v1/approvals/{call}", "/v1/dead-letters/{letter}", "/v1/contracts/{tool}"):
        place = re.sub(r"\{(\w+)\}", lambda found: shared.names[found[1]], path)
        assert shared.ask(THEIRS, "GET", place).status_code == 200, path
    assert MARK in json.dumps(shared.ask(THEIRS, "GET", "/v1/calls").json())

"""No secret stands anywhere: a vendor says back every credential in every way, and everything that is left or told is searched."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.demo.ground import ROOT, Ground
from tests.security import canary
from tests.security.canary import Leak, leaks
from tests.security.estate import OPERATOR, TESTER, Estate, keys, people
from tests.security.mirror import ARGUMENT, ISSUED, SECRETS, STATUSES, connectors, environment, mirror
from tests.served import key_of

pytestmark = pytest.mark.wire

CREDENTIALS = (*SECRETS.values(), *ISSUED.values(), key_of(TESTER), key_of(OPERATOR))
Told = tuple[Estate, list[dict[str, Any]], list[tuple[str, bytes]]]
"""The gateway, how its calls ended, and all that its API tells of them."""
KINDS = ("bearer", "apikey", "basic", "oauth")


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """A gateway after each credential was used and said back with each status."""
    with (
        mirror() as url,
        Ground(connectors(url) + people({TESTER: ("Agent", 'allow: ["*"]')}), {**keys(), **environment()}) as ground,
    ):
        one = Estate(ground)
        tools = [f"{kind}.s{status}" for kind in KINDS for status in STATUSES]
        with ThreadPoolExecutor(4) as pool:  # the last of each kind may wait for a new credential
            ended = list(pool.map(lambda tool: _called(one, tool), tools))
        one.until(
            lambda: len(one.ask(OPERATOR, "GET", "/v1/calls?limit=500").json().get("calls", [])) >= len(ended), "calls"
        )
        yield one, ended, list(answers(one, ended))
        one.http.close()


def _called(one: Estate, tool: str) -> dict[str, Any]:
    wait = 2 if tool.endswith("s401") else 25
    body = {"tool": tool, "arguments": {"note": ARGUMENT}, "session": "s"}
    answer = one.ask(TESTER, "POST", "/v1/calls", json=body, headers={"Prefer": f"wait={wait}"})
    return {"error": None, "http_status": None, "tool": tool, **answer.json()}


def answers(one: Estate, ended: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Ask the API for all it tells of these calls, as one who may see everything."""
    paths = [
        "/metrics",
        "/readyz",
        "/openapi.json",
        "/asyncapi.json",
        "/v1/calls?limit=500",
        "/v1/dead-letters?limit=500",
    ]
    paths += [
        f"/v1/{name}" for name in ("lanes", "breakers", "connections", "contracts", "alerts", "health", "connectors")
    ]
    paths += ["/v1/dead-letters/groups", "/v1/approvals", "/v1/replays", "/v1/nothing/here"]
    paths += [f"/v1/connections/{kind}/main" for kind in KINDS]
    for call in ended:
        paths += [f"/v1/calls/{call['call']}"]
        if call["error"] and (letter := call["error"].get("dead_letter")):
            paths += [f"/v1/dead-letters/{letter}", f"/v1/dead-letters/{letter}?open=true"]
    for path in paths:
        answer = one.ask(OPERATOR, "GET", path)
        yield path, answer.content + repr(answer.headers).encode()


def test_the_calls_went_out_with_their_credentials(told: Told) -> None:
    _, ended, _ = told
    assert {call["http_status"] for call in ended} >= {200, 302, 422, 500}, ended
    done = [call["tool"].partition(".")[0] for call in ended if call["state"] == "completed"]
    assert done == list(KINDS), ended


def test_no_credential_is_left_anywhere(told: Told) -> None:
    one, ended, said = told
    found = leaks(canary.files(one.ground.data), CREDENTIALS)
    found += leaks(canary.keys(one.ground.redis), CREDENTIALS)
    found += leaks(canary.tables(one.ground.data / "journal.db"), CREDENTIALS)
    found += leaks([("the log", one.ground.log.read_bytes())], CREDENTIALS)
    found += leaks(said, CREDENTIALS)
    found += leaks([("an answer", repr(ended).encode())], CREDENTIALS)
    assert found == []


def test_an_argument_is_told_only_where_it_belongs(told: Told) -> None:
    one, _, said = told
    places = [("the log", one.ground.log.read_bytes())]
    places += canary.topics(one.ground.redis, "tool-events", "dead-letters", "gateway-alerts")
    places += canary.tables(one.ground.data / "journal.db", "events", "letters")
    places += [found for found in said if not re.search(r"/v1/calls/|open=true", found[0])]
    places += [
        found for found in canary.files(one.ground.data) if found[0].startswith(("blobs", "contracts", "metrics"))
    ]
    assert leaks(places, [ARGUMENT]) == []
    opened = [body for path, body in said if "open=true" in path]
    assert any(ARGUMENT.encode() in body for body in opened), "it was not sealed but lost"


def test_no_command_prints_a_credential(told: Told) -> None:
    one, ended, _ = told
    letter = next(call["error"]["dead_letter"] for call in ended if call["error"])
    given = {"SLUICE_URL": one.ground.url, "SLUICE_KEY": key_of(OPERATOR)}
    for words in (
        ["dlq", "show", letter, "--open"],
        ["calls", "show", ended[1]["call"]],
        ["connectors", "explain", "bearer.s200"],
    ):
        ran = subprocess.run(
            [sys.executable, "-m", "gateway", *words],
            cwd=ROOT,
            env=one.ground.environment | given,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert ran.stdout, ran.stderr
        assert leaks([(" ".join(words), ran.stdout + ran.stderr)], CREDENTIALS) == []


@pytest.mark.parametrize("secret", [*SECRETS.values(), ARGUMENT])
@pytest.mark.parametrize("around", [("", ""), ("a", "bc"), ("user:", "\n"), ("xx", "y")])
def test_a_secret_is_found_however_it_is_spelled(secret: str, around: tuple[str, str]) -> None:
    """A sweep that finds nothing must be able to find something."""
    before, after = around
    whole = before + secret + after
    written = [whole.encode(), json.dumps(whole).encode(), quote(whole).encode(), urlencode({"a": whole}).encode()]
    written += [
        base64.b64encode(whole.encode()),
        base64.urlsafe_b64encode(whole.encode()),
        whole.encode().hex().encode(),
    ]
    for content in written:
        assert Leak(secret, "p", "") in {Leak(one.secret, one.place, "") for one in leaks([("p", content)], [secret])}


def test_every_kind_of_place_is_read(tmp_path: Path, told: Told) -> None:
    one, _, _ = told
    client: Any = one.ground.redis
    kinds: dict[str, Callable[[str], Any]] = {
        "t:s": lambda key: client.set(key, ARGUMENT),
        "t:h": lambda key: client.hset(key, "f", ARGUMENT),
        "t:l": lambda key: client.rpush(key, ARGUMENT),
        "t:e": lambda key: client.sadd(key, ARGUMENT),
        "t:z": lambda key: client.zadd(key, {ARGUMENT: 1}),
        "t:x": lambda key: client.xadd(key, {"f": ARGUMENT}),
    }
    for name, put in kinds.items():
        put(name)
        assert f"Redis {name}" in {found.place for found in leaks(canary.keys(client), [ARGUMENT])}
        client.delete(name)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"\0" + ARGUMENT.encode())
    assert leaks(canary.files(tmp_path), [ARGUMENT]) == [Leak(ARGUMENT, "deep/file", "plain")]

"""Rows 38 to 40: a vendor that answers with bombs and redirects, a name that flips, and arguments that mean something elsewhere."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from urllib.parse import unquote

from tests.demo import ledger
from tests.faults.matrix.flipping import GOOD, NAME
from tests.faults.matrix.load import Call, call
from tests.faults.matrix.recording import Size
from tests.faults.matrix.scenario import NotRun, Scenario, Scene
from tests.faults.matrix.schedule import Schedule
from tests.faults.matrix.stage import Setting, Stage
from tests.vendor.script import Behaviour, Kind

# Row 38

MIB = 2**20
GIANT = 2**30
BOMBS = {
    "gzip_bomb": Behaviour(do=Kind.GZIP_BOMB, size=64 * MIB, forever=True),
    "header_flood": Behaviour(do=Kind.HEADER_FLOOD, size=2_000, forever=True),
    "drip": Behaviour(do=Kind.DRIP, size=1_000, interval=0.05, forever=True),
    "garbage": Behaviour(do=Kind.GARBAGE, forever=True),
}
WRITES = {"keyed": "k", "unsafe": "u", "idempotent": "i", "verifiable": "v"}


def _some(dice: Random, seed: int) -> Schedule:
    return Schedule(seed=seed, calls=dice.randint(24, 40))


def bombs(scene: Scene) -> None:
    """Let each write be answered by some bomb, and reads by a gigabyte, and look how much the workers hold all the while."""
    stage = scene.stage
    stage.start_team()
    stage.publish(*(call(number, "safe") for number in range(50)))
    stage.until(stage.is_quiet, "the workers are warm")
    calls = [call(1_000 + number, stage.dice.choice(list(WRITES))) for number in range(scene.schedule.calls)]
    for one in calls:
        kind = stage.dice.choice(list(BOMBS))
        rule = BOMBS[kind]
        stage.vendor.script(one.operation, _matching(rule, one.ref.partition("@")[0]), append=True)
        scene.nemesis.note(kind)
    with _watched(stage):
        stage.publish(*calls, *(_giant(number) for number in range(4)))
        scene.nemesis.note("giant", 4)
        stage.healed()
        stage.until(stage.is_quiet, "all have ended", within_s=40)
    ended = {one["data"]["request"]["id"]: one["data"] for one in ledger.results(stage.books)}
    answered = [ended[one.id] for one in calls if ended[one.id]["http_status"] in {200, 201}]
    stage.demand(answered, "some were answered")
    for told in answered:
        # A head that says success is the proof, whatever its body is.
        stage.demand(told["effect"] == "executed", "a bomb is behind a success", str(told)[:600])


def _matching(rule: Behaviour, name: str) -> Behaviour:
    return Behaviour(do=rule.do, size=rule.size, interval=rule.interval, forever=True, match=name)


def _giant(number: int) -> Call:
    told = {"tool": "crm.big", "arguments": {"bytes": GIANT}}
    event = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/north", "id": f"g{number}"}
    raw = json.dumps({**event, "data": told}).encode()
    return Call(id=f"g{number}", agent="north", session="one", op_class="safe", operation="big", ref="", raw=raw)


@contextmanager
def _watched(stage: Stage) -> Iterator[None]:
    """Note the most that each worker holds, not what it holds afterwards."""
    before = [stage.measure(one) for one in stage.alive]
    most, over = list(before), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for number, one in enumerate(stage.alive):
                now = stage.measure(one)
                most[number] = Size(max(most[number].rss, now.rss), max(most[number].fds, now.fds))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        stage.sizes += [(f"worker {number}", *both) for number, both in enumerate(zip(before, most, strict=True))]


# Row 39


def _trips(dice: Random, seed: int) -> Schedule:
    return Schedule(seed=seed, calls=dice.randint(40, 60))


def elsewhere(scene: Scene) -> None:
    """Send every call on to where it must not go, and let a name flip between what is allowed and what is not."""
    stage = scene.stage
    with socket.create_server(("127.0.0.1", 0)) as trap:
        port = trap.getsockname()[1]
        targets = (
            f"http://127.0.0.1:{port}/", f"http://localhost:{port}/", f"http://[::ffff:127.0.0.1]:{port}/", "//169.254.169.254/",
            "http://169.254.169.254/latest/meta-data/", f"http://evil.example.com:{port}/", "file:///etc/passwd",
        )  # fmt: skip
        for operation in ("contacts.create", "contacts.get", "messages.send"):
            rules = [
                Behaviour(
                    do=Kind.REDIRECT,
                    url=stage.dice.choice(targets),
                    status=stage.dice.choice((301, 302, 303, 307, 308)),
                )
                for _ in range(scene.schedule.calls)
            ]
            stage.vendor.script(operation, *rules)
        _declare_flips(stage)
        stage.start_team()
        classes = ("keyed", "safe", "unsafe")
        stage.publish(*(call(number, classes[number % 3]) for number in range(scene.schedule.calls)))
        scene.nemesis.note("redirect", scene.schedule.calls)
        stage.publish(*(_flip(number) for number in range(scene.schedule.calls)))
        scene.nemesis.note("rebinding", scene.schedule.calls)
        stage.healed()
        stage.until(stage.is_quiet, "all have ended", within_s=40)
        stage.demand(caught(trap) == 0, "a redirect was followed")
    dialled = set(stage.clock.with_name("dialled").read_text().split())
    stage.demand(dialled == {GOOD}, "what must not be dialled was dialled", str(dialled))
    flips = [one["data"] for one in ledger.results(stage.books) if one["data"]["tool"] == "flips.echo"]
    blocked = [one for one in flips if one["state"] != "completed"]
    stage.demand(0 < len(blocked) < len(flips), f"{len(blocked)} of {len(flips)} were blocked", str(blocked)[:600])
    wrong = [one for one in blocked if one["effect"] != "not_executed"]
    stage.demand(not wrong, "what was blocked did not run", str(wrong)[:600])


def _declare_flips(stage: Stage) -> None:
    """Declare a connector whose host is the vendor's address whenever its name says so."""
    head = {"apiVersion": "sluice/v1"}
    connector = {
        **head,
        "kind": "Connector",
        "metadata": {"name": "flips", "version": "1.0.0"},
        "base_url": f"http://{NAME}:{stage.vendor_proxy.port}",
        "auth": {"type": "api_key", "in": "header", "name": "X-Api-Key"},
        "egress": {"allow_hosts": [NAME], "allow_private": True},
        "defaults": {
            "timeout": "1s",
            "retry": {"max_attempts": 1},
            "breaker": {"min_calls": 10_000, "consecutive": 10_000},
        },
        "operations": {"echo": {"request": {"method": "GET", "path": "/v1/echo"}, "class": "safe"}},
    }
    named = {"metadata": {"name": "flips-main", "connector": "flips"}, "secrets": {"api_key": "${env:CRM_KEY}"}}
    documents = (connector, {**head, "kind": "Connection", **named})
    path = stage.workers.folder / "connectors.d" / "flips.yaml"
    path.write_text("\n---\n".join(map(json.dumps, documents)), encoding="utf-8")


def _flip(number: int) -> Call:
    told = {"tool": "flips.echo", "arguments": {"word": f"w{number}"}}
    event = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/east", "id": f"f{number}"}
    raw = json.dumps({**event, "data": told}).encode()
    return Call(id=f"f{number}", agent="east", session="one", op_class="safe", operation="echo", ref="", raw=raw)


def caught(trap: socket.socket) -> int:
    """Count who has knocked at a door that nobody opens."""
    trap.setblocking(False)
    count = 0
    while True:
        try:
            trap.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


# Row 40

PAYLOADS = (
    "a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\x00b", "a\x85X-Evil: 1", "a\u010d\u010aX-Evil: 1", "a%0d%0aX-Evil:%201",
    "a\r\n\r\nGET /v1/big?bytes=9 HTTP/1.1\r\nHost: evil\r\n\r\n", "a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "..", "../admin", "/admin", "//evil.example/", "..;/admin", "%2e%2e%2fadmin", "..\\admin", "?admin=1", "#admin", "a?b=c&d=e#f",
    "@evil.example", "http://evil.example/", "\uff0e\uff0e/admin", "%zz", "*",
    "{{7*7}}", "${env:CRM_KEY}", "${file:/etc/passwd}", "${jndi:ldap://127.0.0.1/a}", "{word}", "{0.__class__}", "%s%n", "$(id)",
    "'; DROP TABLE calls; --", "KEYS[1]", "<script>alert(1)</script>", "\\u0000",
    "\x1b[2J\x1b[H", "\x1b]52;c;cm0gLXJmIC8=\x07", "\x9b31m", "\u202egpj.exe", "=cmd|' /C calc'!A0", "[bold]x[/]",
    'a"}\n{"event":"call.settled"', "a\n2026-11-20T09:00:00Z [info] call.settled",
)  # fmt: skip
"""What a protocol, a path, a template, a shell, a terminal, a spreadsheet or a log would obey."""

PLACES = {
    "echo": {
        "request": {"method": "GET", "path": "/v1/echo", "query": {"word": "{word}"}, "headers": {"X-Note": "{note}"}},
        "input": {"type": "object", "properties": {"word": {"type": "string"}, "note": {"type": "string"}}},
    }
}
KINDS = {"echo": "word", "note": "note", "contacts.get": "id", "messages.send": "text"}


def _corpus(dice: Random, seed: int) -> Schedule:
    return Schedule(seed=seed, calls=dice.randint(100, 120))


def injections(scene: Scene) -> None:
    """Put payloads into every place of a request, and find each where it belongs, as itself, or nowhere."""
    stage = scene.stage
    stage.start_team()
    made = [_loaded(number, *_choice(stage.dice, number)) for number in range(scene.schedule.calls)]
    stage.publish(*(one for one, _ in made))
    scene.nemesis.note("injection", len(made))
    stage.healed()
    stage.until(stage.is_quiet, "all have ended", within_s=30)
    ended = {one["data"]["request"]["id"]: one["data"] for one in ledger.results(stage.books)}
    for one, payload in made:
        _kept_its_place(scene, ended[one.id], one.operation, payload)
    for arrival in stage.vendor.arrivals():
        stage.demand(
            arrival.operation in PATHS and arrival.path.startswith(PATHS[arrival.operation]),
            "a place was left",
            str(arrival),
        )
    for line in stage.workers.log.splitlines():
        stage.demand(isinstance(json.loads(line), dict) and "\x1b" not in line, "a line of the log is none", line[:300])
    if stage.until(stage.journal_is_level, "the journal has written all"):
        rows = stage.journal_rows("SELECT call, state FROM calls")
        stage.demand(len(rows) == len(made), f"the journal has {len(rows)} of {len(made)}")


PATHS = {"echo": "/v1/echo", "contacts.get": "/v1/contacts/", "messages.send": "/v1/messages"}


def _choice(dice: Random, number: int) -> tuple[str, str]:
    return dice.choice(list(KINDS)), PAYLOADS[number % len(PAYLOADS)]


def _loaded(number: int, place: str, payload: str) -> tuple[Call, str]:
    operation, ref = "echo" if place == "note" else place, f"x{number}"
    arguments = {KINDS[place]: payload}
    if place == "messages.send":
        arguments["ref"] = ref
    elif operation == "echo":
        arguments = {"word": payload, "note": payload if place == "note" else "plain"}
    told = {"tool": f"crm.{operation}", "arguments": arguments}
    event = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/north", "id": f"p{number}"}
    raw = json.dumps({**event, "data": told}).encode()
    op_class = "unsafe" if place == "messages.send" else "safe"
    return Call(
        id=f"p{number}", agent="north", session="one", op_class=op_class, operation=operation, ref=ref, raw=raw
    ), payload


def _kept_its_place(scene: Scene, told: dict[str, Any], operation: str, payload: str) -> None:
    if told["state"] != "completed":
        good = told["effect"] == "not_executed" and told["state"] in {"rejected", "failed"}
        scene.stage.demand(good, f"{payload!r} was refused", str(told)[:600])
        return
    answer = told["result"]
    match operation:
        case "echo":
            scene.stage.demand(answer["query"] == {"word": payload}, f"{payload!r} is itself", str(answer)[:600])
            scene.stage.demand("x-evil" not in answer["headers"], f"{payload!r} made a header", str(answer)[:600])
        case "contacts.get":
            scene.stage.demand(unquote(answer["id"]) == payload, f"{payload!r} is itself", str(answer)[:600])
        case _:
            scene.stage.demand(answer["text"] == payload, f"{payload!r} is itself", str(answer)[:600])


ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=38,
        title="gzip bomb, 1 GB stream, header flood, drip",
        invariants="MTU",
        bound_s=30,
        plan=_some,
        run=bombs,
        setting=Setting(defaults={"breaker": {"min_calls": 10_000, "consecutive": 10_000}}),
    ),
    Scenario(
        number=39,
        title="redirect to metadata, loopback, another host; a name that flips",
        invariants="SA",
        bound_s=30,
        plan=_trips,
        run=elsewhere,
        setting=Setting(
            journal=True,
            module="tests.faults.matrix.flipping",
            defaults={"breaker": {"min_calls": 10_000, "consecutive": 10_000}},
        ),
    ),
    Scenario(
        number=40,
        title="header, path and template injection; log, terminal and CSV payloads",
        invariants="SA",
        bound_s=20,
        plan=_corpus,
        run=injections,
        setting=Setting(journal=True, operations=PLACES),
        smoke=True,
    ),
)

"""Rows 43 to 47: what people decide, promise, undo and may not see, and what of it is not built."""

import secrets
import threading
import time
from collections import defaultdict
from http import HTTPStatus
from random import Random
from typing import Any

import msgspec

from schemas.tool_call import ToolCall
from tests.faults.matrix.desk import Desk, keys, people
from tests.faults.matrix.load import ARGUMENT, CREDENTIAL, Call, call
from tests.faults.matrix.scenario import NotRun, Scenario, Scene
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import MAIN, Setting
from tests.vendor.limiter import LimitRequest
from tests.vendor.script import Behaviour, Kind
from tests.vendor.tokens import DeskRequest

# Row 43

WORDS = ("approve", "deny", "cancel", "tamper", "other")
"""What is said of a call; `tamper` changes what is stored, `other` approves what was not shown. Nothing said: it expires."""

SAID = dict[str, dict[str, int]]
"""Of each call, by its ref: how its words were answered."""


def _race(dice: Random, seed: int) -> Schedule:
    faults = tuple(Fault(at_s=dice.uniform(0, 2), kind="kill_worker", seconds=0.3) for _ in range(2))
    return Schedule(seed=seed, calls=30, faults=faults)


def approval_race(scene: Scene) -> None:
    """Say several words about each call at the same moment, while workers die; some calls nobody decides about."""
    stage, desk = scene.stage, Desk(scene.stage)
    stage.start_team()
    calls = [call(number, "unsafe") for number in range(scene.schedule.calls)]
    said: SAID = defaultdict(dict)
    waiting = {one.ref: desk.publish(one) for one in calls}
    talk = [
        threading.Thread(target=_say, args=(desk, waiting[one.ref], word, said[one.ref]))
        for one in calls
        for word in stage.dice.sample(WORDS, stage.dice.randint(0, 3))
    ]
    stage.dice.shuffle(talk)
    struck = threading.Thread(target=_strikes, args=(scene,))
    struck.start()
    for one in talk:
        one.start()
    for one in (*talk, struck):
        one.join()
    stage.healed()
    stage.until(stage.is_quiet, "all are decided or expire", within_s=30)
    _held_to_their_word(scene, said)


def _strikes(scene: Scene) -> None:
    for fault in sorted(scene.schedule.faults, key=lambda one: one.at_s):
        heal = scene.nemesis.strike(fault)
        time.sleep(fault.seconds)
        heal()


def _say(desk: Desk, identity: str, word: str, said: dict[str, int]) -> None:
    match word:
        case "approve":
            said[word] = desk.ask("POST", f"/v1/approvals/{identity}/approve", {}).status
        case "deny":
            said[word] = desk.ask("POST", f"/v1/approvals/{identity}/deny", {"reason": "no"}, who="deputy").status
        case "cancel":
            said[word] = desk.ask("DELETE", f"/v1/calls/{identity}", who="north").status
        case "other":
            body = {"hash": "0" * 64}
            said[word] = desk.ask("POST", f"/v1/approvals/{identity}/approve", body, who="second").status
        case _:
            said[word] = _tamper(desk, identity)


def _tamper(desk: Desk, identity: str) -> int:
    """Change what is stored of a call, as somebody with a hand in Redis would; 200 if it was still there."""
    books = desk.stage.books
    stored = books.hget("{s0}:calls", identity)
    if stored is None:
        return HTTPStatus.NOT_FOUND
    one = msgspec.json.decode(stored, type=ToolCall)
    changed = msgspec.structs.replace(one, arguments={"ref": f"tampered-{identity}", "text": "everything to me"})
    # It may have ended since: then nothing of it may be made anew.
    if books.eval(_IF_THERE, 1, "{s0}:calls", identity, msgspec.json.encode(changed)) == 0:
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.OK


_IF_THERE = (
    "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end "
    "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1"
)


def _held_to_their_word(scene: Scene, said: SAID) -> None:
    stage, effects = scene.stage, scene.stage.vendor.counts().effects_by_ref.get("messages.send", {})
    stage.demand(not [ref for ref in effects if ref.startswith("tampered")], "what was changed has run", str(effects))
    for one in stage.calls.values():
        words = said[one.ref]
        good = {word for word, status in words.items() if status == HTTPStatus.OK}
        scene.nemesis.note("tampered", "tamper" in good)
        told = f"{one.ref}: {words}"
        stage.demand("other" not in good, "what was not shown is approved", told)
        stage.demand(not {"approve", "deny"} <= good, "it is approved and denied", told)
        # 503 says that nobody knows yet whether the word was heard.
        heard = words.get("approve") in {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}
        stage.demand(one.ref not in effects or heard, "it ran without an approval", told)
        stage.demand(one.ref not in effects or not good & {"deny", "cancel"}, "it ran and was refused", told)
        if good == {"approve"}:
            stage.demand(one.ref in effects, "it was approved, and did not run", told)
    stage.demand(len(effects) > 0, "none is approved")


# Row 45

TURNS = ("breaker", "quota", "pause", "token")
"""What becomes worse between the verdict and the calls."""


def _turn(dice: Random, seed: int) -> Schedule:
    return Schedule(seed=seed, calls=dice.randint(20, 40), faults=tuple(
        Fault(at_s=number, kind=kind) for number, kind in enumerate(dice.sample(TURNS, 3))
    ))  # fmt: skip


def go_and_then_not(scene: Scene) -> None:
    """Have a plan judged, let things turn before its calls come, and see that none runs until all is well."""
    stage, desk = scene.stage, Desk(scene.stage)
    stage.vendor.desk(DeskRequest(client_secret=CREDENTIAL))
    stage.vendor.auth("oauth2")
    stage.start_team()
    stage.publish(call(1_000_000, "keyed"))
    stage.until(stage.is_quiet, "a first call has ended")
    for turn, fault in enumerate(scene.schedule.faults):
        steps = [{"tool": "crm.contacts.create", "count": scene.schedule.calls}, {"tool": "crm.messages.send"}]
        report = desk.ask("POST", "/v1/preflight", {"steps": steps}, who="north")
        stage.demand(report["verdict"] != "no_go", f"preflight before {fault.kind}", str(report.body)[:600])
        _turned(scene, desk, fault.kind)
        before = stage.vendor.counts().effects_total
        first = turn * 1_000
        classes = ("keyed", "unsafe")
        stage.publish(*(call(first + number, classes[number % 2]) for number in range(scene.schedule.calls)))
        time.sleep(1.0)
        ran = stage.vendor.counts().effects_total - before
        stage.demand(ran == 0, f"{ran} ran although {fault.kind} had turned")
        later = desk.ask("POST", "/v1/preflight", {"steps": steps}, who="north")
        stage.demand(later["verdict"] != "go", f"preflight still says go after {fault.kind}", str(later.body)[:600])
        _well(scene, desk, fault.kind)
        stage.until(stage.is_quiet, f"all have ended after {fault.kind}", within_s=30)
    stage.healed()
    stage.demand(stage.sums()["completed"] == len(stage.calls), "all have completed", str(stage.sums()))


def _turned(scene: Scene, desk: Desk, kind: str) -> None:
    vendor = scene.stage.vendor
    scene.nemesis.note(kind)
    match kind:
        case "breaker":
            desk.ask("POST", "/v1/breakers/open", {"connector": "crm", "reason": "they migrate"})
        case "quota":
            vendor.limit(LimitRequest(most=0, window=2.0, retry_after="2"))
        case "pause":
            desk.ask("POST", "/v1/lanes/pause", {"connector": "crm", "reason": "wait"})
        case _:
            vendor.revoke()
            vendor.expire()


def _well(scene: Scene, desk: Desk, kind: str) -> None:
    vendor = scene.stage.vendor
    match kind:
        case "breaker":
            desk.ask("POST", "/v1/breakers/auto", {"connector": "crm", "reason": "over"})
        case "quota":
            vendor.limit(LimitRequest(most=1_000, window=1.0, retry_after="1"))
        case "pause":
            desk.ask("POST", "/v1/lanes/resume", {"connector": "crm"})
        case _:
            fresh = f"refresh-{secrets.token_hex(4)}"
            vendor.consent(fresh)
            desk.ask("POST", f"/v1/connections/crm/{MAIN}/set", {"refresh_token": fresh})


# Row 46

GUESSED = ("GET", "DELETE")
HIDDEN = "no such thing"


def _some(dice: Random, seed: int) -> Schedule:
    return Schedule(seed=seed, calls=dice.randint(12, 20), faults=())


def guessing(scene: Scene) -> None:
    """Let one agent ask every endpoint for what belongs to another, and for what there never was: the answers are alike."""
    stage, desk = scene.stage, Desk(scene.stage)
    stage.start_team()
    stage.vendor.script("contacts.update", Behaviour(do=Kind.STATUS, status=422, forever=True))
    classes = ("keyed", "idempotent", "unsafe")
    theirs = [call(number, classes[number % 3], agent="north") for number in range(scene.schedule.calls)]
    known = [desk.publish(one) for one in theirs]
    mine = call(5_000, "keyed", agent="south")
    desk.publish(mine)
    waiting = sum(one.op_class == "unsafe" for one in theirs)
    desk.until(lambda: len(desk.ask("GET", "/v1/approvals").body["approvals"]) == waiting, "they wait for a word")
    dead = sum(one.op_class == "idempotent" for one in theirs)
    desk.until(lambda: stage.books.hlen("{s0}:letters") == dead, "their letters are there")
    letters = [one["letter"] for one in desk.ask("GET", "/v1/dead-letters").body["letters"]]
    stage.demand(len(letters) == dead, "the letters are listed", str(letters))
    for method, path in _paths(desk):
        for identity in stage.dice.sample([*known, *letters], 6):
            _alike(scene, desk, (method, path), identity)
    for listed in (
        "/v1/calls",
        "/v1/dead-letters",
        "/v1/approvals",
        "/v1/lanes",
        "/v1/alerts",
        "/v1/contracts",
        "/v1/breakers",
    ):
        told = str(desk.ask("GET", listed, who="south").body)
        leaked = [one for one in (*known, *letters, ARGUMENT) if one in told]
        stage.demand(not leaked, f"{listed} tells south of north's", str(leaked))
    _takes_no_key(scene, desk, theirs[0])
    for identity, one in zip(known, theirs, strict=True):
        if one.op_class == "unsafe":
            desk.ask("POST", f"/v1/approvals/{identity}/approve", {}, who="second")
    stage.healed()


def _paths(desk: Desk) -> list[tuple[str, str]]:
    """Return every question about one thing that an identifier names."""
    found = desk.ask("GET", "/openapi.json").body["paths"]
    return [
        (method.upper(), path)
        for path, methods in found.items()
        for method in methods
        if path.count("{") == 1 and method in {"get", "post", "delete"}
    ]


def _alike(scene: Scene, desk: Desk, question: tuple[str, str], identity: str) -> None:
    method, path = question
    before, _, after = path.partition("{")
    rest = after.partition("}")[2]
    never = f"01J{identity[3:10]}{identity[:9:-1]}"[:26]
    body = {"reason": "mine", "outcome": "done"} if method == "POST" else None
    asked = [desk.ask(method, f"{before}{one}{rest}", body, who="south") for one in (identity, never)]
    scene.nemesis.note("guess")
    shown = [
        (one.status, str(one.body).replace(which, HIDDEN)) for one, which in zip(asked, (identity, never), strict=True)
    ]
    scene.stage.demand(shown[0] == shown[1], f"{method} {path} tells what is there", str(shown)[:600])
    scene.stage.demand(asked[0].status >= HTTPStatus.BAD_REQUEST, f"{method} {path} answers", str(shown)[:600])


def _takes_no_key(scene: Scene, desk: Desk, one: Call) -> None:
    """Publish under another's idempotency key: nothing of its call is told."""
    body = {"tool": "crm.contacts.create", "arguments": {"email": one.ref}}
    answer = desk.ask("POST", "/v1/calls", body, who="south", key=one.id)
    if answer.status in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
        scene.stage.demand(False, "another's key is taken as one's own", str(answer.body)[:600])
    scene.stage.demand(ARGUMENT not in str(answer.body), "another's arguments are told", str(answer.body)[:600])


APPROVED = {"messages.send": {"approval": {"required": True, "timeout": "6s", "on_timeout": "reject"}}}
PATIENT = {"messages.send": {"approval": {"required": True, "timeout": "10m"}}}
CONSENTED: dict[str, Any] = {
    "apiVersion": "sluice/v1",
    "kind": "Connection",
    "metadata": {"name": MAIN, "connector": "crm"},
    "secrets": {
        "client_id": "${env:CRM_CLIENT}",
        "client_secret": "${env:CRM_KEY}",
        "refresh_token": "${env:CRM_REFRESH}",
    },
}
GRANTED = {"CRM_CLIENT": "client", "CRM_REFRESH": "refresh-0"}

ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=43,
        title="approval race: approve, deny, cancel, expire, tampered arguments, dying workers",
        invariants="DA",
        bound_s=40,
        plan=_race,
        run=approval_race,
        setting=Setting(journal=True, operations=APPROVED, documents=people(), environment=keys()),
    ),
    NotRun(
        number=44,
        title="saga crash at each step",
        invariants="LDA",
        reason="There are no sagas in this version: a call that ran is undone by nobody but a person.",
    ),
    Scenario(
        number=45,
        title="preflight says go, then the breaker opens, the grant is revoked or the quota is eaten",
        invariants="UT",
        bound_s=40,
        plan=_turn,
        run=go_and_then_not,
        setting=Setting(
            auth={"type": "oauth2", "grant": "refresh_token", "token_url": "/oauth/token"},
            documents=(CONSENTED, *people()),
            environment={**keys(), **GRANTED},
            defaults={"retry": {"max_attempts": 20}},
        ),
    ),
    Scenario(
        number=46,
        title="one agent guesses at another's calls, letters and approvals on every endpoint",
        invariants="SI",
        bound_s=30,
        plan=_some,
        run=guessing,
        setting=Setting(journal=True, operations=PATIENT, documents=people(), environment=keys()),
        smoke=True,
    ),
    NotRun(
        number=47,
        title="shadow mode on during all above",
        invariants="DA",
        reason="There is no shadow mode in this version.",
    ),
)

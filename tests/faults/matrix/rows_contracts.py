"""Rows 36 and 37: answers that break their contract after a write, and answers that only look as if they did."""

import time
from random import Random
from typing import Any

from tests.demo import ledger
from tests.faults.matrix.desk import Desk, keys, people
from tests.faults.matrix.load import call
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import MAIN, Setting
from tests.vendor.script import Behaviour, Kind

TEXT: dict[str, Any] = {"type": "string"}
WHOLE: dict[str, Any] = {
    "id": "c1",
    "status": "active",
    "amount": 5,
    "tags": ["a"],
    "owner": {"id": "u1"},
    "kind": "contact",
}
OUTPUT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "status", "owner"],
    "properties": {
        "id": TEXT,
        "status": {"type": "string", "enum": ["active", "held"]},
        "amount": {"type": "integer", "maximum": 100},
        "tags": {"type": "array", "items": TEXT},
        "owner": {"type": "object", "required": ["id"], "properties": {"id": TEXT}},
        "kind": {"const": "contact"},
    },
}

MUTATIONS: dict[str, Any] = {
    "a required field is missing": {key: WHOLE[key] for key in WHOLE if key != "id"},
    "text as a number": {**WHOLE, "id": 7},
    "a number as text": {**WHOLE, "amount": "5"},
    "null": {**WHOLE, "id": None},
    "an object as text": {**WHOLE, "owner": "u1"},
    "an array as an object": {**WHOLE, "tags": {"0": "a"}},
    "a nested field is missing": {**WHOLE, "owner": {}},
    "another constant": {**WHOLE, "kind": "person"},
    "a bound is passed": {**WHOLE, "amount": 101},
    "wrapped": {"data": WHOLE},
    "in an array": [WHOLE],
    "of another type throughout": "done",
}
"""Twelve ways in which a vendor's answer of success stops to be what was promised."""


def _after_a_write(dice: Random, seed: int) -> Schedule:
    faults = tuple(Fault(at_s=dice.uniform(0, 1.5), kind="kill_worker", seconds=0.2) for _ in range(2))
    return Schedule(seed=seed, calls=len(MUTATIONS), seconds=1.5, faults=faults)


def breaks(scene: Scene) -> None:
    """Break each answer in its way while workers die; then have the letters judged again, before and after a person accepts that."""
    stage, desk = scene.stage, Desk(scene.stage)
    for number, body in enumerate(MUTATIONS.values()):
        _answers(scene, "contacts.create", body, match=f"k{number}@")
    stage.start_team()
    play(scene)
    dead = len(MUTATIONS)
    stage.until(lambda: stage.books.hlen("{s0}:letters") == dead and stage.is_quiet(), "a letter of each", within_s=30)
    for result in ledger.results(stage.books):
        told = result["data"]
        stage.demand(
            (told["state"], told["effect"]) == ("failed", "executed"),
            "it ran, and its answer is held back",
            str(told)[:600],
        )
    before = stage.vendor.counts().by_operation["contacts.create"]
    over = desk.over(desk.replay(canary=dead))
    # It may stop before its end, since so many fail; of those that were judged none fits.
    found = over["progress"]
    stage.demand(
        found["replayed_failed"] > 0 == found["replayed_ok"], "judged again it is still wrong", str(over)[:600]
    )
    desk.ask("POST", "/v1/contracts/crm.contacts.create/accept", {"fingerprint": "all", "reason": "announced"})
    over = desk.over(desk.replay(canary=dead))
    stage.demand(over["progress"]["replayed_ok"] > 0, "what was accepted is delivered", str(over)[:600])
    after = stage.vendor.counts().by_operation["contacts.create"]
    stage.demand(after == before, f"replaying what ran has called the vendor {after - before} times")
    _quarantined(scene, desk)
    stage.healed()


def _quarantined(scene: Scene, desk: Desk) -> None:
    """Break a write whose contract holds its like back: they wait for a person, and run after his word."""
    stage = scene.stage
    _answers(scene, "contacts.update", {"id": 7})
    stage.publish(call(100, "idempotent"))
    stage.until(lambda: any(b"contacts.update" in gate for gate in stage.books.hkeys("{s0}:gates")), "writes are held")
    ran = stage.vendor.counts().by_operation["contacts.update"]
    stage.publish(*(call(number, "idempotent") for number in range(101, 106)))
    stage.until(lambda: stage.books.zcard(f"{{s0}}:lane:crm|{MAIN}|contacts.update") == 5, "they wait")
    time.sleep(0.3)
    now = stage.vendor.counts().by_operation["contacts.update"]
    stage.demand(now == ran, f"{now - ran} writes ran in quarantine")
    desk.ask("POST", "/v1/contracts/crm.contacts.update/accept", {"fingerprint": "all", "reason": "announced"})


def _answers(scene: Scene, operation: str, body: Any, **more: Any) -> None:
    rule = Behaviour(do=Kind.STATUS, status=200, body=body, executes=True, forever=True, **more)
    scene.stage.vendor.script(operation, rule, append=True)
    scene.nemesis.note("contract_broken")


# Row 37

ADDRESS = {"type": "object", "required": ["city"], "properties": {"city": TEXT, "zip": {"type": ["string", "null"]}}}
PERSON = {
    "type": "object",
    "required": ["type", "id"],
    "properties": {
        "type": {"const": "person"},
        "id": TEXT,
        "born": TEXT,
        "address": {"anyOf": [ADDRESS, {"type": "null"}]},
    },
}
COMPANY = {
    "type": "object",
    "required": ["type", "id", "seats"],
    "properties": {"type": {"const": "company"}, "id": TEXT, "seats": {"type": ["integer", "string"]}, "parent": TEXT},
}
MANY_SHAPES = {"output": {"oneOf": [PERSON, COMPANY]}}


def _shape(dice: Random, identity: str) -> dict[str, Any]:
    """Return an answer that is lawful, of either kind, with its rare fields rarely there."""
    if dice.random() < 0.7:
        found: dict[str, Any] = {"type": "person", "id": identity}
        address = {"city": "Ulm", **({"zip": dice.choice([None, "89073"])} if dice.random() < 0.1 else {})}
        rare: dict[str, Any] = {"born": "1879-03-14", "address": dice.choice([None, address]), "x_new": dice.random()}
    else:
        found = {"type": "company", "id": identity, "seats": dice.choice([3, "3"])}
        rare = {"parent": "c0", "x_flags": [], "x_new": dice.random()}
    return found | {name: value for name, value in rare.items() if dice.random() < 0.05}


def _lawful(dice: Random, seed: int) -> Schedule:
    faults = (Fault(at_s=dice.uniform(0.3, 1.5), kind="kill_worker", seconds=0.2),)
    return Schedule(seed=seed, calls=200, seconds=2.0, faults=faults)


def no_break(scene: Scene) -> None:
    """Answer in every lawful shape, the rare ones late, and hear no alarm."""
    stage, dice = scene.stage, Random(scene.schedule.seed)
    shapes = [
        Behaviour(do=Kind.STATUS, status=200, body=_shape(dice, f"c{number}"))
        for number in range(2 * scene.schedule.calls)
    ]
    stage.vendor.script("contacts.get", *shapes)
    stage.start_team()
    play(scene)
    stage.until(stage.is_quiet, "all have ended", within_s=30)
    told = [
        event["data"]
        for topic in ("tool-events", "gateway-alerts")
        for event in ledger.read(stage.books, topic)
        if event["type"] == "contract.finding" and event["data"]["level"] == "breaking"
    ]
    stage.demand(not told, f"{len(told)} breaks are told of lawful answers", str(told)[:600])
    stage.demand(stage.sums()["completed"] == scene.schedule.calls, "all have completed", str(stage.sums()))


ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=36,
        title="response schema break in twelve ways after a write, quarantine, replay by judging alone",
        invariants="DUA",
        bound_s=40,
        plan=_after_a_write,
        run=breaks,
        setting=Setting(
            journal=True,
            classes=("keyed",),
            operations={
                "contacts.create": {"output": OUTPUT, "contract": {"on_breaking": "block"}},
                "contacts.update": {"output": OUTPUT, "contract": {"on_breaking": "quarantine_writes"}},
            },
            documents=people(),
            environment=keys(),
        ),
    ),
    Scenario(
        number=37,
        title="polymorphic answers and rare fields, and no break among them",
        invariants="T",
        bound_s=20,
        plan=_lawful,
        run=no_break,
        setting=Setting(classes=("safe",), operations={"contacts.get": MANY_SHAPES}),
        smoke=True,
    ),
)

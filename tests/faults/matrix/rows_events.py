"""Rows 14 to 17: events that come twice, a hundred times, in any order, broken, or as poison."""

import json
import threading
import time
from random import Random

from tests.faults.deadly import POISON
from tests.faults.matrix.load import ARGUMENT, Call, call
from tests.faults.matrix.rows_workers import SLOW, slow_storm
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import Setting, patience

COPIES, OTHERS, VICTIMS = 100, 5, 2


def plain(dice: Random, seed: int) -> Schedule:
    """Plan no fault: the harm is in the events."""
    return Schedule(seed=seed, calls=60 + dice.randint(0, 40), seconds=3.0)


def storms(dice: Random, seed: int) -> Schedule:
    """Plan consumers that take events and vanish, and workers that die with theirs."""
    ghosts = [Fault(at_s=dice.uniform(0.1, 6), kind="ghost", amount=dice.randint(1, 40)) for _ in range(16)]
    deaths = [Fault(at_s=dice.uniform(1, 6), kind="kill_worker", seconds=0.1) for _ in range(2)]
    return Schedule(seed=seed, calls=300, seconds=6.0, faults=(*ghosts, *deaths))


def hundredfold(scene: Scene) -> None:
    """A hundred copies of a few events at once, and others that claim to be them."""
    stage = scene.stage
    stage.vendor.script("*", SLOW)
    stage.start_team()
    victims = [
        call(90_000 + number, op_class)
        for number, op_class in enumerate(("keyed", "unsafe", "verifiable", "idempotent"))
    ]

    def publish(one: Call) -> None:
        for _ in range(COPIES // 4):
            stage.publish(one)

    threads = [threading.Thread(target=publish, args=(one,)) for one in victims for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scene.nemesis.note("duplicate", len(victims) * (COPIES - 1))
    for one in victims:
        for number in range(OTHERS):
            stage.publish_raw(_other_body(one, number))
    scene.nemesis.note("conflict", len(victims) * OTHERS)
    play(scene)
    stage.until_quiet()
    sums, arrivals = stage.sums(), stage.vendor.arrivals()
    stage.demand(sums["duplicates"] == len(victims) * (COPIES - 1), "99 of each are duplicates", str(sums))
    stage.demand(sums["conflicts"] == len(victims) * OTHERS, "another body is a conflict", str(sums))
    for one in victims:
        came = [arrival for arrival in arrivals if arrival.ref == one.ref]
        stage.demand(len(came) == 1, f"one request for {one.operation}", str(came))


def _other_body(one: Call, number: int) -> bytes:
    event = json.loads(one.raw)
    arguments = event["data"]["arguments"]
    arguments[next(name for name, value in arguments.items() if value == ARGUMENT)] = f"other {number}"
    return json.dumps(event).encode()


def broken_bytes(dice: Random) -> list[bytes]:
    """Make what is no event at all, each with a secret in it."""
    secret = ARGUMENT.encode()
    whole = json.loads(call(1, "keyed").raw)
    return [
        b"",
        secret,
        b'{"id": "' + secret,
        b'\xff\xfe{"id": "' + secret + b'"}',
        json.dumps(whole).encode().replace(b"@example", b"\xc3\x28"),
        json.dumps(whole).encode("utf-16"),
        b'{"specversion":"1.0","type":"tool.call.requested","data":' + b"[" * 5000 + b"]" * 5000 + b"}",
        json.dumps({**whole, "data": {"tool": "crm.contacts.create", "arguments": {"email": float("nan")}}}).encode(),
        json.dumps({**whole, "data": {"tool": 7, "arguments": {}}}).encode(),
        json.dumps({**whole, "data": {"tool": "crm.contacts.create", "arguments": [ARGUMENT]}}).encode(),
        json.dumps({**whole, "type": "something.else"}).encode(),
        json.dumps([whole]).encode(),
        b"null",
        json.dumps({**whole, "padding": secret.decode() * 420_000}).encode(),
        dice.randbytes(dice.randint(1, 5000)),
    ]


def malformed(scene: Scene) -> None:
    """Broken events between good ones: each is a letter with its bytes, and nobody else notices."""
    stage = scene.stage
    broken = broken_bytes(stage.dice)
    stage.start_team()
    stage.bystanders |= {"north": 5000, "south": 5000, "east": 5000}

    def publish() -> None:
        for raw in broken:
            stage.publish_raw(raw)
            time.sleep(0.1)

    publishing = threading.Thread(target=publish)
    publishing.start()
    play(scene)
    publishing.join()
    scene.nemesis.note("malformed", len(broken))
    stage.until_quiet()
    stage.demand(stage.sums()["undecodable"] == len(broken), "each is a letter", str(stage.sums()))


def poisonous(scene: Scene) -> None:
    """Some events kill whoever reads them; somebody starts the workers again, as a supervisor does."""
    stage = scene.stage
    give_up = time.monotonic() + 60 * patience()
    for _ in range(VICTIMS):
        stage.publish_raw(POISON)
    playing = threading.Thread(target=play, args=(scene,))
    playing.start()
    deaths = 0
    workers = [stage.workers.start("poison") for _ in range(stage.setting.workers)]
    while time.monotonic() < give_up and (playing.is_alive() or not stage.is_quiet()):
        dead = [one for one in workers if one.poll() is not None]
        deaths += len(dead)
        workers = [one for one in workers if one not in dead] + [stage.workers.start("poison") for _ in dead]
        time.sleep(0.05)
    playing.join()
    for one in workers:
        one.kill()
    stage.start_team()
    scene.nemesis.note("poison", deaths)
    stage.demand(stage.sums()["undecodable"] == VICTIMS, "each poison is a letter", str(stage.sums()))
    stage.demand(deaths <= VICTIMS * 5, "poison is given up soon", f"{deaths} deaths")
    stage.healed()


ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=14,
        title="the same event a hundred times at once, and others under its name",
        invariants="D",
        bound_s=30,
        plan=plain,
        run=hundredfold,
        setting=Setting(workers=2),
        smoke=True,
    ),
    Scenario(
        number=15,
        title="redelivery storm: consumers that vanish, eight workers that claim what they left",
        invariants="DL",
        bound_s=40,
        plan=storms,
        run=slow_storm,
        setting=Setting(workers=8),
    ),
    Scenario(
        number=16,
        title="malformed events: bytes, depth, NaN, wrong types, 10 MB",
        invariants="LSI",
        bound_s=30,
        plan=plain,
        run=malformed,
        setting=Setting(workers=2),
        smoke=True,
    ),
    Scenario(
        number=17,
        title="poison: an event that kills whoever decodes it",
        invariants="LTI",
        bound_s=30,
        plan=plain,
        run=poisonous,
        setting=Setting(workers=2),
    ),
)

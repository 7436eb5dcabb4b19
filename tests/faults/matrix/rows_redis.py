"""Rows 8 to 13: Redis dies, stalls, loses connections, the end of its file, its disk and its memory."""

import threading
import time
from random import Random
from typing import Any

from tests.faults.matrix.asking import Answer, ask, open_api
from tests.faults.matrix.load import Call, call
from tests.faults.matrix.recording import Limit
from tests.faults.matrix.rows_workers import SLOW, slow_storm
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import Setting, Stage

PATIENT = {"SLUICE_LEASE_GUARD": "20"}
"""Leases that outlive an outage: the workers live, and only cannot write."""


def restarts(dice: Random, seed: int) -> Schedule:
    faults = [
        Fault(at_s=number * 4 + dice.uniform(0.5, 2), kind="redis_kill", seconds=dice.uniform(0.1, 2))
        for number in range(2)
    ]
    return Schedule(seed=seed, calls=200, seconds=7.0, faults=tuple(faults))


def stall(dice: Random, seed: int) -> Schedule:
    faults = (Fault(at_s=dice.uniform(1, 2), kind="redis_stop", seconds=10.0),)
    return Schedule(seed=seed, calls=120, seconds=4.0, faults=faults)


def cuts(dice: Random, seed: int) -> Schedule:
    """Plan ten wounds of the network to Redis, one after the other."""
    amounts = {
        "reset_peer": (0, 0),
        "drop_reply": (1, 4),
        "limit_data": (200, 40_000),
        "slicer": (1, 40),
        "latency": (0, 0),
    }
    faults = []
    for number in range(10):
        toxic = dice.choice(tuple(amounts))
        fault = Fault(
            at_s=0.5 + number * 0.7,
            kind=f"redis.{toxic}",
            seconds=dice.uniform(0.2, 0.6),
            amount=dice.randint(*amounts[toxic]),
            way="up" if toxic in {"slicer", "latency"} and dice.random() < 0.5 else "down",
            delay_s=0.05 if toxic == "latency" else 0.0,
        )
        faults.append(fault)
    return Schedule(seed=seed, calls=300, seconds=7.0, faults=tuple(faults))


def torn(dice: Random, seed: int) -> Schedule:
    fault = Fault(at_s=dice.uniform(1, 3), kind="redis_truncate", seconds=0.3, amount=dice.randint(1, 200))
    return Schedule(seed=seed, calls=100, seconds=4.0, faults=(fault,))


def no_room(dice: Random, seed: int) -> Schedule:
    faults = (
        Fault(at_s=dice.uniform(0.5, 1), kind="journal_full", seconds=4, amount=dice.randint(0, 60_000)),
        Fault(at_s=dice.uniform(2, 3), kind="redis_full", seconds=3, amount=dice.randint(100, 30_000)),
    )
    return Schedule(seed=seed, calls=240, seconds=8.0, faults=faults)


def no_memory(dice: Random, seed: int) -> Schedule:
    faults = [
        Fault(at_s=0.5 + number * 4 + dice.uniform(0, 1), kind="redis_memory", seconds=dice.uniform(1, 2.5))
        for number in range(2)
    ]
    return Schedule(seed=seed, calls=240, seconds=8.0, faults=tuple(faults))


def stalled(scene: Scene) -> None:
    """Agents ask over HTTP while Redis does not answer: each is told to come back, and nothing is half there when it does."""
    stage = scene.stage
    stage.counted = False  # what a refused request left behind is what this row is about
    stage.vendor.script("*", SLOW)
    open_api(stage)
    stage.start_team()
    begun, at_s = time.monotonic(), scene.schedule.faults[0].at_s if scene.schedule.faults else 0.0
    asked = [call(10_000 + number, "keyed") for number in range(16)]
    answers: dict[str, Answer] = {}

    def agent(number: int, one: Call) -> None:
        time.sleep(max(0.0, begun + at_s + 0.3 + number * 0.5 - time.monotonic()))
        answers[one.id] = publish_http(stage, one)

    agents = [threading.Thread(target=agent, args=pair) for pair in enumerate(asked)]
    for one in agents:
        one.start()
    play(scene)
    for one in agents:
        one.join()
    told = {answer.status for answer in answers.values()}
    stage.demand(told <= {200, 202, 503}, "an agent is told that it is there, or to come back", str(told))
    stage.demand(503 in told, "somebody asked while Redis did not answer", str(told))
    refused = [answer for answer in answers.values() if answer.status == 503]
    stage.demand(all("retry-after" in answer.headers for answer in refused), "a 503 says when to come back")
    stage.healed()
    again = {publish_http(stage, one).status for one in asked}
    stage.demand(again <= {200, 202}, "who comes back is served", str(again))
    stage.until_quiet()
    done = stage.vendor.counts().effects_by_ref["contacts.create"]
    stage.demand(all(done.get(one.ref) == 1 for one in asked), "each call of theirs ran once", str(done))


def publish_http(stage: Stage, one: Call) -> Answer:
    body: dict[str, Any] = {"tool": f"crm.{one.operation}", "arguments": {"email": one.ref}}
    return ask(stage, "POST", "/v1/calls", body, Idempotency_Key=one.id)


def torn_and_asked_again(scene: Scene) -> None:
    """What the file lost is published again by agents that have no answer."""
    stage = scene.stage
    stage.counted = False
    slow_storm(scene)
    stage.until_quiet()
    stage.publish(*stage.calls.values())
    stage.until_quiet()


def squeezed(scene: Scene) -> None:
    """Look how much the workers hold before and after Redis takes nothing more."""
    stage = scene.stage
    stage.vendor.script("*", SLOW)
    stage.start_team()
    before = [(one, stage.measure(one)) for one in stage.alive]
    play(scene)
    stage.until_quiet()
    stage.sizes += [("a worker", size, stage.measure(one)) for one, size in before]


ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=8,
        title="Redis SIGKILL and restart on its append-only file",
        invariants="LRT",
        bound_s=30,
        plan=restarts,
        run=slow_storm,
        setting=Setting(workers=2, limits=(Limit(most=50),), journal=True),
        smoke=True,
    ),
    Scenario(
        number=9,
        title="Redis stalled for 10 s, with agents on HTTP",
        invariants="LT",
        bound_s=30,
        plan=stall,
        run=stalled,
        setting=Setting(workers=1),
    ),
    Scenario(
        number=10,
        title="connections to Redis cut in the middle of a pipeline or of a script's reply",
        invariants="LD",
        # Events whose delivery never reached a worker that lives are taken up by others after half a minute.
        bound_s=45,
        plan=cuts,
        run=slow_storm,
        setting=Setting(workers=2),
    ),
    Scenario(
        number=11,
        title="the last 1 to 200 bytes of Redis' append-only file are lost",
        invariants="AT",
        bound_s=40,
        plan=torn,
        run=torn_and_asked_again,
        setting=Setting(workers=2),
    ),
    Scenario(
        number=12,
        title="no room on the disk: the journal's, then Redis'",
        invariants="LA",
        bound_s=40,
        plan=no_room,
        run=slow_storm,
        setting=Setting(workers=2, journal=True, environment=PATIENT),
        smoke=True,
    ),
    Scenario(
        number=13,
        title="Redis at its maxmemory, which evicts nothing",
        invariants="LTM",
        bound_s=30,
        plan=no_memory,
        run=squeezed,
        setting=Setting(workers=2, environment=PATIENT),
        smoke=True,
    ),
)

"""Rows 41 and 42: replays whose runners die, that two operators start at once, and that only ever fail."""

from collections import Counter
from random import Random
from typing import Any

from dlq.replay import MOST_GENERATIONS
from tests.faults.matrix.desk import Desk, keys, people, taken
from tests.faults.matrix.load import call
from tests.faults.matrix.scenario import NotRun, Scenario, Scene
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import Setting
from tests.vendor.script import Behaviour, Kind

LOST = Behaviour(do=Kind.RESET, executes=True, forever=True)
REFUSED = Behaviour(do=Kind.STATUS, status=422, forever=True)
SLOW = Behaviour(do=Kind.DELAY, seconds=0.1, forever=True)
POINTS = ("after replay", "before replay", "after send", "before settle", "before send", "after claim")

RUN_AND_LOST, REFUSING = ("contacts.create", "contacts.update"), ("messages.send", "orders.create")

MOST_ROUNDS = 20

ONCE: dict[str, Any] = {"retry": {"max_attempts": 1}, "breaker": {"min_calls": 10_000, "consecutive": 10_000}}
"""Every call tries once, and no breaker keeps what is to be counted."""


def _deaths(dice: Random, seed: int) -> Schedule:
    points = dice.sample(POINTS, 3)
    faults = tuple(
        Fault(at_s=number / 2, kind="die", point=point, amount=dice.randint(1, 3))
        for number, point in enumerate(points)
    )
    return Schedule(seed=seed, calls=dice.randint(30, 40), faults=faults)


def crash_and_two_operators(scene: Scene) -> None:
    """Make letters of every effect, let two operators replay all of them, and kill whoever runs that."""
    stage, desk = scene.stage, Desk(scene.stage)
    first = stage.start_worker()
    _letters(scene)
    sent = Counter(one.operation for one in stage.vendor.arrivals())
    for operation in (*RUN_AND_LOST, *REFUSING):
        stage.vendor.script(operation, SLOW)
    plans = [desk.replay(), desk.replay("deputy")]
    first.kill()
    for fault in scene.schedule.faults:
        scene.nemesis.strike(fault)
    stage.start_worker()
    over = [desk.over(plan) for plan in plans]
    stage.healed()
    letters, calls = len(stage.calls), plans[0]["total"] - plans[0]["excluded"]
    stage.demand(plans[0]["total"] == letters, f"the plan has {plans[0]['total']} of {letters} letters")
    stage.demand([one["state"] for one in over] == ["done", "done"], "both are done", str(over)[:600])
    stage.demand(
        sum(map(taken, over)) == calls, f"{calls} letters are taken once", str([one["progress"] for one in over])
    )
    again = Counter(one.operation for one in stage.vendor.arrivals()) - sent
    stage.demand(again["contacts.create"] > 0, "the replay calls nobody")


def _letters(scene: Scene) -> None:
    stage = scene.stage
    for operation in RUN_AND_LOST:
        stage.vendor.script(operation, LOST)
    for operation in REFUSING:
        stage.vendor.script(operation, REFUSED)
    classes = ("keyed", "idempotent", "unsafe", "verifiable")
    stage.publish(*(call(number, classes[number % 4]) for number in range(scene.schedule.calls)))
    scene.nemesis.note("vendor_lost_or_refused", scene.schedule.calls)
    stage.until(lambda: stage.books.xlen("dead-letters") >= scene.schedule.calls, "letters of all", within_s=30)
    stage.until(stage.is_quiet, "the letters' calls end")


def _few(dice: Random, seed: int) -> Schedule:
    return Schedule(seed=seed, calls=dice.randint(4, 8))


def only_ever_fails(scene: Scene) -> None:
    """Replay what always fails until nothing may be replayed any more; a batch that fails alike stops before its end."""
    stage, desk, count = scene.stage, Desk(scene.stage), scene.schedule.calls
    stage.start_team()
    stage.vendor.script("messages.send", REFUSED)
    stage.publish(*(call(number, "unsafe") for number in range(count)))
    stage.until(lambda: stage.books.xlen("dead-letters") >= count, "letters of all")
    stopped = desk.over(desk.replay(stop_after=1, canary=3))
    stage.demand(stopped["state"] == "stopped" and taken(stopped) <= 3, "a failing batch stops", str(stopped)[:600])
    # All of them are the canary: it is sent at once, and only then is it seen that they fail.
    made = desk.replay(canary=count)
    for _ in range(MOST_ROUNDS):
        desk.over(made)
        if made["total"] == made["excluded"]:
            break
        made = desk.replay(canary=count)
    scene.nemesis.note("vendor_refuses", len(stage.vendor.arrivals()))
    stage.healed()
    arrivals = Counter(one.ref for one in stage.vendor.arrivals("messages.send"))
    stage.demand(
        set(arrivals.values()) == {1 + MOST_GENERATIONS} and len(arrivals) == count,
        f"each is sent once and replayed {MOST_GENERATIONS} times, then locked", str(arrivals),
    )  # fmt: skip
    stage.demand(made["excluded"] == count, f"all stay open and locked: {made['excluded']} of {count}", str(made)[:600])


CROWD: dict[str, Any] = {"documents": people(), "environment": keys(), "defaults": ONCE}

ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=41,
        title="replay batch crash mid-way; two operators replay the same group",
        invariants="LDA",
        bound_s=40,
        plan=_deaths,
        run=crash_and_two_operators,
        setting=Setting(workers=1, journal=True, **CROWD),
    ),
    Scenario(
        number=42,
        title="replay loop that always fails, up to the generation cap",
        invariants="TA",
        bound_s=30,
        plan=_few,
        run=only_ever_fails,
        setting=Setting(workers=2, journal=True, **CROWD),
        smoke=True,
    ),
)

"""Rows 22 to 24: a vendor that fails in bursts, comes and goes, or is probed by somebody who is lost."""

import os
import signal
import time
from datetime import datetime
from random import Random
from typing import Any

from connectors.breaking.terms import CLOSE_AFTER
from tests.faults.matrix.load import Call, mix
from tests.faults.matrix.recording import Limit
from tests.faults.matrix.rows_vendor import HASTY, KEYS, REPEATABLE, events
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play, storm
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import Setting, Stage
from tests.outage import changes, is_a_path, one_at_a_time, since
from tests.vendor.record import Arrival
from tests.vendor.script import Behaviour, Kind, Point

QUICK = Behaviour(do=Kind.DELAY, seconds=0.03, forever=True)
HEARD_US = 400_000
"""So long after a trip other processes may still send; two cores are shared with whatever else runs."""


# ---- 22 and 23: it fails, and it comes and goes

RETRIES = {"SLUICE_RETRY_FLOOR": "0.5", "SLUICE_RETRY_LONGEST": "4"}
WORKERS = 2


def bursts(dice: Random, seed: int) -> Schedule:
    """Plan bursts in which 3 in 10 fail, and one in which all do."""
    statuses = [500, 502, 503, 504]
    dice.shuffle(statuses)
    some = [_failing(at_s, status, dice, share=0.3) for at_s, status in enumerate(statuses)]
    return Schedule(seed=seed, calls=500, seconds=7.0, faults=(*some, _failing(4.2, 503, dice, share=1.0)))


def _failing(at_s: float, status: int, dice: Random, *, share: float, seconds: float = 1.0) -> Fault:
    executes = status == 504
    does = Behaviour(
        do=Kind.STATUS, status=status, executes=executes, forever=True, probability=share, seed=dice.randrange(10**6)
    )
    return Fault(at_s=at_s, kind="vendor_does", seconds=seconds, does=does)


def amplified(scene: Scene) -> None:
    """While it fails, the vendor sees no more than 1.2 times the calls, and what is always allowed."""
    stage = scene.stage
    stage.start_team()
    begun = time.monotonic_ns() // 1_000
    play(scene)
    ended = time.monotonic_ns() // 1_000
    seen = [one for one in stage.vendor.arrivals() if begun <= one.mono_us <= ended]
    first = len({(one.operation, one.ref) for one in seen})
    floor = WORKERS * float(RETRIES["SLUICE_RETRY_FLOOR"]) * (1 + (ended - begun) / 1e6)
    told = changes(events(stage))
    probes = sum(after == "half_open" for _, after in told)
    most = 1.2 * first + floor + 2 * probes
    stage.demand(len(seen) <= most, f"{len(seen)} arrivals for {first} calls", f"at most {most:.0f}, probes {probes}")
    stage.demand(("closed", "open") in told, "the breaker opens when all fails", str(told))
    stage.until_quiet()
    _all_completed(stage)


def flaps(dice: Random, seed: int) -> Schedule:
    """Plan that the vendor goes down and comes back, four times."""
    at_s, faults = 1.0, []
    for _ in range(4):
        seconds = dice.uniform(1.2, 2.5)
        faults.append(_failing(at_s, 503, dice, share=1.0, seconds=seconds))
        at_s += seconds + dice.uniform(1.5, 2.5)
    return Schedule(seed=seed, calls=500, seconds=at_s, faults=tuple(faults))


def flapping(scene: Scene) -> None:
    """Each time it goes the breaker opens once, probes go one at a time, and no call pays for it."""
    stage = scene.stage
    for operation in ("contacts.get", "contacts.update", "contacts.create"):
        stage.vendor.script(operation)
    storm(scene)
    stage.until_quiet()
    _all_completed(stage)
    told = events(stage)
    moved = changes(told)
    stage.demand(moved and is_a_path(moved), "each transition is told once", str(moved))
    opened = moved.count(("closed", "open"))
    stage.demand(opened <= len(scene.schedule.faults), f"opened {opened} times", str(moved))
    for arrived, failed in _outages(told, stage.vendor.arrivals()):
        seen = str([(one.mono_us, one.done_us, one.status) for one in arrived])
        stage.demand(one_at_a_time(_probes(arrived)), "one probe at a time", seen)
        broken = sum(one.status == 503 for one in arrived)
        stage.demand(broken <= failed, f"{broken} arrivals failed, {failed} probes", seen)


def _probes(arrived: list[Arrival]) -> list[Arrival]:
    """Return those up to the second success in a row: with it the slow start begins, a moment before that is on record."""
    good = 0
    for number, one in enumerate(arrived, 1):
        good = good + 1 if one.status != 503 else 0
        if good == CLOSE_AFTER:
            return arrived[:number]
    return arrived


def _outages(told: list[dict[str, Any]], arrivals: list[Arrival]) -> list[tuple[list[Arrival], int]]:
    """Return what arrived from the first probe of each outage to its end, and how many probes failed."""
    moves = [event for event in told if event["type"] == "breaker.changed"]
    found: list[tuple[list[Arrival], int]] = []
    begun, failed = 0, 0
    for event in moves:
        at_us = round(datetime.fromisoformat(event["time"]).timestamp() * 1_000_000)
        match event["data"]["before"], event["data"]["state"]:
            case "closed", _:
                begun, failed = 0, 0
            case _, "half_open":
                begun = begun or at_us
            case "half_open", "open":
                failed += 1
            case _:
                found.append((since(arrivals, max(begun, 1), at_us), failed))
    return found


def _all_completed(stage: Stage) -> None:
    sums = stage.sums()
    stage.demand(sums["completed"] == len(stage.calls), "no call is lost to it", str(sums))


# ---- 24: the probe is lost

FATES = ("kill_prober", "stop_prober", "raise_in_prober")


def lost_probes(dice: Random, seed: int) -> Schedule:
    """Plan what becomes of the process that holds the half-open permit, twice."""
    return Schedule(seed=seed, calls=60, faults=tuple(Fault(at_s=0.0, kind=kind) for kind in dice.sample(FATES, 2)))


def probed(scene: Scene) -> None:
    """Whatever becomes of who probes, another probes later and the breaker closes."""
    stage = scene.stage
    stage.start_team()
    calls = mix(scene.schedule.calls * max(1, len(scene.schedule.faults)), stage.dice, KEYS)
    for number, fault in enumerate(scene.schedule.faults):
        begin = number * scene.schedule.calls
        _lose_a_probe(scene, fault.kind, calls[begin : begin + scene.schedule.calls])
    stage.vendor.script("*")
    stage.healed()


def _lose_a_probe(scene: Scene, fate: str, calls: list[Call]) -> None:
    stage, vendor = scene.stage, scene.stage.vendor
    opened = changes(events(stage)).count(("closed", "open"))
    vendor.script("*", Behaviour(do=Kind.STATUS, status=503, forever=True))
    stage.publish(*calls)
    stage.until(lambda: changes(events(stage)).count(("closed", "open")) > opened, "the breaker opens")
    time.sleep(HEARD_US / 1e6)
    hold = Behaviour(do=Kind.HOLD, executes=False, point=Point.BEFORE)
    vendor.script("*", hold, QUICK)
    vendor.until(held=1)
    (key,) = stage.books.keys("{s0}:breaker:*")
    prober = int(stage.books.hget(key, "worker").decode().split("-")[-2])
    scene.nemesis.note(fate)
    if fate == "raise_in_prober":
        scene.nemesis.set_clock(1)  # the file that tests.faults.raising looks into
        vendor.release()
        stage.until(lambda: "classifier was told to raise" in stage.workers.log, "the classifier raises")
        scene.nemesis.set_clock(0)
    else:
        os.kill(prober, signal.SIGKILL if fate == "kill_prober" else signal.SIGSTOP)
    stage.until(lambda: changes(events(stage))[-1][1] == "closed", f"the breaker closes after {fate}", within_s=25)
    if fate == "stop_prober":
        os.kill(prober, signal.SIGCONT)
    vendor.release()
    if fate == "kill_prober":
        next(one for one in stage.team if one.pid == prober).wait()
        stage.start_worker()


ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=22,
        title="bursts of 500, 502, 503, 504",
        invariants="DRT",
        bound_s=40,
        plan=bursts,
        run=amplified,
        setting=Setting(workers=WORKERS, classes=KEYS, environment=RETRIES, defaults=HASTY, limits=(Limit(most=150),)),
    ),
    Scenario(
        number=23,
        title="a vendor that goes and comes back again and again",
        invariants="TR",
        bound_s=40,
        plan=flaps,
        run=flapping,
        setting=Setting(workers=3, classes=REPEATABLE, defaults=HASTY, limits=(Limit(most=100),)),
    ),
    Scenario(
        number=24,
        title="the holder of the half-open permit is killed, stopped, or its classifier raises",
        invariants="T",
        bound_s=40,
        plan=lost_probes,
        run=probed,
        setting=Setting(workers=3, classes=KEYS, defaults=HASTY, module="tests.faults.raising"),
    ),
)

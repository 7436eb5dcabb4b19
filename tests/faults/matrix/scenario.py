"""A row of the matrix as a value, and how one is played: the plan of its seed, the storm, the recording, the verdict."""

import heapq
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from tests.faults.matrix import recorder
from tests.faults.matrix.checker import check
from tests.faults.matrix.load import mix
from tests.faults.matrix.nemesis import Nemesis
from tests.faults.matrix.recording import Violation
from tests.faults.matrix.schedule import Schedule, shrink
from tests.faults.matrix.stage import Setting, Stage, patience
from tests.vendor.client import VendorProcess

SHRINK_TRIES, SHRINK_S = 12, 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a row's `run` gets: the stage, who does the harm, and the schedule that its seed came to."""

    stage: Stage
    nemesis: Nemesis
    schedule: Schedule


def storm(scene: Scene) -> None:
    """Start the team, publish the calls over the schedule's seconds, let each fault strike in its time, heal all."""
    scene.stage.start_team()
    play(scene)


def play(scene: Scene) -> None:
    """The same with workers that run already, or that a fault brings."""
    stage, schedule = scene.stage, scene.schedule
    calls = mix(schedule.calls, stage.dice, stage.setting.classes)
    pause, every = schedule.seconds / max(1, len(calls)), stage.setting.broken_every

    def agents() -> None:
        begun = time.monotonic()
        for number, one in enumerate(calls):
            time.sleep(max(0.0, begun + number * pause - time.monotonic()))
            stage.publish(one)
            if every and number % every == 0:
                stage.publish_raw(b"{broken %d" % number)

    publishing = threading.Thread(target=agents)
    publishing.start()
    _strike(scene)
    publishing.join()
    stage.healed()


def _strike(scene: Scene) -> None:
    turn, begun = count(), time.monotonic()
    moments = [(fault.at_s, next(turn), fault) for fault in scene.schedule.faults]
    heals: list[tuple[float, int, Callable[[], None]]] = []
    heapq.heapify(moments)
    while moments or heals:
        healing = bool(heals) and (not moments or heals[0][0] <= moments[0][0])
        at_s = heals[0][0] if healing else moments[0][0]
        time.sleep(max(0.0, begun + at_s - time.monotonic()))
        if healing:
            heapq.heappop(heals)[2]()
        else:
            _, _, fault = heapq.heappop(moments)
            heal = scene.nemesis.strike(fault)
            heapq.heappush(heals, (fault.at_s + fault.seconds, next(turn), heal))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row: what is done to the gateway, which promises it is about, and how soon all must be over."""

    number: int
    title: str
    invariants: str
    bound_s: float
    """From the last healing to quiet, on a machine that nobody else uses; with others on its cores it grows with the load."""
    plan: Callable[[Random, int], Schedule]
    """Dice and seed to schedule."""
    run: Callable[[Scene], None] = storm
    setting: Setting = field(default_factory=Setting)
    smoke: bool = False
    """Also part of `./dev test`, with one seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRun:
    """A row of the matrix that is not played, and why."""

    number: int
    title: str
    invariants: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one run of a row went."""

    number: int
    schedule: Schedule
    operations: int
    faults: Counter[str]
    seconds: float
    quiet_s: float | None
    violations: tuple[Violation, ...]
    log: str = ""


def run(row: Scenario, seed: int, vendor: VendorProcess) -> Run:
    """Play a row with a seed."""
    return run_schedule(row, row.plan(Random(f"{row.number}/{seed}"), seed), vendor)


def run_schedule(row: Scenario, schedule: Schedule, vendor: VendorProcess) -> Run:
    """Play a row with a schedule, which its seed gave or the shrinker made."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        stage = Stage(row.setting, Path(folder), vendor, Random(schedule.seed))
        try:
            return _judged(row, Scene(stage=stage, nemesis=Nemesis(stage), schedule=schedule), begun)
        finally:
            stage.close()


def _judged(row: Scenario, scene: Scene, begun: float) -> Run:
    quiet_s: float | None = None
    try:
        row.run(scene)
        seen = recorder.record(scene.stage, bound_s=row.bound_s * patience())
        quiet_s, found = seen.quiet_s, check(seen, recorder.oracle(scene.stage))
    except Exception as broken:  # noqa: BLE001 - whatever it is, the row did not hold
        found = [*scene.stage.demands, Violation("X", "the row could not be played", repr(broken))]
    faults = scene.nemesis.counts
    if scene.schedule.faults and not faults:
        found.append(Violation("X", "no fault has struck"))
    return Run(
        number=row.number,
        schedule=scene.schedule,
        operations=scene.stage.published,
        faults=faults,
        seconds=time.monotonic() - begun,
        quiet_s=quiet_s,
        violations=tuple(found),
        log=scene.stage.log_tail,
    )


def shortest(row: Scenario, failed: Run, vendor: VendorProcess) -> Schedule:
    """Look for a shorter schedule that breaks the same promises."""
    broken, give_up = {one.invariant for one in failed.violations}, time.monotonic() + SHRINK_S

    def fails(candidate: Schedule) -> bool:
        return time.monotonic() < give_up and bool(
            broken & {one.invariant for one in run_schedule(row, candidate, vendor).violations}
        )

    return shrink(failed.schedule, fails, tries=SHRINK_TRIES)

"""Rows 1 to 7: workers that die at each step of a call, all at once, again and again, or that sleep and come back."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.faults.matrix.recording import Limit
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play, storm
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import Setting
from tests.vendor.script import Behaviour, Kind

SLOW = Behaviour(do=Kind.DELAY, seconds=0.05, forever=True)
"""Long enough that a death finds calls under way."""

Plan = Callable[[Random, int], Schedule]


def deaths(*points: str) -> Plan:
    """Plan two workers, one after the other, that each die at one of these steps, at a call that the dice choose."""

    def plan(dice: Random, seed: int) -> Schedule:
        faults = tuple(
            Fault(at_s=number / 2, kind="die", point=dice.choice(points), amount=dice.randint(1, 3))
            for number in range(2)
        )
        return Schedule(seed=seed, calls=150, seconds=5.0, faults=faults)

    return plan


def massacres(dice: Random, seed: int) -> Schedule:
    """Plan that all workers die every few seconds."""
    at_s, faults = 1.0, []
    while at_s < 9:
        faults.append(Fault(at_s=at_s, kind="kill_workers", seconds=0.2))
        at_s += dice.uniform(2.0, 3.5)
    return Schedule(seed=seed, calls=400, seconds=9.0, faults=tuple(faults))


def dozes(dice: Random, seed: int) -> Schedule:
    """Plan that a worker sleeps for longer than its leases and wakes up again, twice."""
    faults = [
        Fault(at_s=0.5 + number * 4 + dice.uniform(0, 1), kind="stop_worker", seconds=dice.uniform(3, 3.8))
        for number in range(2)
    ]
    return Schedule(seed=seed, calls=200, seconds=8.0, faults=tuple(faults))


def slow_storm(scene: Scene) -> None:
    """Play the storm before a vendor that takes a moment."""
    scene.stage.vendor.script("*", SLOW)
    storm(scene)


def die_then_go_on(scene: Scene) -> None:
    """Let those who die have the calls first; then comes a team that stays."""
    scene.stage.vendor.script("*", SLOW)
    play(scene)
    scene.stage.start_team()
    scene.stage.healed()


def asked_again(scene: Scene) -> None:
    """Every event comes again, as a bus delivers it whose acknowledgement was lost: it is answered without a call."""
    stage = scene.stage
    die_then_go_on(scene)
    stage.until_quiet()
    before = stage.vendor.counts(names=False).arrivals
    stage.publish(*stage.calls.values())
    scene.nemesis.note("redelivery", len(stage.calls))
    stage.until_quiet()
    stage.demand(stage.vendor.counts(names=False).arrivals == before, "nothing is sent for what was answered")
    stage.demand(stage.sums()["duplicates"] == len(stage.calls), "each is a duplicate", str(stage.sums()))


def die_while_letters_are_written(scene: Scene) -> None:
    """Let every unsafe call end in a letter, and half of the keyed ones, with broken events among them."""
    stage = scene.stage
    stage.vendor.script("messages.send", Behaviour(do=Kind.RESET, executes=True, seconds=0.02, forever=True))
    stage.vendor.script("contacts.create", Behaviour(do=Kind.STATUS, status=400, probability=0.5, forever=True))
    play(scene)
    stage.start_team()
    stage.healed()
    stage.until_quiet()
    sums = stage.sums()
    stage.demand(sums["undecodable"] == stage.published - len(stage.calls), "each broken event is a letter", str(sums))
    stage.demand(sums["escalated"] > 0, "calls are escalated", str(sums))
    stage.demand(sums["failed"] > 0, "calls fail", str(sums))


DEADLY = Setting(workers=1)
JOURNALLED = Setting(workers=1, journal=True)

ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=1,
        title="worker SIGKILL before intent",
        invariants="LDT",
        bound_s=30,
        plan=deaths("before enqueue", "after enqueue", "before claim"),
        run=die_then_go_on,
        setting=DEADLY,
        smoke=True,
    ),
    Scenario(
        number=2,
        title="worker SIGKILL after claim, before the first byte",
        invariants="LDU",
        bound_s=30,
        plan=deaths("after claim", "before mark", "after mark", "before send"),
        run=die_then_go_on,
        setting=DEADLY,
        smoke=True,
    ),
    Scenario(
        number=3,
        title="SIGKILL after the vendor executed, before the outcome is stored",
        invariants="LDU",
        bound_s=30,
        plan=deaths("after send", "before settle"),
        run=die_then_go_on,
        setting=DEADLY,
        smoke=True,
    ),
    Scenario(
        number=4,
        title="SIGKILL between outcome and acknowledgement, and every event comes again",
        invariants="LDA",
        bound_s=30,
        plan=deaths("after settle"),
        run=asked_again,
        setting=JOURNALLED,
        smoke=True,
    ),
    Scenario(
        number=5,
        title="SIGKILL while dead letters are written",
        invariants="LA",
        bound_s=30,
        plan=deaths("before settle", "after settle", "before refuse", "after refuse"),
        run=die_while_letters_are_written,
        setting=replace(JOURNALLED, broken_every=2),
        smoke=True,
    ),
    Scenario(
        number=6,
        title="all workers SIGKILL again and again under load",
        invariants="LDRT",
        bound_s=45,
        plan=massacres,
        run=slow_storm,
        setting=Setting(workers=2, limits=(Limit(most=60), Limit(most=12, window_s=0.0))),
        smoke=True,
    ),
    Scenario(
        number=7,
        title="SIGSTOP of a worker for longer than its leases, then SIGCONT",
        invariants="DUA",
        bound_s=30,
        plan=dozes,
        run=slow_storm,
        setting=Setting(workers=3, journal=True),
        smoke=True,
    ),
)

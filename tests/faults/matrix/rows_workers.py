"""Rows 1 to 7: workers that die at each step of a call, all at once, again and again, or that sleep and come back."""

from collections.abc import Callable
from random import Random

from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import Setting
from tests.vendor.script import Behaviour, Kind

SLOW = Behaviour(do=Kind.DELAY, seconds=0.05, forever=True)
"""Long enough that a death finds calls under way."""

Plan = Callable[[Random, int], Schedule]


def deaths(*points: str) -> Plan:
    """Plan three workers, one after the other, that each die at one of these steps, at a call that the dice choose."""

    def plan(dice: Random, seed: int) -> Schedule:
        faults = tuple(
            Fault(at_s=number / 2, kind="die", point=dice.choice(points), amount=dice.randint(1, 3))
            for number in range(3)
        )
        return Schedule(seed=seed, calls=150, seconds=6.0, faults=faults)

    return plan


def die_then_go_on(scene: Scene) -> None:
    """Let those who die have the calls first; then comes a team that stays."""
    scene.stage.vendor.script("*", SLOW)
    play(scene)
    scene.stage.start_team()
    scene.stage.healed()


DEADLY = Setting(workers=1)

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
)

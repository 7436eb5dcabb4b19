"""Row 48: the bus is a real Kafka, whose group loses members in the middle of calls, and whose broker is killed."""

import shutil
from random import Random
from typing import cast

from tests.faults.matrix.on_kafka import KafkaStage
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import Setting
from tests.vendor.script import Behaviour, Kind

TITLE = "Kafka: rebalance mid-call, a poll that comes too late, broker kill"
INVARIANTS = "LDT"
POLL_WITHIN_S = 2
"""A batch that takes longer is a worker that hangs: the group goes on without it."""


def _losses(dice: Random, seed: int) -> Schedule:
    """Plan one of each: a member that dies, one that sleeps beyond its session, batches that last too long, a dead broker."""
    kinds = [("kill_worker", 0.5), ("stop_worker", 5.0), ("redis_stop", POLL_WITHIN_S + 2.0), ("broker_kill", 1.0)]
    dice.shuffle(kinds)
    faults = tuple(
        Fault(at_s=1 + 2.5 * number + dice.random(), kind=kind, seconds=seconds)
        for number, (kind, seconds) in enumerate(kinds)
    )
    return Schedule(seed=seed, calls=300, seconds=10.0, faults=faults)


def group_and_broker(scene: Scene) -> None:
    """Let them strike while calls are under way; then all that was read is committed without a gap, and told."""
    stage = cast("KafkaStage", scene.stage)
    stage.start_broker()
    stage.vendor.script("*", Behaviour(do=Kind.DELAY, seconds=0.05, forever=True))
    stage.start_team()
    play(scene)
    stage.until(stage.is_quiet, "all have ended and are committed", within_s=50)
    stage.until(lambda: _told(stage) >= set(stage.calls), "all results have left the outbox", within_s=30)
    stage.until(lambda: _ended(stage) >= len(stage.calls), "all events have left the outbox", within_s=30)


def _told(stage: KafkaStage) -> set[str]:
    return {result["data"]["request"]["id"] for result in stage.read("tool-results")}


def _ended(stage: KafkaStage) -> int:
    return len({one["id"] for one in stage.read("tool-events") if one["type"] == "tool.call.settled"})


ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=48,
        title=TITLE,
        invariants=INVARIANTS,
        bound_s=50,
        plan=_losses,
        run=group_and_broker,
        setting=Setting(environment={"SLUICE_BUS_POLL_WITHIN": str(POLL_WITHIN_S)}),
        stage=KafkaStage,
    )
    if shutil.which("java")
    else NotRun(number=48, title=TITLE, invariants=INVARIANTS, reason="There is no Java on this machine."),
)

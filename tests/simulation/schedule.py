"""What one simulated run suffers, as data that a seed decides: calls, how the vendor behaves, and the faults. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final, Literal, TypeVar

from tests.vendor.script import Behaviour, Kind, Point

T = TypeVar("T")
CLASSES: Final = ("safe", "idempotent", "keyed", "verifiable", "unsafe")
DOORS: Final = ("enqueue", "claim", "mark", "settle", "vendor", "reap", "xreadgroup", "refuse", "hincrby", "xclaim")
"""Where a worker reaches out of itself: between two of them nothing it does can be seen."""

SPELLS: Final = ("enqueue", "claim", "mark", "settle", "settle", "vendor", "vendor", "vendor", "reap")
"""Where a pause that outlasts a lease of nine seconds makes a worker that knows nothing of what became of its claim."""

FaultKind = Literal["kill", "pause", "lose", "away", "stall", "refuse", "all", "step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One publication: the call it is of, and when. The same call may be published again."""

    number: int
    op_class: str
    at_s: float
    again: bool = False
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that happens: at a worker's door, or at a time.

    kill · pause · lose (one reply): the n-th time that a worker comes to a door, before or after what it does there.
    away (Redis is started again) · stall (Redis is stopped) · refuse (nobody listens at the vendor) · all (every worker is killed) ·
    step (Redis' clock is set so much forward, or back).
    """

    kind: FaultKind
    worker: int = 0
    door: str = ""
    nth: int = 1
    after: bool = False
    at_s: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        span = f" for {self.seconds:.2f} s" if self.seconds else ""
        if self.door:
            return (
                f"{self.kind} worker {self.worker} {'after' if self.after else 'before'} {self.door} #{self.nth}{span}"
            )
        return f"{self.kind} at {self.at_s:.2f} s{span}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All of a run that its seed decides; dice beyond it are drawn from `seed` too."""

    seed: int
    workers: int
    limited: bool
    sent: tuple[Sent, ...]
    behaviours: tuple[tuple[str, Behaviour], ...]
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        head = f"seed {self.seed}, {self.workers} workers{', limited' if self.limited else ''}"
        sent = [
            f"  call {one.number} {one.op_class} at {one.at_s:.2f} s{' again' if one.again else ''}"
            for one in self.sent
        ]
        acts = [f"  vendor {operation}: {_shown(behaviour)}" for operation, behaviour in self.behaviours]
        return "\n".join([head, *sent, *acts, *(f"  {fault}" for fault in self.faults)])


def drawn(seed: int) -> Schedule:
    """Draw a schedule."""
    dice = Random(seed)
    workers = dice.choice((1, 2, 2, 3))
    sent = _sent(dice)
    schedule = Schedule(
        seed=seed,
        workers=workers,
        limited=dice.random() < 0.3,
        sent=sent,
        behaviours=tuple(_behaviour(dice, dice.choice(sent).op_class) for _ in range(dice.choice((0, 1, 1, 2, 3)))),
        faults=tuple(_fault(dice, workers) for _ in range(dice.choice((1, 1, 2, 2, 3)))),
    )
    return replace(schedule, faults=(*schedule.faults, *_steps(dice)))


def smaller(schedule: Schedule) -> list[Schedule]:
    """Return what is one thing less: a fault, a behaviour, a publication; the largest steps first."""
    found = [replace(schedule, faults=fewer) for fewer in _without_one(schedule.faults)]
    found += [replace(schedule, behaviours=fewer) for fewer in _without_one(schedule.behaviours)]
    if len(schedule.sent) > 1:
        found += [replace(schedule, sent=fewer) for fewer in _without_one(schedule.sent)]
    if schedule.limited:
        found.append(replace(schedule, limited=False))
    return found


def _without_one(items: Sequence[T]) -> list[tuple[T, ...]]:
    return [(*items[:at], *items[at + 1 :]) for at in range(len(items))]


def _sent(dice: Random) -> tuple[Sent, ...]:
    made = []
    for number in range(dice.choice((1, 2, 2, 3, 4))):
        deadline_s = dice.choice((None, None, None, None, 3.0, 8.0))
        one = Sent(number=number, op_class=dice.choice(CLASSES), at_s=dice.uniform(0, 1.5), deadline_s=deadline_s)
        made.append(one)
        if dice.random() < 0.2:
            made.append(replace(one, at_s=one.at_s + dice.choice((0.0, 0.01, dice.uniform(0, 12))), again=True))
    return tuple(sorted(made, key=lambda one: (one.at_s, one.again)))


def _behaviour(dice: Random, op_class: str) -> tuple[str, Behaviour]:
    operation = dice.choice((OPERATIONS[op_class], OPERATIONS[op_class], "*"))
    executes, count = dice.random() < 0.5, dice.choice((1, 1, 2, 3))
    kind = dice.choice(
        (Kind.STATUS, Kind.STATUS, Kind.RESET, Kind.CLOSE, Kind.HANG, Kind.DELAY, Kind.DELAY, Kind.TRUNCATE)
    )
    match kind:
        case Kind.STATUS:
            status = dice.choice((400, 429, 500, 500, 502, 503))
            headers = {"Retry-After": str(dice.choice((0, 1, 3)))} if status in {429, 503} else {}
            # A vendor that says it did not, and did, is none that can be promised anything about.
            ran = executes and status in {500, 502}
            return operation, Behaviour(do=kind, status=status, headers=headers, executes=ran, count=count)
        case Kind.DELAY:
            seconds = dice.choice((0.05, dice.uniform(0, 1), 1.99, 2.01, dice.uniform(1, 4)))
            point = Point.BEFORE if executes else Point.AFTER
            return operation, Behaviour(do=kind, seconds=seconds, point=point, count=count)
        case Kind.TRUNCATE:
            return operation, Behaviour(do=kind, count=count)
        case _:
            return operation, Behaviour(do=kind, executes=executes, count=count)


def _fault(dice: Random, workers: int) -> Fault:
    kind: FaultKind = dice.choice(
        ("kill", "kill", "kill", "kill", "pause", "pause", "lose", "lose", "away", "stall", "refuse", "all")
    )
    if kind in {"kill", "pause", "lose"}:
        return Fault(
            kind=kind,
            worker=dice.randrange(workers),
            door=dice.choice(SPELLS if kind == "pause" else (*DOORS[:5], *DOORS[:5], *DOORS)),
            nth=dice.choice((1, 1, 1, 2, 2, 3, 5)),
            after=dice.random() < 0.5,
            seconds=0.0 if kind != "pause" else dice.choice((0.5, 3.0, 10.0, 14.0, 20.0)) * dice.uniform(0.8, 1.2),
        )
    longest = {"away": 8.0, "stall": 14.0, "refuse": 6.0, "all": 0.0}[kind]
    return Fault(kind=kind, at_s=dice.uniform(0, 4), seconds=dice.uniform(0, longest))


def _steps(dice: Random) -> list[Fault]:
    if dice.random() > 0.15:
        return []
    far_s = dice.choice((0.5, 1.0, 5.0, -2.0, 30.0)) * dice.uniform(0.8, 1.2)
    return [Fault(kind="step", at_s=dice.uniform(0, 3), seconds=far_s)]


OPERATIONS: Final = {
    "safe": "contacts.get",
    "idempotent": "contacts.update",
    "keyed": "contacts.create",
    "verifiable": "orders.create",
    "unsafe": "messages.send",
}


def _shown(behaviour: Behaviour) -> str:
    told = [str(behaviour.do), f"×{behaviour.count}"]
    if behaviour.status:
        told.append(str(behaviour.status))
    if behaviour.seconds:
        told.append(f"{behaviour.seconds:.2f} s {behaviour.point} the effect")
    told.append("executes" if behaviour.has_effect else "does not execute")
    return " ".join(told)

"""What a run shall suffer, as data: when which fault strikes, for how long, under how many calls. It can be printed and shrunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.faults.matrix.proxy import Way
from tests.vendor.script import Behaviour


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that happens, so many seconds after the first call."""

    at_s: float
    kind: str
    """A verb of `nemesis.Nemesis`, or `redis.…` and `vendor.…` with a toxic of `proxy`."""
    seconds: float = 0.0
    """Until it is healed."""
    amount: int = 0
    point: str = ""
    """die: the step, as `deadly.POINTS` names them; amount is how often the worker gets there."""
    way: Way = "down"
    delay_s: float = 0.0
    """Of a toxic: its own seconds."""
    jitter_s: float = 0.0
    share: float = 1.0
    does: Behaviour | None = None
    """vendor_does: what the vendor does with every arrival that no other rule of the row speaks of."""

    def __str__(self) -> str:
        told = {
            "point": self.point,
            "amount": self.amount,
            "way": self.way if "." in self.kind else "",
            "does": self.does,
        }
        more = ", ".join(f"{name} {value}" for name, value in told.items() if value)
        return f"{self.at_s:.2f} s {self.kind} for {self.seconds:.2f} s" + (f" ({more})" if more else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All of a run that its seed decides."""

    seed: int
    calls: int
    seconds: float = 2.0
    """Over which the calls are published."""
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        head = f"seed {self.seed}, {self.calls} calls over {self.seconds:.1f} s, {len(self.faults)} faults"
        return "\n".join([head, *(f"    {fault}" for fault in self.faults)])


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool], *, tries: int) -> Schedule:
    """Return the shortest schedule found that still fails: fewer faults first, then fewer calls."""
    left = [tries]

    def still(candidate: Schedule) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        return fails(candidate)

    shortest = _fewer_faults(schedule, still)
    while shortest.calls > 1 and still(fewer := replace(shortest, calls=shortest.calls // 2)):
        shortest = fewer
    return shortest


def _fewer_faults(schedule: Schedule, still: Callable[[Schedule], bool]) -> Schedule:
    """Leave out runs of faults, long ones first, as long as it fails without them."""
    faults, size = schedule.faults, len(schedule.faults)
    while size >= 1:
        at = 0
        while at < len(faults):
            fewer = _without(faults, at, size)
            if still(replace(schedule, faults=fewer)):
                faults = fewer
            else:
                at += size
        size //= 2
    return replace(schedule, faults=faults)


def _without(faults: Sequence[Fault], at: int, size: int) -> tuple[Fault, ...]:
    return (*faults[:at], *faults[at + size :])

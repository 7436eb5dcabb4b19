"""`./dev faults`: plays the fault matrix, then crash schedules, and writes docs/reliability.md; exit code 1 when a promise broke."""

import argparse
import datetime as dt
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from bench.ground import machine
from tests.faults.matrix import report, simulated
from tests.faults.matrix.scenario import Run, Scenario, run, shortest
from tests.faults.matrix.table import ROWS
from tests.vendor.client import VendorProcess

SCHEDULES = 100_000


def numbers(text: str) -> set[int]:
    """Read `1,2,8-10`."""
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        chosen |= set(range(int(first), int(last or first) + 1))
    return chosen


def asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev faults", description=__doc__)
    parser.add_argument("--rows", type=numbers, default=None, help="1,2,8-10; all of them by default")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds each row is played with")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them; a failure prints its own")
    parser.add_argument("--minutes", type=float, default=None, help="begin no further run after so long")
    parser.add_argument(
        "--schedules",
        type=int,
        default=None,
        help="crash schedules after the rows; 100000, or none where rows are named",
    )
    parser.add_argument("--no-report", action="store_true", help="leave docs/reliability.md as it is")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    wanted, facts = asked(arguments), machine(dt.datetime.now(dt.UTC).date().isoformat())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended
    runs = list(played(wanted))
    broken = sum(bool(one.violations) for one in runs)
    operations, faults = sum(one.operations for one in runs), sum(one.faults.total() for one in runs)
    print(f"\n{len(runs)} runs, {operations:,} operations, {faults:,} faults, {broken} runs broke a promise")
    if not wanted.no_report:
        report.publish(ROWS, runs, facts)
        print(f"written: {report.DOCUMENT}")
    schedules = wanted.schedules if wanted.schedules is not None else SCHEDULES if wanted.rows is None else 0
    return 1 if broken + (schedules and _simulated(schedules, wanted, facts)) else 0


def _simulated(schedules: int, wanted: argparse.Namespace, facts: dict[str, str]) -> int:
    """Play the schedules and write them down; returns how many broke a promise."""
    found = simulated.simulate(schedules, wanted.first_seed)
    if not wanted.no_report:
        simulated.publish(found, facts)
    return len(found.failed)


def played(wanted: argparse.Namespace) -> Iterator[Run]:
    """Play each row with the first seed, then each with the next, so that little time still sees every row."""
    give_up = time.monotonic() + wanted.minutes * 60 if wanted.minutes else float("inf")
    rows = [row for row in ROWS if isinstance(row, Scenario) and (wanted.rows is None or row.number in wanted.rows)]
    with VendorProcess() as vendor:
        for seed in range(wanted.first_seed, wanted.first_seed + wanted.seeds):
            for row in rows:
                if time.monotonic() > give_up:
                    return
                done = run(row, seed, vendor)
                tell(row, done, vendor)
                yield done


def tell(row: Scenario, done: Run, vendor: VendorProcess) -> None:
    """Print how a run went; of a broken one all that is needed to see it again."""
    quiet = "never" if done.quiet_s is None else f"{done.quiet_s:.1f} s"
    faults = ", ".join(f"{kind} {times}" for kind, times in sorted(done.faults.items()))
    print(
        f"{row.number:>3} seed {done.schedule.seed}  {done.operations:>5} calls  {done.seconds:5.1f} s"
        f"  quiet after {quiet}  {'BROKEN' if done.violations else 'ok'}  {row.title} ({faults})",
        flush=True,
    )
    if done.violations:
        for violation in done.violations[:20]:
            print(f"      {violation}")
        print(f"      {done.schedule}\n{done.log}", flush=True)
        print(f"      the shortest schedule found: {shortest(row, done, vendor)}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`./dev faults`: plays the rows of the matrix one after the other; exit code 1 when a promise was broken."""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.faults.matrix.scenario import Run, Scenario, run, shortest
from tests.faults.matrix.table import ROWS
from tests.vendor.client import VendorProcess


def numbers(text: str) -> set[int]:
    """Read `1,2,8-10`."""
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        chosen |= set(range(int(first), int(last or first) + 1))
    return chosen


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev faults", description=__doc__)
    parser.add_argument("--rows", type=numbers, default=None, help="1,2,8-10; all of them by default")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds each row is played with")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=None, help="begin no further run after so long")
    asked = parser.parse_args(arguments)
    give_up = time.monotonic() + asked.minutes * 60 if asked.minutes else None
    rows = [row for row in ROWS if isinstance(row, Scenario) and (asked.rows is None or row.number in asked.rows)]
    broken = 0
    with VendorProcess() as vendor:
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            for row in rows:
                if give_up is not None and time.monotonic() > give_up:
                    return 1 if broken else 0
                broken += not told(row, run(row, seed, vendor), vendor)
    return 1 if broken else 0


def told(row: Scenario, done: Run, vendor: VendorProcess) -> bool:
    """Print how a run went; whether it went well."""
    quiet = "never" if done.quiet_s is None else f"{done.quiet_s:.1f} s"
    faults = ", ".join(f"{kind} {times}" for kind, times in sorted(done.faults.items()))
    print(
        f"{row.number:>3} seed {done.schedule.seed}  {done.operations:>5} calls  {done.seconds:5.1f} s"
        f"  quiet after {quiet}  {'ok' if not done.violations else 'BROKEN'}  {row.title} ({faults})",
        flush=True,
    )
    if done.violations:
        for violation in done.violations[:20]:
            print(f"      {violation}")
        print(f"      {done.schedule}\n{done.log}")
        print(f"      the shortest that was found: {shortest(row, done, vendor)}", flush=True)
    return not done.violations


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

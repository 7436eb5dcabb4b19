"""`python -m tests.simulation --schedules 100000 --seed 1`: plays schedules and prints what came of them as JSON."""

import argparse
import json
import sys

from tests.simulation.play import play, shrunk
from tests.simulation.schedule import drawn
from tests.simulation.summary import Summary, run


def _progress(so_far: Summary) -> None:
    rate = so_far.schedules / so_far.seconds
    told = f"{so_far.schedules} schedules, {len(so_far.failed)} broke a promise, {rate:.0f}/s"
    print(f"\r{told}", end="", file=sys.stderr, flush=True)


def _one(seed: int) -> int:
    played = play(drawn(seed))
    print(played.schedule, *played.violations, f"ended: {', '.join(played.states)}", sep="\n")
    if played.violations:
        smallest = shrunk(played.schedule)
        print("", "as small as it was found to be:", smallest.schedule, *smallest.violations, sep="\n")
    return 1 if played.violations else 0


def main() -> int:
    """Return the exit code: 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int)
    parser.add_argument(
        "--play", type=int, metavar="SEED", help="play one schedule by its own seed, and shrink it if it fails"
    )
    asked = parser.parse_args()
    if asked.play is not None:
        return _one(asked.play)
    summary = run(asked.schedules, asked.seed, processes=asked.processes, progress=_progress)
    print(file=sys.stderr)
    print(json.dumps(summary.told(), indent=2))
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())

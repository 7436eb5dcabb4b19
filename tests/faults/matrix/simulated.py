"""The crash schedules in virtual time, as `./dev faults` plays and tells them beside its rows."""

import sys
from collections.abc import Mapping

from bench.report import write
from tests import simulation
from tests.faults.matrix.report import DOCUMENT
from tests.simulation import Summary

NAME = "simulation"


def simulate(schedules: int, seed: int) -> Summary:
    """Play them on all cores, with a line that counts; what broke a promise is printed as small as it was found to be."""
    found = simulation.run(schedules, seed, progress=_progress)
    print(file=sys.stderr)
    print(
        f"{found.schedules:,} crash schedules, {found.calls:,} calls, {len(found.failed)} broke a promise", flush=True
    )
    for one in found.shrunk:
        print(f"{one}\n", flush=True)
    return found


def publish(found: Summary, facts: Mapping[str, str]) -> None:
    """Write it into the document."""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(found.faults.items()))
    ends = ", ".join(f"{state} {count:,}" for state, count in sorted(found.states.items()))
    told = {
        **facts,
        "seed": str(found.seed),
        "schedules": f"{found.schedules:,}",
        "operations": f"{found.calls:,}: {ends}",
        "faults": f"{found.faults.total():,}: {kinds}",
        "steps at which a worker could have died": f"{found.steps:,}",
        "seconds": f"{found.virtual_s:,.0f} virtual, {found.seconds:,.0f} by the clock, {found.cpu_s:,.0f} of processor",
        "violations": str(len(found.failed)),
    }
    write(DOCUMENT, NAME, "\n".join(f"- {name}: {fact}" for name, fact in told.items()))


def _progress(so_far: Summary) -> None:
    rate = so_far.schedules / max(so_far.seconds, 0.001)
    print(f"\r{so_far.schedules:,} crash schedules, {rate:.0f}/s", end="", file=sys.stderr, flush=True)

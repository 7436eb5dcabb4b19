"""`./dev bench [NAME] [options]`: run one benchmark, or without a name all there are."""

import sys
from collections.abc import Callable, Sequence

from bench import calls, journal, lanes, sdk

BENCHMARKS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "calls": (calls.main, "a call with every guard on, beside a bare loop and what would be written by hand"),
    "journal": (journal.main, "how long questions take among a million calls in SQLite"),
    "lanes": (lanes.main, "what the queue costs, and how that grows: lanes, calls that wait, limits, memory"),
    "sdk": (sdk.main, "what a call of an SDK costs through the gateway in its own process"),
}


def main(arguments: Sequence[str]) -> int:
    """Return 0 when every gate was kept, 1 when one was missed, 2 when there is no such benchmark."""
    if arguments and not arguments[0].startswith("-"):
        name, *options = arguments
        if name not in BENCHMARKS:
            sys.stderr.write(f"./dev bench: there is no `{name}`; there is {', '.join(BENCHMARKS)}.\n")
            return 2
        return BENCHMARKS[name][0](options)
    if {"-h", "--help"} & set(arguments):
        for name, (_, summary) in BENCHMARKS.items():
            sys.stdout.write(f"{name:<8}{summary}\n")
        return 0
    return max([run(arguments) for run, _ in BENCHMARKS.values()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Python's collector of cycles, told what kind of process this is."""

import gc

YOUNG = 50_000
"""Objects that are made before the collector looks at the young ones."""


def spare_collector() -> None:
    """Let the collector of cycles pass over what lives as long as the process, and look at the rest less often.

    What calls leave behind has no cycles, or few; looking through everything that was imported was a fifth of a worker's time
    (docs/benchmarks.md). See https://docs.python.org/3/library/gc.html#gc.freeze.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)

"""`./dev demo`: one night of a gateway in ten scenes, on real processes and against a vendor that counts.

Ends by itself; 0 = all claims hold. `--record FILE` also keeps the session as an SVG.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import TextIO, cast

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from tests.demo import recording, report
from tests.demo.ground import Ground
from tests.demo.scenes import SCENES, Scene
from tests.demo.stage import COLUMNS, Claim, Late, Stage, manifests
from tests.vendor.client import VendorProcess, VendorRefused

SETTINGS = {"SLUICE_CONCURRENCY": "16", "SLUICE_LOG_LEVEL": "warning"}
INTERRUPTED = 130


def main() -> int:
    """Play, and tell how it ended."""
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep the session as an SVG")
    record = parser.parse_args().record
    signal.signal(signal.SIGTERM, _stopped)
    watched = recording.Watched(sys.stdout)
    console = _console(watched, record=record is not None)
    try:
        kept = _play(console)
    except KeyboardInterrupt:
        return INTERRUPTED
    if record is not None and kept:
        recording.save(console, watched.came, record)
    return 0 if kept else 1


def _console(watched: recording.Watched, *, record: bool) -> Console:
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return Console(
        file=cast("TextIO", watched), width=COLUMNS, record=record, force_terminal=colours or record, highlight=False
    )


def _play(console: Console) -> bool:
    began = time.monotonic()
    console.print("[bold]$ ./dev demo[/]")
    with (
        tempfile.TemporaryDirectory(prefix="sluice-") as secrets,
        VendorProcess() as vendor,
        _ground(secrets, vendor) as ground,
    ):
        console.print(
            "Sluice is up: embedded Redis, API, worker, journal. Beside it a vendor that counts what arrives."
        )
        stage = Stage(ground, vendor, console)
        kept = [played(stage, number, scene) for number, scene in enumerate(SCENES, 1)]
        claims = report.conserved(stage)
        console.print()
        console.print(report.table(claims))
    held = all(kept) and all(claim.kept for claim in claims)
    console.print(
        f"{'All claims hold' if held else '[bold red]Not all claims hold[/]'}; {time.monotonic() - began:.0f} s."
    )
    return held


def _ground(secrets: str, vendor: VendorProcess) -> Ground:
    return Ground(manifests(Path(secrets), vendor.url), SETTINGS)


def played(stage: Stage, number: int, scene: Scene) -> bool:
    console = stage.console
    console.print()
    console.print(Rule(Text(f"{number} of {len(SCENES)}  {scene.title}", style="bold"), align="left", style="blue"))
    console.print(Text(scene.sentence, style="italic"))
    try:
        claims = list(scene.play(stage))
    except (Late, VendorRefused, LookupError) as error:
        claims = [Claim(said="the scene comes to its end", counted=f"{type(error).__name__}: {error}", kept=False)]
    console.print(report.checks(claims))
    return all(claim.kept for claim in claims)


def _stopped(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

"""`./dev demo`: 500 tool calls through a real gateway to a real vendor, and a SIGKILL in the middle. Ends by itself; 0 = all sums agree."""

import sys
import time
from collections import Counter
from typing import Any

from redis import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.demo import ledger
from tests.demo.events import EVENTS, events
from tests.demo.ground import Ground
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.record import Counts
from tests.vendor.script import Behaviour, Kind

ENOUGH_S = 50.0
"""The demo ends within a minute, whatever happens."""

VENDOR_DELAY_S = 0.15
"""The vendor takes its time, so that calls are under way when the worker dies."""

CONCURRENCY = "16"

console = Console(stderr=True)


def main() -> int:
    """Run the scene and tell how it ended."""
    with VendorProcess() as vendor, Ground(manifest(vendor.url), {"SLUICE_CONCURRENCY": CONCURRENCY}) as ground:
        console.print("[bold]Sluice is up[/]: embedded Redis, API, worker; and a vendor in a process of its own.")
        vendor.script("*", Behaviour(do=Kind.DELAY, seconds=VENDOR_DELAY_S, forever=True))
        redis = ground.redis
        in_time = _run(ground, redis)
        return _report(redis, vendor.counts(), in_time=in_time)


def _run(ground: Ground, redis: "Redis") -> bool:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    until = time.monotonic() + ENOUGH_S
    with Progress(*columns, console=console) as progress:
        publishing = progress.add_task("publishing by plain XADD", total=EVENTS)
        for body in events():
            redis.xadd("tool-calls", {"data": body})
            progress.advance(publishing)
        ending = progress.add_task("taken in and ended", total=EVENTS)
        killed = False
        while time.monotonic() < until:
            now = ledger.sums(redis)
            progress.update(ending, completed=now["received"] - now.live)
            if not killed and now["completed"] > EVENTS // 5:
                ground.kill("worker-1")
                killed = True
                progress.console.print(
                    f"[bold red]SIGKILL[/] to the worker with {now.live} calls live; it is started again."
                )
            if killed and now["received"] == EVENTS and now.live == 0:
                return True
            time.sleep(0.05)
    return False


def _report(redis: "Redis", counts: Counts, *, in_time: bool) -> int:
    ended, letters, sums = ledger.results(redis), ledger.letters(redis), ledger.sums(redis)
    lines = _lines(sums, counts, ended)
    out = Console()
    table = Table(title="What was promised, beside what was counted", title_justify="left")
    for heading in ("promise", "counted", ""):
        table.add_column(heading, overflow="fold")
    for promise, counted, kept in [*lines, ("everything ended in time", f"{sums.live} live", in_time)]:
        table.add_row(promise, counted, "[green]yes[/]" if kept else "[red]NO[/]")
    out.print(table)
    out.print(_refusals(ended, letters))
    return 0 if in_time and all(kept for _, _, kept in lines) else 1


def _lines(sums: ledger.Sums, counts: Counts, ended: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    tools = {"contacts.create": "keyed", "messages.send": "unsafe"}
    effects = [
        (
            f"{operation} ({kind}): what we say ran is what the vendor ran",
            _effects(ended, counts, operation),
            ledger.effects_agree(ended, counts, f"crm.{operation}", operation),
        )
        for operation, kind in tools.items()
    ]
    intake = " + ".join(f"{sums[name]} {name}" for name in ("accepted", "duplicates", "conflicts", "undecodable"))
    ends = " + ".join(f"{sums[name]} {name}" for name in ledger.ENDS if sums[name])
    repeated = len(counts.repeated_effects) + len(counts.repeated_refs)
    return [
        (
            "received = accepted + duplicates + conflicts + undecodable",
            f"{sums['received']} = {intake}",
            sums.received_is_explained,
        ),
        (
            "accepted = all that ended + live",
            f"{sums['accepted']} = {ends} + {sums.live} live",
            sums.accepted_is_explained,
        ),
        (
            "one result for each accepted call and conflict",
            f"{len(ended)}",
            len(ended) == sums["accepted"] + sums["conflicts"],
        ),
        ("the vendor ran nothing twice", f"{counts.effects_total} effects, {repeated} repeated", repeated == 0),
        *effects,
    ]


def _effects(ended: list[dict[str, Any]], counts: Counts, operation: str) -> str:
    said = Counter(event["data"]["effect"] for event in ended if event["data"]["tool"] == f"crm.{operation}")
    ran = sum(counts.effects.get(operation, {}).values())
    return f"we: {said['executed']} executed, {said['unknown']} unknown; vendor: {ran}"


def _refusals(ended: list[dict[str, Any]], letters: list[dict[str, Any]]) -> Table:
    table = Table(title="What did not complete, and why", title_justify="left", expand=True)
    for heading, width in (("count", 5), ("state", 11), ("class", 25)):
        table.add_column(heading, no_wrap=True, min_width=width)
    table.add_column("for example", no_wrap=True, ratio=1)
    rows: dict[tuple[str, str], list[str]] = {}
    for event in ended:
        data = event["data"]
        if data["error"] is not None:
            rows.setdefault((data["state"], data["error"]["class"]), []).append(data["error"]["message"])
    for letter in letters:
        failure = letter["data"]["failure"]
        if letter["data"]["identity"]["call"] is None:
            rows.setdefault(("undecodable", failure["class"]), []).append(failure["message"])
    for (state, failure_class), examples in sorted(rows.items()):
        table.add_row(str(len(examples)), state, failure_class, examples[0])
    return table


if __name__ == "__main__":
    sys.exit(main())

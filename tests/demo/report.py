"""What the whole night comes to: our sums beside the vendor's own counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from tests.demo import ledger
from tests.demo.stage import Claim, Stage
from tests.vendor.record import Counts

TOOLS: Mapping[str, tuple[str, ...]] = {
    "contacts.create": ("crm.contacts.create", "ledger.entries.add", "parcels.labels.print"),
    "messages.send": ("crm.messages.send", "bank.invoices.send"),
    "orders.create": ("shop.orders.create", "bank.refunds.pay"),
}
"""The vendor's operations that change something, and our tools that call them."""


def conserved(stage: Stage) -> list[Claim]:
    """Hold the sums against each other and against the vendor."""
    sums, counts = ledger.sums(stage.redis), stage.vendor.counts()
    ended = ledger.results(stage.redis)
    last = _last(ended, ledger.letters(stage.redis))
    intake = " + ".join(f"{sums[name]} {name}" for name in ("accepted", "duplicates", "conflicts", "undecodable"))
    ends = " + ".join(f"{sums[name]} {name}" for name in ledger.ENDS if sums[name])
    repeated = len(counts.repeated_effects) + len(counts.repeated_refs)
    return [
        Claim(
            said="received = accepted + duplicates + conflicts + undecodable",
            counted=f"{sums['received']} = {intake}",
            kept=sums.received_is_explained,
        ),
        Claim(
            said="accepted = all that ended + live",
            counted=f"{sums['accepted']} = {ends} + {sums.live} live",
            kept=sums.accepted_is_explained and sums.live == 0,
        ),
        Claim(
            said="one result for each accepted call and conflict",
            counted=f"{len(ended)}",
            kept=len(ended) == sums["accepted"] + sums["conflicts"],
        ),
        *(_effects(last, counts, operation, tools) for operation, tools in TOOLS.items()),
        Claim(
            said="the vendor ran nothing twice",
            counted=f"{counts.effects_total} effects, {repeated} repeated",
            kept=repeated == 0 and counts.effects_total > 0,
        ),
    ]


def _effects(ended: Sequence[Mapping[str, Any]], counts: Counts, operation: str, tools: Sequence[str]) -> Claim:
    """What we say ran is what the vendor ran; of what nobody knows, some may have."""
    said = Counter(data["effect"] for data in ended if data["tool"] in tools)
    ran = sum(counts.effects.get(operation, {}).values())
    return Claim(
        said=f"what we say ran is what the vendor ran: {operation}",
        counted=f"we: {said['executed']} executed, {said['unknown']} unknown; the vendor: {ran}",
        kept=said["executed"] <= ran <= said["executed"] + said["unknown"],
    )


def _last(ended: Sequence[Mapping[str, Any]], letters: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out the calls that were replayed: the replay says how they ended."""
    replayed = {event["data"]["replay_of"] for event in ended}
    over = {letter["data"]["identity"]["call"] for letter in letters if letter["id"] in replayed}
    return [event["data"] for event in ended if event["data"]["call"] not in over]


def table(claims: Sequence[Claim]) -> Table:
    """Show them."""
    shown = Table(title="What was promised, beside what was counted", title_justify="left", expand=True)
    for heading in ("promise", "counted"):
        shown.add_column(heading, overflow="fold")
    shown.add_column("", min_width=3)
    for claim in claims:
        shown.add_row(claim.said, claim.counted, "[green]yes[/]" if claim.kept else "[bold red]NO[/]")
    return shown


def checks(claims: Sequence[Claim]) -> Table:
    """Show the claims of one scene."""
    shown = Table.grid(padding=(0, 1))
    shown.add_column()
    shown.add_column(max_width=48)
    shown.add_column(style="bold")
    for claim in claims:
        mark = Text("✓", "green") if claim.kept else Text("NO", "bold red")
        shown.add_row(mark, claim.said, Text(claim.counted))
    return shown

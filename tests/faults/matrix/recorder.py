"""Reads, from outside and after the fact, everything that a run left behind: topics, sums, journal, letters, files."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.faults.matrix.load import ARGUMENT, CREDENTIAL
from tests.faults.matrix.recording import Oracle, Recording
from tests.faults.matrix.stage import Stage
from tests.security.canary import leaks
from tests.vendor.client import VendorControl

TOLD = ("tool-events", "dead-letters", "gateway-alerts")
"""Topics that may hold no secret of an argument; the vendor's answers, which repeat it, are on `tool-results`."""


def record(stage: Stage, *, bound_s: float, searched: bool = True) -> Recording:
    """Wait for quiet, a little longer than the bound, then read; canaries are looked for where that is worth its time."""
    quiet_s = stage.quiet(bound_s + 5)
    if stage.journal is not None and quiet_s is not None:
        stage.until(stage.journal_is_level, "the journal has written all")
    return Recording(
        calls=list(stage.calls.values()),
        published_total=stage.published,
        entries=stage.entries(),
        unsure=stage.unsure,
        sums=stage.sums(),
        pending=stage.pending(),
        results=_distinct(stage.read("tool-results")),
        events=list({event["id"]: event for event in stage.read("tool-events")}.values()),
        letters=[letter["data"] for letter in stage.read("dead-letters")],
        journal=_journal(stage),
        leaks=list(_leaks(stage)) if searched else [],
        limits=tuple(stage.setting.limits),
        bound_s=bound_s,
        quiet_s=quiet_s,
        sizes=tuple(stage.sizes),
        demands=tuple(stage.demands),
        counted=stage.counted,
        may_be_lost=frozenset(stage.may_be_lost),
        approved=dict(stage.approved),
        bystanders=dict(stage.bystanders),
    )


def oracle(stage: Stage) -> Oracle:
    """Read the vendors' books, once what is still on its way there has arrived."""
    found = [books(stage.vendor), *stage.other_books]
    effects: Counter[tuple[str, str]] = Counter()
    for one in found:
        effects.update(one.effects)
    return Oracle(effects=effects, arrivals=[arrival for one in found for arrival in one.arrivals])


def books(vendor: VendorControl) -> Oracle:
    """Read those of one."""
    before = -1
    while (now := vendor.counts(names=False).arrivals) != before:
        before = now
        time.sleep(0.1)
    effects = vendor.counts().effects_by_ref
    named = {(operation, ref): times for operation, refs in effects.items() for ref, times in refs.items()}
    return Oracle(effects=named, arrivals=vendor.arrivals())


def _distinct(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    told = {json.dumps(result["data"], sort_keys=True): result["data"] for result in results}
    return list(told.values())


def _journal(stage: Stage) -> dict[str, str] | None:
    if stage.journal is None:
        return None
    return dict(stage.journal_rows("SELECT call, state FROM calls"))


def _leaks(stage: Stage) -> Iterator[tuple[str, str]]:
    for place, content, canaries in _artefacts(stage):
        for leak in leaks([(place, content)], canaries):
            yield f"{leak.place}, {leak.spelling}", leak.secret


def _artefacts(stage: Stage) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    credential = (CREDENTIAL, *stage.canaries)
    both = (*credential, ARGUMENT)
    yield "the log", stage.workers.log.encode(), both
    for topic in TOLD:
        yield topic, json.dumps(stage.read(topic)).encode(), both
    # An append-only file holds everything that Redis was ever told.
    for path in sorted(stage.redis.home.rglob("*")):
        if path.is_file():
            yield f"Redis' {path.name}", path.read_bytes(), credential
    for path in sorted((stage.workers.folder / "data").rglob("*")):
        if path.is_file():
            # The journal keeps the vendor's answers, and this vendor repeats arguments in them.
            yield f"data/{path.name}", path.read_bytes(), credential if "journal.db" in path.name else both
    if stage.journal is not None:
        for table in ("events", "letters"):
            yield f"the journal's {table}", repr(stage.journal_rows(f"SELECT * FROM {table}")).encode(), both  # noqa: S608 - ours

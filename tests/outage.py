"""An outage as the vendor and the gateway's events tell of it: which arrivals were probes, and how the slow start went. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML

from tests.vendor.client import manifest
from tests.vendor.record import Arrival

CHANGED = "breaker.changed"
US = 1_000_000


def declared(url: str, breaker: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return the connector `crm` with this breaker, and other defaults beside it."""
    connector: dict[str, Any] = YAML(typ="safe").load(manifest(url))
    connector["defaults"] = {**connector["defaults"], **defaults, "breaker": dict(breaker)}
    return connector


def changes(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return each transition as it was told, in order."""
    return [(event["data"]["before"], event["data"]["state"]) for event in events if event["type"] == CHANGED]


def moment_us(events: Sequence[Mapping[str, Any]], state: str, *, last: bool = False) -> int:
    """Return when the breaker was first said to be in this state, or last, in µs since 1970."""
    times = [event["time"] for event in events if event["type"] == CHANGED and event["data"]["state"] == state]
    return round(datetime.fromisoformat(times[-1 if last else 0]).timestamp() * US)


def since(arrivals: Sequence[Arrival], begin_us: int, end_us: int | None = None) -> list[Arrival]:
    """Return what arrived from one moment to another."""
    return [one for one in arrivals if begin_us < one.wall_us and (end_us is None or one.wall_us < end_us)]


def reopened(told: Sequence[tuple[str, str]]) -> int:
    """Count the probes that failed."""
    return told.count(("half_open", "open"))


def is_a_path(told: Sequence[tuple[str, str]]) -> bool:
    """Tell whether each transition begins where the one before ended: none is missing, none told twice."""
    return told[0][0] == "closed" and all(one[1] == other[0] for one, other in pairwise(told))


def one_at_a_time(arrivals: Sequence[Arrival]) -> bool:
    """Tell whether each was over before the next came."""
    ordered = sorted(arrivals, key=lambda one: one.mono_us)
    return all(one.done_us is not None and one.done_us <= other.mono_us for one, other in pairwise(ordered))


def too_many(arrivals: Sequence[Arrival]) -> list[tuple[int, int, int]]:
    """Return (successes before, open at once, allowed) of each arrival that a slow start should have held back.

    Two at once at first; twice as many when that many have succeeded, up to 32; then as many as like.
    """
    over = []
    for one in arrivals:
        done = sum(other.done_us is not None and other.done_us <= one.mono_us for other in arrivals)
        at_once = sum(other.mono_us <= one.mono_us for other in arrivals) - done
        most, passed = 2, 2
        while done >= passed:
            most, passed = most * 2, passed + most * 2
        if most <= 32 and at_once > most:
            over.append((done, at_once, most))
    return over

"""What is counted in the topics: calls that ended alike, and dead letters. Pure; entries in, counts out.

A call that failed is told of once on `tool-events`, when it is settled; bytes that are no event only have a letter. Counting settled
calls there, and in the letters only those without a call, counts everything once.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from gateway.policy.patterns import HOUR_S, Terms
from gateway.ports.alerts import Entry, Tally
from schemas.codec import encode

LETTERS: Final = "letters"
"""The name under which dead letters are counted, whatever they are about."""

BUCKETS: Final = 30
"""Stretches of a window: it slides by one of them."""

_SETTLED: Final = b'"tool.call.settled"'
_NO_ERROR: Final = b'"error":null'
_IGNORED: Final = frozenset({"cancelled"})
"""Ends that somebody wanted."""


class _Error(msgspec.Struct):
    failure: str = msgspec.field(name="class")
    fingerprint: str


class _Settled(msgspec.Struct):
    call: str
    tool: str
    state: str
    error: _Error | None = None


class _Event(msgspec.Struct):
    type: str
    data: _Settled


_event = msgspec.json.Decoder(_Event).decode
_any = msgspec.json.Decoder().decode


def of_events(entries: Iterable[Entry], terms: Terms) -> list[Tally]:
    """Count calls that ended with an error, by their fingerprint."""
    sums = _Sums()
    for entry in entries:
        # Most entries tell of something else: they are not worth decoding.
        if _SETTLED not in entry.event or _NO_ERROR in entry.event:
            continue
        try:
            event = _event(entry.event)
        except msgspec.DecodeError:
            continue
        told = event.data
        if event.type == "tool.call.settled" and told.error is not None and told.state not in _IGNORED:
            sample = {
                "call": told.call,
                "tool": told.tool,
                "failure": told.error.failure,
                "look": f"calls show {told.call}",
            }
            sums.add(told.error.fingerprint, entry, terms.window_s, sample)
    return sums.tallies()


def of_letters(entries: Iterable[Entry], terms: Terms) -> list[Tally]:
    """Count letters, and those of bytes that are no event by their fingerprint as well."""
    sums = _Sums()
    for entry in entries:
        try:
            record = _any(entry.event)["data"]
            call, tool = record["identity"]["call"], record["operation"]["tool"]
            fingerprint, failure = record["grouping"]["fingerprint"], record["failure"]["class"]
        except (msgspec.DecodeError, KeyError, TypeError):
            continue
        sample = {"call": call or "", "tool": tool or "the bus", "failure": failure, "look": "dlq groups"}
        sums.add(LETTERS, entry, HOUR_S, sample)
        if call is None:
            sums.add(fingerprint, entry, terms.window_s, sample)
    return sums.tallies()


class _Sums:
    """Adds up what falls into the same stretch."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], dict[str, Any]] = {}

    def add(self, name: str, entry: Entry, window_s: float, sample: dict[str, str]) -> None:
        width = max(1, int(window_s * 1000 / BUCKETS))
        at_ms = int(entry.id.partition("-")[0])
        found = self._found.setdefault(
            (name, at_ms // width), {"name": name, "count": 0, "width_ms": width, "keep_ms": int(window_s * 1000)}
        )
        found |= {"at_ms": at_ms, "count": found["count"] + 1, "sample": encode(sample).decode()}

    def tallies(self) -> list[Tally]:
        return [Tally(**facts) for facts in self._found.values()]

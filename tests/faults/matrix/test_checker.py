"""Each invariant can break: a whole recording breaks none, and one with a fault in it breaks its own."""

from dataclasses import replace
from typing import Any

import pytest

from tests.demo.ledger import Sums
from tests.faults.matrix.checker import INVARIANTS, check
from tests.faults.matrix.load import Call, call
from tests.faults.matrix.recording import Limit, Oracle, Recording, Size
from tests.vendor.record import Arrival

KEYED, UNSAFE = call(1, "keyed"), call(2, "unsafe", agent="south")


def result(one: Call, state: str, effect: str) -> dict[str, Any]:
    told = {"call": f"call-{one.id}", "request": {"id": one.id}, "state": state, "effect": effect}
    return {**told, "queued_ms": 5, "duration_ms": 5}


def events(one: Call, state: str) -> list[dict[str, Any]]:
    types = (("accepted", "pending"), ("attempted", "processing"), ("settled", state))
    return [
        {"type": f"tool.call.{name}", "data": {"call": f"call-{one.id}", "seq": seq, "state": told}}
        for seq, (name, told) in enumerate(types, 1)
    ]


def arrival(seq: int, one: Call, at_us: int) -> Arrival:
    return Arrival(
        seq=seq, mono_us=at_us, wall_us=at_us, method="POST", path="/", operation=one.operation, ref=one.ref,
        effect=True, done_us=at_us + 10_000,
    )  # fmt: skip


LETTER = {"identity": {"call": "call-e2"}, "effect": {"state": "unknown"}}
SUMS = Sums(counts={"received": 2, "accepted": 2, "completed": 1, "escalated": 1}, live=0)
WHOLE = Recording(
    calls=[KEYED, UNSAFE],
    published_total=2,
    sums=SUMS,
    results=[result(KEYED, "completed", "executed"), result(UNSAFE, "escalated", "unknown")],
    events=[*events(KEYED, "completed"), *events(UNSAFE, "escalated")],
    letters=[LETTER],
    journal={"call-e1": "completed", "call-e2": "escalated"},
    limits=[Limit(most=2, window_s=1.0), Limit(most=2, window_s=0.0)],
    quiet_s=1.0,
    sizes=[("worker", Size(50 * 2**20, 20), Size(60 * 2**20, 22))],
    bystanders={"north": 100},
)
BOOKS = Oracle(
    effects={(KEYED.operation, KEYED.ref): 1, (UNSAFE.operation, UNSAFE.ref): 1},
    arrivals=[arrival(0, KEYED, 0), arrival(1, UNSAFE, 5_000)],
)


def sums(**changed: int) -> Sums:
    live = changed.pop("live", 0)
    return Sums(counts={**SUMS.counts, **changed}, live=live)


def test_a_whole_recording_breaks_nothing() -> None:
    assert check(WHOLE, BOOKS) == []


BROKEN: list[tuple[str, Recording, Oracle]] = [
    ("L", replace(WHOLE, sums=sums(accepted=3)), BOOKS),
    ("L", replace(WHOLE, sums=sums(received=3, duplicates=1)), BOOKS),
    ("L", replace(WHOLE, sums=sums(received=3, accepted=3, live=1)), BOOKS),
    ("L", replace(WHOLE, pending=1), BOOKS),
    ("L", replace(WHOLE, entries=3), BOOKS),
    ("L", replace(WHOLE, published_total=3), BOOKS),
    ("L", replace(WHOLE, results=WHOLE.results[:1]), BOOKS),
    ("L", replace(WHOLE, results=[*WHOLE.results, {**WHOLE.results[0], "call": "other"}]), BOOKS),
    ("L", replace(WHOLE, results=[*WHOLE.results, {**WHOLE.results[0], "state": "failed"}]), BOOKS),
    ("L", replace(WHOLE, letters=[]), BOOKS),
    ("L", replace(WHOLE, letters=[LETTER, LETTER]), BOOKS),
    ("L", replace(WHOLE, letters=[LETTER, {**LETTER, "identity": {"call": "call-e1"}}]), BOOKS),
    ("L", replace(WHOLE, letters=[LETTER, {**LETTER, "identity": {"call": None}}]), BOOKS),
    ("D", WHOLE, replace(BOOKS, effects={**BOOKS.effects, (UNSAFE.operation, UNSAFE.ref): 2})),
    ("U", WHOLE, replace(BOOKS, effects={})),
    ("U", replace(WHOLE, results=[result(KEYED, "failed", "not_executed"), WHOLE.results[1]]), BOOKS),
    ("U", replace(WHOLE, letters=[{**LETTER, "effect": {"state": "not_executed"}}]), BOOKS),
    ("R", WHOLE, replace(BOOKS, arrivals=[*BOOKS.arrivals, arrival(2, KEYED, 990_000)])),
    ("R", replace(WHOLE, limits=[Limit(most=1, window_s=0.0)]), BOOKS),
    ("R", replace(WHOLE, limits=[Limit(most=1, window_s=0.0, operations=(UNSAFE.operation,))]), replace(
        BOOKS, arrivals=[arrival(0, UNSAFE, 0), arrival(1, UNSAFE, 9_000)])),
    ("S", replace(WHOLE, leaks=[("the log", "canary")]), BOOKS),
    ("T", replace(WHOLE, quiet_s=None), BOOKS),
    ("T", replace(WHOLE, quiet_s=61.0), BOOKS),
    ("A", replace(WHOLE, events=WHOLE.events[1:]), BOOKS),
    ("A", replace(WHOLE, events=[*WHOLE.events[:1], *WHOLE.events[2:]]), BOOKS),
    ("A", replace(WHOLE, events=WHOLE.events[:-1]), BOOKS),
    ("A", replace(WHOLE, journal={"call-e1": "completed"}), BOOKS),
    ("A", replace(WHOLE, journal={"call-e1": "completed", "call-e2": "processing"}), BOOKS),
    ("I", replace(WHOLE, bystanders={"north": 9}), BOOKS),
    ("I", replace(WHOLE, bystanders={"south": 100}), BOOKS),
    ("M", replace(WHOLE, sizes=[("worker", Size(0, 20), Size(51 * 2**20, 20))]), BOOKS),
    ("M", replace(WHOLE, sizes=[("worker", Size(0, 20), Size(0, 41))]), BOOKS),
]  # fmt: skip


@pytest.mark.parametrize(("letter", "seen", "oracle"), BROKEN, ids=[f"{n} {row[0]}" for n, row in enumerate(BROKEN)])
def test_what_is_broken_is_caught(letter: str, seen: Recording, oracle: Oracle) -> None:
    assert letter in {violation.invariant for violation in check(seen, oracle)}


def test_every_invariant_is_seen_to_break() -> None:
    assert {row[0] for row in BROKEN} == set(INVARIANTS)


def test_what_an_operator_approved_may_run_again() -> None:
    twice = replace(BOOKS, effects={**BOOKS.effects, (UNSAFE.operation, UNSAFE.ref): 2})
    assert check(replace(WHOLE, approved={UNSAFE.ref: 1}), twice) == []


def test_what_was_refused_under_the_name_of_another_call_is_no_second_end() -> None:
    refused = {**result(KEYED, "rejected", "not_executed"), "call": "other"}
    conflict = {**refused, "error": {"class": "ingest.duplicate_conflict"}}
    assert check(replace(WHOLE, results=[*WHOLE.results, conflict]), BOOKS) == []

"""What opens an alert, what keeps it open, and what it says: as a table. And what is counted in the topics."""

import json
from typing import Any

import pytest

from gateway.policy import tallies
from gateway.policy.patterns import PATTERNS, Evidence, Terms, observed, span
from gateway.ports.alerts import Entry
from schemas.alert import AlertKind

TERMS = Terms(similar=10, window_s=1800, breaker_open_s=300, letters_per_hour=100, most_per_hour=60)
K = AlertKind


@pytest.mark.parametrize(
    ("kind", "is_open", "count", "fires"),
    [
        (K.SIMILAR, False, 9, 0),
        (K.SIMILAR, False, 10, 1),
        (K.SIMILAR, True, 9, 1),
        (K.SIMILAR, True, 1, 1),
        (K.SIMILAR, True, 0, 0),
        (K.LETTERS, False, 99, 0),
        (K.LETTERS, False, 100, 1),
        (K.LETTERS, True, 51, 1),
        (K.LETTERS, True, 50, 0),
        (K.BREAKER, False, 1, 1),
        (K.BREAKER, True, 0, 0),
        (K.CONSENT, False, 1, 1),
        (K.CONSENT, True, 0, 0),
        (K.CONFIG, False, 1, 1),
        (K.CONTRACT, False, 1, 1),
        (K.CONTRACT, True, 0, 0),
        (K.CAPPED, False, 3, 1),
        (K.CAPPED, True, 0, 0),
    ],
)
def test_when_a_pattern_fires(kind: AlertKind, is_open: bool, count: int, fires: int) -> None:  # noqa: FBT001
    evidence = Evidence(kind=kind, subject="x", count=count, facts={})
    assert observed(evidence, TERMS, is_open=is_open, alert="a").fires == fires


@pytest.mark.parametrize(
    ("kind", "for_s", "quiet_s"),
    [
        (K.SIMILAR, 0, 0),
        (K.LETTERS, 0, 60),
        (K.BREAKER, 300, 60),
        (K.CONSENT, 0, 30),
        (K.CONFIG, 0, 30),
        (K.CONTRACT, 0, 0),
        (K.CAPPED, 0, 60),
    ],
)
def test_how_long_it_must_hold_and_how_long_be_quiet(kind: AlertKind, for_s: int, quiet_s: int) -> None:
    seen = observed(Evidence(kind=kind, subject="x", facts={}), TERMS, is_open=False, alert="a")
    assert (seen.for_us, seen.quiet_us) == (for_s * 1_000_000, quiet_s * 1_000_000)


def test_every_kind_is_in_the_table_and_only_the_cap_is_free_of_the_cap() -> None:
    assert set(PATTERNS) == set(AlertKind)
    free = {
        kind for kind in K if observed(Evidence(kind=kind, subject="", facts={}), TERMS, is_open=False, alert="").free
    }
    assert free == {K.CAPPED}


def test_what_it_says_and_what_to_do() -> None:
    facts = {"call": "c9", "tool": "crm.echo", "failure": "receive.reset", "look": "calls show c9"}
    seen = observed(Evidence(kind=K.SIMILAR, subject="v1:ab", count=12, facts=facts), TERMS, is_open=False, alert="a")
    assert seen.sentence == "12 calls ended alike within 30m: receive.reset at crm.echo."
    assert (seen.action, seen.key) == ("sluice calls show c9", "failure.similar|v1:ab")
    assert json.loads(seen.sample) == {"call": "c9", "tool": "crm.echo", "failure": "receive.reset"}


def test_braces_in_the_words_of_others_are_words() -> None:
    facts = {"origin": "https://x", "reason": "{0.__class__} {terms}"}
    seen = observed(Evidence(kind=K.BREAKER, subject="x", facts=facts), TERMS, is_open=False, alert="a")
    assert seen.sentence.endswith("{0.__class__} {terms}")


def test_a_vendors_long_words_are_cut() -> None:
    facts = {"origin": "https://x", "reason": "x" * 9000}
    seen = observed(Evidence(kind=K.BREAKER, subject="x", facts=facts), TERMS, is_open=False, alert="a")
    assert len(seen.sentence) == 500


@pytest.mark.parametrize(("seconds", "text"), [(1800, "30m"), (3600, "1h"), (90, "90s"), (0.5, "0.5s"), (86400, "24h")])
def test_times_are_written_as_people_do(seconds: float, text: str) -> None:
    assert span(seconds) == text


# What is counted


def settled(at_ms: int, state: str = "failed", print_: str | None = "v1:ab", **more: Any) -> Entry:
    error = None if print_ is None else {"class": "receive.reset", "fingerprint": print_, "message": "x"}
    data = {"call": f"c{at_ms}", "tool": "crm.echo", "state": state, "error": error, **more}
    event = {"type": "tool.call.settled", "data": data}
    return Entry(f"{at_ms}-0", json.dumps(event, separators=(",", ":")).encode())


def test_calls_that_ended_alike_are_counted_in_the_stretch_in_which_they_ended() -> None:
    entries = [settled(60_000), settled(60_001), settled(119_999), settled(120_000), settled(60_002, print_="v1:cd")]
    found = {(one.name, one.at_ms // one.width_ms): one.count for one in tallies.of_events(entries, TERMS)}
    assert found == {("v1:ab", 1): 3, ("v1:ab", 2): 1, ("v1:cd", 1): 1}
    (first, *_) = tallies.of_events(entries, TERMS)
    assert json.loads(first.sample)["call"] == "c119999"
    assert first.keep_ms == 1_800_000


@pytest.mark.parametrize(
    "entry",
    [
        settled(1, "completed", None),
        settled(1, "cancelled"),
        Entry("1-0", b'{"type":"tool.call.accepted","data":{"call":"tool.call.settled"}}'),
        Entry("1-0", b'{"type":"x","data":{"text":"\\"tool.call.settled\\""}}'),
        Entry("1-0", b'"tool.call.settled" {'),
        Entry("1-0", b""),
    ],
)
def test_what_is_no_failure_is_not_counted(entry: Entry) -> None:
    assert tallies.of_events([entry], TERMS) == []


def letter(call: str | None) -> Entry:
    record = {
        "identity": {"call": call},
        "operation": {"tool": None},
        "grouping": {"fingerprint": "v1:ef"},
        "failure": {"class": "decode.json"},
    }
    return Entry("5-0", json.dumps({"type": "tool.call.dead_lettered", "data": record}).encode())


def test_a_letter_counts_as_a_letter_and_its_failure_only_where_no_call_tells_of_it() -> None:
    found = {one.name: one.count for one in tallies.of_letters([letter(None), letter("c1"), letter(None)], TERMS)}
    assert found == {"letters": 3, "v1:ef": 2}
    assert tallies.of_letters([Entry("1-0", b"{}"), Entry("1-0", b"no"), Entry("1-0", b"[]")], TERMS) == []

"""Rows of the journal: whatever the order of what is told of a call, and however often, the row is the same."""

import itertools
import json
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.rows import Row, fold_call, fold_letter, read, searchable, words_of
from schemas.failure import Failure
from schemas.moment import microseconds
from tests import letter_examples
from tests.journal_examples import Story, changed, letter, told

MOST = 65_536

stories = st.builds(
    Story,
    number=st.integers(0, 10_000),
    session=st.sampled_from([None, "run-1"]),
    tries=st.integers(1, 4),
    failure=st.sampled_from([None, Failure.SEND_RESET]),
    message=st.text(max_size=40),
    letter=st.sampled_from([None, "01JD3QZ8W4M5N6P7R8S9T0V1X2"]),
)


def folded(parts: Sequence[Row], fold: Callable[[Row | None, Row], Row]) -> Row:
    row: Row | None = None
    for part in parts:
        row = fold(row, part)
    assert row is not None
    return row


def call_parts(entries: Sequence[bytes]) -> list[Row]:
    return [part for raw in entries if (part := read(raw, most_bytes=MOST).call) is not None]


@given(story=stories, seed=st.integers(0, 1 << 30), again=st.integers(0, 5))
def test_any_order_and_any_repetition_of_what_is_told_of_a_call_gives_the_same_row(
    story: Story, seed: int, again: int
) -> None:
    parts = call_parts(list(told(story).entries()))
    dice = random.Random(seed)
    shuffled = [*parts, *dice.choices(parts, k=again)]
    dice.shuffle(shuffled)
    assert folded(shuffled, fold_call) == folded(parts, fold_call)


@given(seed=st.integers(0, 1 << 30), statuses=st.permutations(["open", "replaying", "replayed_failed", "resolved"]))
def test_any_order_of_the_changes_of_a_letter_gives_the_same_row(seed: int, statuses: list[str]) -> None:
    name, at = letter_examples.ID, letter_examples.NOW
    changes = [changed(name, status, at + timedelta(seconds=n)) for n, status in enumerate(statuses)]
    raws = [letter(name, at), *changes, changes[-1]]
    parts = [read(raw, most_bytes=MOST).letter or {} for raw in raws]
    dice = random.Random(seed)
    shuffled = list(parts)
    dice.shuffle(shuffled)
    row = folded(shuffled, fold_letter)
    assert row == folded(parts, fold_letter)
    assert (row["status"], row["changed_us"]) == (statuses[-1], microseconds(at + timedelta(seconds=3)))
    assert json.loads(row["record"])["identity"]["dl_id"] == name


def test_of_two_changes_of_one_moment_the_one_nearer_to_the_end_holds() -> None:
    name, at = letter_examples.ID, letter_examples.NOW
    parts = [read(changed(name, status, at), most_bytes=MOST).letter or {} for status in ("resolved", "replaying")]
    assert folded(parts, fold_letter)["status"] == "resolved"
    assert folded(parts[::-1], fold_letter)["status"] == "resolved"


def test_what_a_person_found_out_about_the_effect_holds_whatever_is_read_first() -> None:
    name, at = letter_examples.ID, letter_examples.NOW
    raws = [
        letter(name, at),  # unknown
        changed(name, "open", at + timedelta(seconds=1), effect="not_executed"),
        changed(name, "discarded", at + timedelta(seconds=2), effect=None),
        changed(name, "open", at, effect="nonsense"),
    ]
    parts = [read(raw, most_bytes=MOST).letter or {} for raw in raws]
    for some in itertools.permutations(parts):
        row = folded(list(some), fold_letter)
        assert (row["status"], row["effect"]) == ("discarded", "not_executed")
    done = read(changed(name, "resolved", at, effect="executed"), most_bytes=MOST).letter or {}
    assert folded([*parts, done], fold_letter)["effect"] == "executed"


def test_a_row_says_what_the_events_and_the_result_said() -> None:
    story = Story(number=7, tries=2, failure=Failure.SEND_RESET, letter="01JD3QZ8W4M5N6P7R8S9T0V1X2")
    all_told = told(story)
    row = folded(call_parts(list(all_told.entries())), fold_call)
    call = all_told.call
    expected = {
        "call": call.id,
        "agent": "research-7",
        "session": "run-42",
        "tool": "crm.contacts.create",
        "connector": "crm",
        "key": "key-7",
        "state": "failed",
        "effect": "not_executed",
        "error_class": "send.reset",
        "attempts": 2,
        "confidence": 0.82,
        "trace_id": f"{8:032x}",
        "dead_letter": "01JD3QZ8W4M5N6P7R8S9T0V1X2",
        "accepted_us": microseconds(story.at),
        "ended_us": microseconds(story.at) + 30_000,
        "deadline_us": call.deadline_us,
        "seq": 4,
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["result"]) == json.loads(all_told.result)["data"]
    assert " closed" in row["search"]


def test_a_result_that_is_read_first_is_shown_until_the_events_come() -> None:
    all_told = told(Story(number=1))
    (early,) = call_parts([all_told.result])
    assert folded([early], fold_call)["state"] == "completed"


def test_a_large_result_is_left_out_and_said_to_be() -> None:
    raw = told(Story(number=1, result={"text": "x" * 5000})).result
    part = read(raw, most_bytes=4096).call
    assert part is not None
    kept = json.loads(part["result"])
    assert (kept["result"], kept["result_left_out"], kept["state"]) == (None, True, "completed")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no json",
        b"[]",
        b'{"type": "tool.call.settled"}',
        b'{"type":"tool.call.settled","id":"x.1","time":"2026-11-20T09:00:00Z","data":{"seq":1}}',
        b'{"type":"tool.call.settled","id":"x.1","time":"2026-11-20T09:00:00","data":{"seq":1,"call":"x"}}',
        b'{"type":"tool.call.completed","id":"x","time":"2026-11-20T09:00:00Z","data":{"call":"x","tool":1}}',
        b'{"type":"tool.call.dead_lettered","id":"x","time":"2026-11-20T09:00:00Z","data":{}}',
        b'{"type":"letter.changed","id":"x","time":"2026-11-20T09:00:00Z","data":{}}',
    ],
)
def test_what_is_no_event_of_ours_is_refused_with_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(raw, most_bytes=MOST)


@given(raw=st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_value_error(raw: bytes) -> None:
    try:
        read(raw, most_bytes=MOST)
    except ValueError:
        return


def test_an_event_of_something_else_is_kept_as_an_event_alone() -> None:
    data: dict[str, Any] = {"connector": "crm", "state": "open"}
    raw = {"type": "breaker.changed", "id": "b1", "time": "2026-11-20T09:00:00Z", "data": data}
    found = read(json.dumps(raw).encode(), most_bytes=MOST)
    assert (found.call, found.letter) == (None, None)
    assert found.event is not None
    assert (found.event["id"], found.event["call"], json.loads(found.event["data"])) == ("b1", None, data)


def test_words_are_parted_alike_for_what_is_kept_and_what_is_asked() -> None:
    assert words_of("crm.contacts.create: Straße_7, v1:9f2C") == [
        "crm",
        "contacts",
        "create",
        "strasse",
        "7",
        "v1",
        "9f2c",
    ]
    assert searchable(["b a", None, "A c"]) == " b a c"

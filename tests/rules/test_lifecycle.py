"""The states of a call: one table, nothing unreachable, nothing after the end."""

import ast
from itertools import product
from pathlib import Path

import pytest

from schemas.lifecycle import DEAD_LETTERED, TERMINAL, TRANSITIONS, CallState, move

GATEWAY = Path(__file__).parents[2] / "gateway"


def reachable(start: CallState) -> set[CallState]:
    """Return every state that `move` leads to from `start`."""
    seen, front = {start}, {start}
    while front:
        front = {move(before, after) for before in front for after in TRANSITIONS[before]} - seen
        seen |= front
    return seen


def test_the_table_knows_every_state() -> None:
    assert set(TRANSITIONS) == set(CallState)


def test_every_state_is_reached_from_the_first_one() -> None:
    assert reachable(CallState.PENDING) == set(CallState)


def test_every_call_can_come_to_an_end() -> None:
    assert all(reachable(state) & TERMINAL for state in CallState)


def test_nothing_follows_an_end_but_undoing_what_was_completed() -> None:
    arrows = {(before, after) for before in TERMINAL for after in TRANSITIONS[before]}
    assert arrows == {(CallState.COMPLETED, CallState.ROLLED_BACK)}


def test_a_state_changes_along_the_arrows_of_the_table_alone() -> None:
    for before, after in product(CallState, CallState):
        if after in TRANSITIONS[before]:
            assert move(before, after) is after
        else:
            with pytest.raises(ValueError, match=f"from {before} to {after}"):
                move(before, after)


def test_a_call_that_waits_for_a_review_or_a_retry_is_never_with_a_worker_at_its_end() -> None:
    assert CallState.COMPLETED not in TRANSITIONS[CallState.RETRYING] | TRANSITIONS[CallState.WAITING_FOR_REVIEW]


def test_the_states_that_leave_a_letter_are_ends() -> None:
    assert {CallState.FAILED, CallState.ESCALATED} == DEAD_LETTERED
    assert DEAD_LETTERED <= TERMINAL


def test_the_gateway_asks_the_table_before_it_changes_a_state() -> None:
    users = [
        path
        for path in GATEWAY.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "schemas.lifecycle"
        if any(alias.name == "move" for alias in node.names)
    ]
    assert users

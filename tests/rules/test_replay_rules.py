"""What a replay may do with a letter, over every effect and class; how it goes on; and patches."""

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from dlq import patch
from dlq.replay import MOST_GENERATIONS, Action, Case, judge
from gateway.policy.replay_steps import AT_ONCE, Done, Send, Stop, canary_of, pace, step
from schemas.effect import REPEATABLE, Effect, OperationClass
from schemas.letter import FINAL, LetterStatus
from schemas.replay import Progress, ReplayItem, ReplayPlan, ReplayState
from schemas.tool_call import ToolCallData, derived_key, replay_key
from tests.examples import operation

CASE = Case(
    letter="L",
    status=LetterStatus.OPEN,
    effect=Effect.NOT_EXECUTED,
    op_class=OperationClass.UNSAFE,
    declared=OperationClass.UNSAFE,
    window_open=True,
    generation=0,
    patched=False,
    answered=True,
)

EVERY = [
    (effect, before, now, window, answered)
    for effect, before, now in itertools.product(Effect, OperationClass, OperationClass)
    for window, answered in itertools.product((True, False), repeat=2)
]


@pytest.mark.parametrize(("effect", "before", "now", "window", "answered"), EVERY)
def test_only_what_cannot_be_a_second_effect_is_called(
    effect: Effect,
    before: OperationClass,
    now: OperationClass,
    window: bool,  # noqa: FBT001
    answered: bool,  # noqa: FBT001
) -> None:
    case = replace(CASE, effect=effect, op_class=before, declared=now, window_open=window, answered=answered)
    verdict = judge(case)
    repeatable = {before, now} <= REPEATABLE and window
    if effect is Effect.EXECUTED:
        assert verdict.action is (Action.REVALIDATE if answered else Action.EXCLUDED)
    elif effect is Effect.UNKNOWN and before is now is OperationClass.VERIFIABLE:
        assert verdict.action is Action.READ_BACK
    elif effect is Effect.UNKNOWN:
        assert verdict.action is (Action.CALL if repeatable else Action.EXCLUDED)
    else:
        assert verdict.action is Action.CALL
    if verdict.action is Action.EXCLUDED:
        assert verdict.next_step.startswith("sluice dlq resolve L")
        assert not set(verdict.next_step) & set("|<>;&"), "what is pasted into a shell runs as one command"


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize(
    "changes",
    [
        {"op_class": None},
        {"declared": None},
        {"generation": MOST_GENERATIONS},
        {"obstacle": "no such connection"},
        {"status": LetterStatus.REPLAYING},
        *({"status": status} for status in FINAL),
    ],
    ids=str,
)
def test_what_stands_in_the_way_leaves_a_letter_alone_whatever_its_effect(effect: Effect, changes: Any) -> None:
    verdict = judge(replace(CASE, effect=effect, **changes))
    assert verdict.action is Action.EXCLUDED
    assert verdict.reason
    assert verdict.next_step.startswith("sluice ")


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("op_class", OperationClass)
def test_only_what_did_not_run_may_be_patched(effect: Effect, op_class: OperationClass) -> None:
    verdict = judge(replace(CASE, effect=effect, op_class=op_class, declared=op_class, patched=True))
    assert (verdict.action is Action.CALL) == (effect is Effect.NOT_EXECUTED)
    assert verdict.action is not Action.REVALIDATE


@pytest.mark.parametrize("source", ["replay", "\x1freplay", "%1Freplay"])
def test_no_event_can_take_the_place_of_a_replay(source: str) -> None:
    assert derived_key(source, "L\x1f1") != replay_key("L", 1)
    assert derived_key(source, "replay\x1fL\x1f1") != replay_key("L", 1)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"tool": "t", "arguments": {}, "idempotency_key": replay_key("L", 1)}, ToolCallData)


def item(letter: str, action: Action = Action.CALL) -> ReplayItem:
    return ReplayItem(
        letter=letter,
        record_sha256="",
        action=action,
        reason="",
        next_step="",
        effect=Effect.NOT_EXECUTED,
        op_class=OperationClass.UNSAFE,
        tool="crm.contacts.create",
        lane="crm|-|contacts.create",
        fingerprint="v1:a",
    )


ITEMS = [item(str(number)) for number in range(100)]
PLAN = ReplayPlan(
    id="R",
    state=ReplayState.RUNNING,
    by="me",
    created_us=0,
    selection="",
    canary=5,
    share=0.5,
    stop_after=3,
)


def progress(*groups: tuple[int, str, str | None]) -> dict[str, Progress]:
    """Return progress of the first letters: so many of a status with a fingerprint, and so on."""
    made = [Progress(status=status, fingerprint=mark) for count, status, mark in groups for _ in range(count)]
    return {str(number): one for number, one in enumerate(made)}


OK, FAILED, UNDER_WAY = "replayed_ok", "replayed_failed", "replaying"


def sent(found: object) -> int:
    assert isinstance(found, Send)
    return len(found.items)


def test_the_canary_goes_first_and_alone() -> None:
    assert sent(step(PLAN, ITEMS, {})) == 5
    assert sent(step(PLAN, ITEMS, progress((2, UNDER_WAY, None)))) == 3
    assert sent(step(PLAN, ITEMS, progress((4, OK, None), (1, UNDER_WAY, None)))) == 0
    assert sent(step(PLAN, ITEMS, progress((5, OK, None)))) == AT_ONCE
    assert sent(step(PLAN, ITEMS, progress((6, OK, None), (10, UNDER_WAY, None)))) == AT_ONCE - 10


@pytest.mark.parametrize(
    ("groups", "stops"),
    [
        ([(1, FAILED, "v1:b"), (4, OK, None)], False),
        ([(2, FAILED, "v1:b"), (3, OK, None)], True),
        ([(5, OK, None), (3, FAILED, "v1:a")], False),
        ([(5, OK, None), (4, FAILED, "v1:a")], True),
        ([(5, OK, None), (20, FAILED, "v1:b")], False),
    ],
)
def test_a_replay_stops_when_the_same_fails_again_or_the_canary_dies(
    groups: list[Any],
    stops: bool,  # noqa: FBT001
) -> None:
    assert isinstance(step(PLAN, ITEMS, progress(*groups)), Stop) == stops


def test_what_was_forgiven_does_not_stop_it_again() -> None:
    forgiving = msgspec.structs.replace(PLAN, forgiven=4)
    assert sent(step(forgiving, ITEMS, progress((4, FAILED, "v1:a"), (1, OK, None)))) == AT_ONCE
    assert isinstance(step(forgiving, ITEMS, progress((8, FAILED, "v1:a"))), Stop)


def test_a_replay_is_done_when_all_have_ended_and_those_left_out_are_not_waited_for() -> None:
    left_out = [item("x", Action.EXCLUDED)]
    assert step(PLAN, left_out, {}) == Done()
    assert step(PLAN, [*left_out, ITEMS[0]], progress((1, OK, None))) == Done()
    assert step(PLAN, [*left_out, ITEMS[0]], progress((1, UNDER_WAY, None))) == Send(())


def test_the_canary_is_a_tenth_and_five_at_least() -> None:
    assert [canary_of(count) for count in (0, 3, 5, 40, 60, 1000)] == [0, 3, 5, 5, 6, 100]


def test_the_pace_is_a_share_of_the_tightest_rate() -> None:
    assert pace(operation(), 0.5) == 25.0
    assert pace(None, 1.0) == 50.0


DOCUMENT = {"a": [1, 2], "b": {"c~d": 1, "e/f": None}, "t": True}


@pytest.mark.parametrize(
    ("steps", "made"),
    [
        ([{"op": "add", "path": "/x", "value": 1}], {**DOCUMENT, "x": 1}),
        ([{"op": "add", "path": "/a/0", "value": 0}], {**DOCUMENT, "a": [0, 1, 2]}),
        ([{"op": "add", "path": "/a/-", "value": 3}], {**DOCUMENT, "a": [1, 2, 3]}),
        ([{"op": "add", "path": "/a/2", "value": 3}], {**DOCUMENT, "a": [1, 2, 3]}),
        ([{"op": "remove", "path": "/a/0"}], {**DOCUMENT, "a": [2]}),
        ([{"op": "replace", "path": "/b/c~0d", "value": 2}], {**DOCUMENT, "b": {"c~d": 2, "e/f": None}}),
        ([{"op": "replace", "path": "/b/e~1f", "value": 2}], {**DOCUMENT, "b": {"c~d": 1, "e/f": 2}}),
        ([{"op": "move", "from": "/a/0", "path": "/x"}], {**DOCUMENT, "a": [2], "x": 1}),
        ([{"op": "copy", "from": "/a", "path": "/x"}], {**DOCUMENT, "x": [1, 2]}),
        ([{"op": "replace", "path": "", "value": {"n": 1}}], {"n": 1}),
        ([{"op": "test", "path": "/b", "value": {"e/f": None, "c~d": 1}}], DOCUMENT),
    ],
)
def test_a_patch_does_what_rfc_6902_says(steps: list[dict[str, Any]], made: Any) -> None:
    assert patch.apply(DOCUMENT, steps) == made
    assert DOCUMENT == {"a": [1, 2], "b": {"c~d": 1, "e/f": None}, "t": True}


@pytest.mark.parametrize(
    "step_",
    [
        {},
        {"op": "add", "path": "x", "value": 1},
        {"op": "add", "path": "/a/9", "value": 1},
        {"op": "add", "path": "/a/01", "value": 1},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "add", "path": "/x"},
        {"op": "remove", "path": "/x"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "/x", "value": 1},
        {"op": "replace", "path": "/a/-", "value": 1},
        {"op": "move", "from": "/b", "path": "/b/x"},
        {"op": "test", "path": "/t", "value": 1},
        {"op": "test", "path": "/a", "value": [2, 1]},
        {"op": "merge", "path": "/a"},
        {"op": "add", "path": "/t/x", "value": 1},
    ],
    ids=str,
)
def test_a_patch_that_does_not_fit_is_refused_whole(step_: dict[str, Any]) -> None:
    with pytest.raises(patch.Unpatchable, match="operation 1"):
        patch.apply(DOCUMENT, [{"op": "add", "path": "/y", "value": 1}, step_])

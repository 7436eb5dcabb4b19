"""How a letter stands whose standing was lost: never surer than what can be proved."""

from typing import Any

import msgspec
import pytest

from gateway.policy.restoring import LONG_PAST_US, WHO, Restored, Told, link, restored
from gateway.ports.reindex import Change
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect, OperationClass
from schemas.letter import LetterStatus
from schemas.tool_call import scope_of
from tests import journal_examples, letter_examples
from tests.letter_examples import ID, NOW

ENTRY = "1763629200000-0"
OPEN, REPLAYING, DISCARDED = LetterStatus.OPEN, LetterStatus.REPLAYING, LetterStatus.DISCARDED


class _Event(msgspec.Struct):
    data: DeadLetter


def record(
    effect: Effect = Effect.NOT_EXECUTED, op_class: OperationClass = OperationClass.UNSAFE, **lifecycle: Any
) -> DeadLetter:
    made = msgspec.json.decode(journal_examples.letter(ID, NOW, op_class=op_class), type=_Event).data
    return msgspec.structs.replace(
        made,
        effect=msgspec.structs.replace(made.effect, state=effect),
        lifecycle=msgspec.structs.replace(
            made.lifecycle, **{"root_id": None, "parent_id": None, "generation": 0} | lifecycle
        ),
    )


def change(status: LetterStatus, **more: Any) -> Change:
    return Change(letter=ID, status=status, at="2026-11-20T09:00:01Z", **more)


def stands(of: DeadLetter, *changes: Change, journalled: Change | None = None, whole: bool = True) -> Restored:
    chain = {of.identity.dl_id: link(of)}
    return restored(of, ENTRY, Told(changes=changes, journalled=journalled, whole=whole), chain)


def test_a_letter_of_which_nothing_else_was_told_is_open_as_it_was_written() -> None:
    found = stands(record())
    assert found.doubted is None
    assert found.state is not None
    call = letter_examples.call()
    scope = scope_of(call.tenant, call.tool, call.connection, call.key)
    assert scope == call.scope
    assert (found.state.status, found.state.effect, found.state.entry) == (OPEN, Effect.NOT_EXECUTED, ENTRY)
    assert (found.state.kept, found.state.first_us, found.state.count) == ([[scope, call.id]], 0, 0)


def test_what_is_told_to_be_over_is_over_with_what_is_known_of_it() -> None:
    for journalled, changes in (
        (change(DISCARDED, by="me", reason="old"), ()),
        (None, (change(OPEN), change(DISCARDED))),
    ):
        found = stands(record(), *changes, journalled=journalled, whole=False)
        assert found.over is not None
        assert (found.over.status, found.over.entry, found.state) == (DISCARDED, ENTRY, None)
    done = stands(record(Effect.UNKNOWN), change(LetterStatus.RESOLVED, effect=Effect.EXECUTED))
    assert done.over is not None
    assert done.over.effect is Effect.EXECUTED


def test_a_decision_about_the_effect_holds() -> None:
    found = stands(record(Effect.UNKNOWN), change(OPEN, effect=Effect.NOT_EXECUTED, by="me"))
    assert found.state is not None
    assert (found.state.effect, found.state.by, found.doubted) == (Effect.NOT_EXECUTED, "me", None)


def test_without_proof_that_nothing_became_of_it_its_effect_is_unknown() -> None:
    found = stands(record(), whole=False)
    assert found.doubted is not None
    assert (found.doubted.effect, found.doubted.by) == (Effect.UNKNOWN, WHO)
    assert found.doubted.first_us > LONG_PAST_US  # so that a window of its key can be judged
    assert stands(record(), journalled=change(OPEN), whole=False).doubted is None


def test_a_doubt_is_not_forgotten_by_asking_again_and_ends_with_a_decision() -> None:
    doubt = change(OPEN, by=WHO, effect=Effect.UNKNOWN)
    assert stands(record(), doubt).doubted is not None
    assert stands(record(), journalled=doubt, whole=False).doubted is not None
    decided = stands(record(), doubt, change(OPEN, by="me", effect=Effect.NOT_EXECUTED))
    assert decided.doubted is None


@pytest.mark.parametrize(
    ("effect", "op_class"), [(Effect.EXECUTED, OperationClass.UNSAFE), (Effect.NOT_EXECUTED, OperationClass.SAFE)]
)
def test_doubt_changes_nothing_of_what_ran_or_does_no_harm(effect: Effect, op_class: OperationClass) -> None:
    found = stands(record(effect, op_class), whole=False)
    assert found.doubted is not None
    assert found.doubted.effect is effect


def test_one_that_was_taken_waits_for_its_call_and_is_in_doubt_without_it() -> None:
    found = stands(record(), change(REPLAYING, replay="R1", replayed_by="C2", by="me"))
    assert found.state is not None
    assert found.doubted is not None
    assert (found.call, found.state.status, found.state.replay, found.state.count) == ("C2", REPLAYING, "R1", 1)
    assert (found.doubted.status, found.doubted.effect, found.doubted.replay) == (OPEN, Effect.UNKNOWN, None)
    back = stands(record(), change(REPLAYING, replayed_by="C2"), change(OPEN))
    assert back.state is not None
    assert (back.doubted, back.state.status, back.state.count) == (None, OPEN, 1)


def test_a_chain_remembers_the_keys_before_it_and_the_first_time_of_all() -> None:
    parent = record(Effect.UNKNOWN)
    parent = msgspec.structs.replace(
        parent,
        identity=msgspec.structs.replace(parent.identity, dl_id="P", call="C0"),
        failure=msgspec.structs.replace(parent.failure, first_at="2026-11-19T00:00:00Z"),
    )
    child = record(Effect.UNKNOWN, root_id="P", parent_id="P", generation=1)
    told = Told(changes=(), journalled=None, whole=True)
    whole = restored(child, ENTRY, told, {"P": link(parent), ID: link(child)}).state
    assert whole is not None
    assert [call for _, call in whole.kept] == [letter_examples.call().id, "C0"]
    assert whole.first_us == link(parent).first_us < link(child).first_us
    alone = restored(child, ENTRY, told, {ID: link(child)}).state
    assert alone is not None
    assert (alone.first_us, alone.root, alone.generation) == (LONG_PAST_US, "P", 1)

"""How a letter stands of which Redis does not know it any more, from its record and from what was told of it. Pure.

Who restores must not make a second effect: what nobody can prove to have stayed as it was is in doubt, and a person decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from gateway.ports.reindex import Change
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect, OperationClass
from schemas.letter import FINAL, LetterState, LetterStatus, Over
from schemas.moment import microseconds
from schemas.tool_call import scope_of

WHO = "reindex"
"""Who says that a letter is in doubt."""
DOUBT = "how it stood was lost, and what became of it is not told any more"

LONG_PAST_US = 1
"""When a vendor first saw a key of which that is not known: too long ago for any window."""

_KNOWN = (Effect.UNKNOWN, Effect.NOT_EXECUTED, Effect.EXECUTED)
"""By how much is known: a decision only ever knows more than the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a letter adds to its chain."""

    kept: list[str] | None
    """Idempotency scope and call; None: it was no call."""
    parent: str | None
    first_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is told of a letter beside its record."""

    changes: Sequence[Change]
    """Those that lie in the topic, oldest first."""
    journalled: Change | None
    """How the journal has it."""
    whole: bool
    """The topic of events reaches back to before the letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """How it stands; field names are those of `restore.lua`."""

    over: Over | None = None
    state: LetterState | None = None
    call: str | None = None
    doubted: LetterState | None = None


def link(record: DeadLetter) -> Link:
    """Return what a letter adds to its chain."""
    identity, operation, key = record.identity, record.operation, record.idempotency.key
    kept = None
    if identity.call is not None and operation.tool is not None and key is not None:
        kept = [scope_of(identity.tenant_id, operation.tool, operation.connection, key), identity.call]
    first_us = microseconds(datetime.fromisoformat(record.failure.first_at))
    return Link(kept=kept, parent=record.lifecycle.parent_id, first_us=first_us)


def restored(record: DeadLetter, entry: str, told: Told, chain: Mapping[str, Link]) -> Restored:
    """Say how a letter stands that lies at `entry`; `chain` has it and the letters before it, as far as they lie there still."""
    said = [*([told.journalled] if told.journalled else []), *told.changes]
    ends = [one for one in said if one.status in FINAL]
    if ends:
        return Restored(over=_over(ends[-1], _effect(record, said), entry))
    newest = said[-1] if said else None
    state = _state(record, entry, _effect(record, said), chain)
    state = msgspec.structs.replace(state, count=sum(one.status is LetterStatus.REPLAYING for one in told.changes))
    if newest is not None and newest.status is LetterStatus.REPLAYING:
        taken = msgspec.structs.replace(state, status=newest.status, replay=newest.replay, by=newest.by)
        return Restored(state=taken, call=newest.replayed_by, doubted=_doubted(state, record, chain))
    certain = (told.whole or told.journalled is not None) and not (newest is not None and newest.by == WHO)
    found = Restored(state=msgspec.structs.replace(state, by=newest.by if newest else None))
    return found if certain else replace(found, doubted=_doubted(state, record, chain))


def _over(end: Change, effect: Effect, entry: str) -> Over:
    at_us = microseconds(datetime.fromisoformat(end.at))
    return Over(
        status=end.status, effect=effect, by=end.by, reason=end.reason, replay=end.replay, at_us=at_us, entry=entry
    )


def _effect(record: DeadLetter, said: Sequence[Change]) -> Effect:
    return max([record.effect.state, *(one.effect for one in said if one.effect)], key=_KNOWN.index)


def _state(record: DeadLetter, entry: str, effect: Effect, chain: Mapping[str, Link]) -> LetterState:
    lifecycle, letter = record.lifecycle, record.identity.dl_id
    return LetterState(
        status=LetterStatus.OPEN,
        call=record.identity.call,
        effect=effect,
        op_class=record.operation.op_class,
        root=lifecycle.root_id or letter,
        generation=lifecycle.generation,
        first_us=0 if effect is Effect.NOT_EXECUTED else _first_us(letter, chain),
        fingerprint=record.grouping.fingerprint,
        kept=[one.kept for one in _links(letter, chain) if one.kept is not None],
        entry=entry,
    )


def _doubted(state: LetterState, record: DeadLetter, chain: Mapping[str, Link]) -> LetterState:
    """Return it as nobody knows whether it ran meanwhile; what ran has run, and a read does no harm."""
    harmless = state.op_class in {None, OperationClass.SAFE} or state.effect is Effect.EXECUTED
    effect = state.effect if harmless else Effect.UNKNOWN
    first_us = state.first_us if harmless else _first_us(record.identity.dl_id, chain)
    return msgspec.structs.replace(state, effect=effect, first_us=first_us, by=WHO)


def _links(letter: str, chain: Mapping[str, Link]) -> list[Link]:
    found, at = [], chain.get(letter)
    while at is not None:
        found.append(at)
        at = chain.get(at.parent) if at.parent is not None else None
    return found


def _first_us(letter: str, chain: Mapping[str, Link]) -> int:
    links = _links(letter, chain)
    # A letter before it that lies there no longer may have been sent whenever.
    return LONG_PAST_US if not links or links[-1].parent is not None else min(one.first_us for one in links)

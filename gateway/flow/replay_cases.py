"""One letter before its replay: its record, how it stands, what may be done with it now, and the order that would do it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from connectors.catalog import Catalog
from dlq import opening, patch
from dlq.difference import Difference, differences
from dlq.keys import UnsealError
from dlq.opening import Unseal
from dlq.replay import Action, Case, Verdict, exhausted, judge
from gateway.policy import replays
from gateway.policy.admission import Refuse, admit
from gateway.policy.plans import reserved
from gateway.policy.replays import Order
from gateway.policy.windows import window_open
from gateway.ports import Ambient
from gateway.ports.letters import LetterBook, LetterIndex
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect
from schemas.letter import LetterState, LetterStatus
from schemas.moment import microseconds
from schemas.replay import ReplayItem
from schemas.tool_call import ToolCall

Steps = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a replay wants of a letter."""

    replay: str
    by: str
    deadline: str | None = None
    patch: Steps | None = None
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A letter, what is done with it, and how."""

    record: DeadLetter
    state: LetterState | None
    verdict: Verdict
    order: Order | None
    """None where nothing is done."""
    call: ToolCall | None
    """As it would be taken in now."""
    costs: dict[str, int] | None = None
    """What it takes of weighted limits."""

    def item(self) -> ReplayItem:
        """Return it as a replay keeps it."""
        record, verdict = self.record, self.verdict
        return ReplayItem(
            letter=record.identity.dl_id,
            record_sha256=record.integrity.record_sha256,
            action=verdict.action,
            reason=verdict.reason,
            next_step=verdict.next_step,
            effect=self.state.effect if self.state else record.effect.state,
            op_class=record.operation.op_class,
            tool=record.operation.tool,
            lane=self.call.lane if self.call else None,
            fingerprint=record.grouping.fingerprint,
            costs=self.costs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the cases are made from."""

    index: LetterIndex
    book: LetterBook
    unseal: Unseal
    catalog: Callable[[], Catalog]
    ambient: Ambient


class Cases:
    """Looks at letters; changes nothing."""

    def __init__(self, parts: Parts) -> None:
        """See `Parts`."""
        self._parts = parts

    async def look(self, letter: str, wish: Wish) -> Looked | None:
        """Judge a letter as things are now; None: there is no such letter."""
        record = await self._parts.index.record(letter)
        if record is None:
            return None
        (state,) = await self._parts.book.states([letter])
        return await asyncio.to_thread(self._looked, record, state, wish)

    def _looked(self, record: DeadLetter, state: LetterState | None, wish: Wish) -> Looked:
        case = self._case(record, state, wish)
        verdict = judge(case)
        if verdict.action is Action.EXCLUDED:
            return Looked(record=record, state=state, verdict=verdict, order=None, call=None)
        assert state is not None  # noqa: S101 - a letter that is over is left alone
        try:
            order = self._order(record, state, wish, ran=verdict.action is Action.REVALIDATE)
        except (UnsealError, patch.Unpatchable, msgspec.MsgspecError) as error:
            return self._hindered(record, state, case, str(error))
        found = self._taken_in(order)
        if isinstance(found, str):
            return self._hindered(record, state, case, found)
        operation = self._parts.catalog().operation(found.tool)
        costs = reserved(operation, found.arguments) if operation else None
        return Looked(record=record, state=state, verdict=verdict, order=order, call=found, costs=costs)

    async def changes(self, letter: str, steps: Steps) -> list[Difference]:
        """Return what a patch changes of a letter's arguments; nothing where that cannot be told any more."""
        record = await self._parts.index.record(letter)
        return [] if record is None else await asyncio.to_thread(self._changes, record, steps)

    def _changes(self, record: DeadLetter, steps: Steps) -> list[Difference]:
        try:
            before = opening.arguments(record, self._parts.unseal)
            return differences(before, patch.apply(before, steps))
        except (UnsealError, patch.Unpatchable, msgspec.MsgspecError):
            return []

    def _hindered(self, record: DeadLetter, state: LetterState, case: Case, obstacle: str) -> Looked:
        verdict = judge(replace(case, obstacle=obstacle))
        return Looked(record=record, state=state, verdict=verdict, order=None, call=None)

    def _case(self, record: DeadLetter, state: LetterState | None, wish: Wish) -> Case:
        operation = self._parts.catalog().operation(record.operation.tool or "")
        now_us = microseconds(self._parts.ambient.now())
        return Case(
            letter=record.identity.dl_id,
            status=state.status if state else LetterStatus.CLOSED,
            effect=state.effect if state else record.effect.state,
            op_class=record.operation.op_class,
            declared=operation.op_class if operation else None,
            window_open=window_open(operation, state.first_us if state else 0, now_us),
            generation=record.lifecycle.generation,
            patched=wish.patch is not None,
            overridden=wish.override is not None,
            answered=opening.answered(record),
        )

    def _order(self, record: DeadLetter, state: LetterState, wish: Wish, *, ran: bool) -> Order:
        identity, operation, unseal = record.identity, record.operation, self._parts.unseal
        arguments = opening.arguments(record, unseal)
        if wish.patch is not None:
            arguments = _object(patch.apply(arguments, wish.patch))
        return Order(
            letter=identity.dl_id,
            replay=wish.replay,
            by=wish.by,
            call=identity.call or "",
            tool=operation.tool or "",
            connection=operation.connection,
            arguments=arguments,
            agent=identity.agent_id or "",
            session=identity.session_id,
            event=identity.event_id or identity.dl_id,
            vendor_key=record.idempotency.vendor_key or "",
            root=record.lifecycle.root_id or identity.dl_id,
            generation=record.lifecycle.generation + 1,
            count=state.count + 1,
            effect=state.effect,
            first_us=0 if state.effect is Effect.NOT_EXECUTED else state.first_us,
            patched=wish.patch is not None,
            ran=opening.answer(record, unseal) if ran else None,
            deadline=wish.deadline,
            override=wish.override if exhausted(record.lifecycle.generation) else None,
        )

    def _taken_in(self, order: Order) -> ToolCall | str:
        """Ask intake's own rules; a text says why it would be refused."""
        ambient = self._parts.ambient
        request = replays.incoming(order, call=order.letter, now=ambient.now(), traceparent="")
        found = admit(request, self._parts.catalog(), deadline_s=1.0)
        if isinstance(found, Refuse):
            return found.message
        if found.call.connection != order.connection:
            return f"its connection was {order.connection}, and would be {found.call.connection} now"
        return found.call


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise patch.Unpatchable("arguments are one JSON object")
    return value

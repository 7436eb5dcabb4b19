"""Running replays: one process at a time, step by step from what is kept, so that whoever takes over goes on where it was.

A letter is taken and its call stored in one step by the queue, which also checks that the replay still runs: nothing here can send
a letter twice, whoever else runs it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from dlq.keys import UnsealError
from dlq.redaction import Sealer
from gateway.flow.replay_cases import Cases, Wish
from gateway.flow.replay_control import ENDED, opened_patch
from gateway.policy.admission import Refuse
from gateway.policy.replay_steps import Done, Send, Stop, step
from gateway.policy.replays import Order
from gateway.ports import Ambient, Answer, Barred, Duplicate
from gateway.ports.replays import Move, ReplayStore
from schemas.failure import FACTS
from schemas.letter import LetterStatus
from schemas.moment import microseconds
from schemas.replay import ReplayItem, ReplayPlan, ReplayState

log = structlog.get_logger()

RUNNER = "the runner"
KEPT_PLANNED_S, KEPT_ENDED_S = 86_400, 7 * 86_400
"""How long a plan that nobody started, and a replay that is over, can be looked at."""

BURST_S = 1.0
"""How much of a pace may be made up for after a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the runner works with."""

    store: ReplayStore
    cases: Cases
    seal: Sealer
    take_in: Callable[[Order], Awaitable[Answer | Refuse]]
    pace: Callable[[str, float], float]
    """Letters a second of a tool, at a share."""
    ambient: Ambient
    lease_ms: int
    """How long the others wait for a runner that gives no sign of life."""


class ReplayRunner:
    """The use-case; one instance a process, of which one at a time does something."""

    def __init__(self, parts: Parts) -> None:
        """See `Parts`."""
        self._parts = parts
        self._items: dict[str, list[ReplayItem]] = {}
        self._purse: dict[tuple[str, str], tuple[float, float]] = {}
        """By replay and lane: when it was looked at, and how many letters may go."""

    async def tick(self) -> None:
        """Move every running replay one step on, if it is this process's turn."""
        store, ambient = self._parts.store, self._parts.ambient
        # Most of the time there is none: then nobody needs to lead.
        if not await store.plans() or not await store.lead(ambient.worker, self._parts.lease_ms):
            self._items.clear()
            self._purse.clear()
            return
        for plan in await store.plans():
            if plan.state is ReplayState.RUNNING:
                await self._advance(plan)
            elif self._stale(plan):
                await store.forget(plan.id)

    async def _advance(self, plan: ReplayPlan) -> None:
        items = self._items.get(plan.id)
        if items is None:
            items = self._items[plan.id] = await self._parts.store.items(plan.id)
        match step(plan, items, await self._parts.store.progress(plan.id)):
            case Stop(why=why):
                await self._end(plan, ReplayState.STOPPED, why)
            case Done():
                await self._end(plan, ReplayState.DONE, "")
            case Send(items=chosen):
                await self._send(plan, chosen)

    async def _end(self, plan: ReplayPlan, to: ReplayState, why: str) -> None:
        answer = await self._parts.store.move(
            plan.id, Move(given=frozenset({ReplayState.RUNNING}), to=to, by=RUNNER, why=why)
        )
        if answer is not None and answer[0]:
            log.warning("replay.moved", replay=plan.id, state=to, who=RUNNER, reason=why)
            self._items.pop(plan.id, None)

    async def _send(self, plan: ReplayPlan, chosen: tuple[ReplayItem, ...]) -> None:
        try:
            patch = opened_patch(plan, self._parts.seal)
        except UnsealError as error:
            await self._end(plan, ReplayState.STOPPED, str(error))
            return
        wish = Wish(replay=plan.id, by=plan.by, deadline=plan.deadline, patch=patch, override=plan.override)
        for item in chosen:
            if not self._affords(plan, item):
                continue
            if not await self._sent(plan, item, wish):
                return

    async def _sent(self, plan: ReplayPlan, item: ReplayItem, wish: Wish) -> bool:
        """Replay one letter, or write down why not; false: nothing more is to be sent now."""
        looked = await self._parts.cases.look(item.letter, wish)
        if looked is None or looked.record.integrity.record_sha256 != item.record_sha256:
            return await self._skip(plan, item, "its record is not as it was when the replay was planned")
        if looked.state is not None and looked.state.replay == plan.id and looked.state.status != LetterStatus.OPEN:
            return True
        if looked.order is None or looked.verdict.action != item.action:
            return await self._skip(plan, item, looked.verdict.reason)
        return await self._answered(plan, item, await self._parts.take_in(looked.order))

    async def _answered(self, plan: ReplayPlan, item: ReplayItem, answer: Answer | Refuse) -> bool:
        match answer:
            case Barred(because="halted"):
                return False
            case Barred(because=because):
                return await self._skip(plan, item, f"it is {because}")
            case Duplicate(call=call):
                return await self._skip(plan, item, f"call {call} replays it")
            case Refuse(failure=failure) if FACTS[failure].retryable:
                return False
            case Refuse(message=message):
                return await self._skip(plan, item, message)
            case _:
                return True

    async def _skip(self, plan: ReplayPlan, item: ReplayItem, why: str) -> bool:
        await self._parts.store.skip(plan.id, item.letter, why)
        return True

    def _affords(self, plan: ReplayPlan, item: ReplayItem) -> bool:
        """Take one letter's worth of its lane's pace, if there is."""
        now_s, key = self._parts.ambient.monotonic(), (plan.id, item.lane or "")
        per_s = self._parts.pace(item.tool or "", plan.share)
        looked_s, left = self._purse.get(key, (now_s, 1.0))
        left = min(left + (now_s - looked_s) * per_s, max(1.0, per_s * BURST_S))
        self._purse[key] = (now_s, left - 1.0 if left >= 1.0 else left)
        return left >= 1.0

    def _stale(self, plan: ReplayPlan) -> bool:
        age_s = (microseconds(self._parts.ambient.now()) - max(plan.created_us, plan.changed_us)) / 1_000_000
        if plan.state is ReplayState.PLANNED:
            return age_s > KEPT_PLANNED_S
        return plan.state in ENDED and age_s > KEPT_ENDED_S

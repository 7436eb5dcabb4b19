"""A replay as people see it: what is done with which letters and why, how far it is, and what stands in its way. Pure."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from connectors.declared import Operation
from dlq.difference import Difference, shapes
from dlq.replay import Action
from gateway.flow.holds import told
from gateway.flow.replay_control import Replay
from gateway.policy.replay_steps import pace
from gateway.ports import LaneState
from schemas.moment import moment, stamp
from schemas.replay import Progress, ReplayItem, ReplayPlan, ReplayState

MOST_SHOWN = 500
"""Letters of a replay that are listed one by one."""

SAMPLES = 3


class ActionView(msgspec.Struct, frozen=True, kw_only=True):
    """Letters with which the same is done for the same reason."""

    action: str
    reason: str
    next: str
    effect: str
    tool: str | None
    letters: int
    examples: list[str]


class ReplayLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of a lane take of one of its limits."""

    limit: str
    most: str
    """As it is declared."""
    takes: int
    used: int | None
    """Of it now, by whomever; null where nobody has called yet."""


class ChangeView(msgspec.Struct, frozen=True, kw_only=True):
    """One place that a patch changes; of its values the kind and size, or, opened, the values."""

    pointer: str
    change: str
    before: Any
    after: Any


class ReplayLane(msgspec.Struct, frozen=True, kw_only=True):
    """One lane that the calls go through, as it is now."""

    lane: str
    letters: int
    pace_per_s: float
    waiting: int
    held: str | None
    eta_s: float
    limits: list[ReplayLimit]


class ReplayLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One letter and how far it is."""

    letter: str
    action: str
    status: str
    call: str | None
    successor: str | None
    why: str | None


class ReplayBrief(msgspec.Struct, frozen=True, kw_only=True):
    """One replay in a list."""

    replay: str
    state: ReplayState
    by: str
    created: str
    selection: Any
    progress: dict[str, int]
    why: str


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """One replay whole; `letters` are the first ones only."""

    replay: str
    state: ReplayState
    by: str
    created: str
    said_by: str
    why: str
    selection: Any
    patched: bool
    override: str | None
    total: int
    calls: int
    revalidations: int
    read_backs: int
    excluded: int
    canary: int
    share: float
    stop_after: int
    deadline: str | None
    eta_s: float
    actions: list[ActionView]
    changes: list[ChangeView]
    lanes: list[ReplayLane]
    progress: dict[str, int]
    letters: list[ReplayLetter]


def view(one: Replay, operation: Callable[[str], Operation | None], *, opened: bool = False) -> ReplayView:
    """Render one; `operation` finds what is declared of a tool; `opened` shows what a patch changes in clear."""
    plan, actions = one.plan, Counter(item.action for item in one.items)
    lanes = _lanes(one, operation)
    return ReplayView(
        replay=plan.id,
        state=plan.state,
        by=plan.by,
        created=stamp(moment(plan.created_us)),
        said_by=plan.said_by,
        why=plan.why,
        selection=json.loads(plan.selection or "null"),
        patched=plan.patch is not None,
        override=plan.override,
        total=len(one.items),
        calls=actions[Action.CALL],
        revalidations=actions[Action.REVALIDATE],
        read_backs=actions[Action.READ_BACK],
        excluded=actions[Action.EXCLUDED],
        canary=plan.canary,
        share=plan.share,
        stop_after=plan.stop_after,
        deadline=plan.deadline,
        eta_s=max((lane.eta_s for lane in lanes), default=0.0),
        actions=_actions(one.items),
        changes=[_change(change if opened else shapes(change)) for change in one.changes],
        lanes=lanes,
        progress=sums(one.items, one.progress),
        letters=[_letter(item, one.progress.get(item.letter)) for item in one.items[:MOST_SHOWN]],
    )


def brief(plan: ReplayPlan, progress: Mapping[str, Progress]) -> ReplayBrief:
    """Render one for a list."""
    return ReplayBrief(
        replay=plan.id,
        state=plan.state,
        by=plan.by,
        created=stamp(moment(plan.created_us)),
        selection=json.loads(plan.selection or "null"),
        progress=dict(Counter(one.status for one in progress.values())),
        why=plan.why,
    )


def sums(items: list[ReplayItem], progress: Mapping[str, Progress]) -> dict[str, int]:
    """Count letters by how far they are."""
    chosen = [item for item in items if item.action != Action.EXCLUDED]
    counted = Counter(progress[item.letter].status if item.letter in progress else "waiting" for item in chosen)
    names = ("waiting", "replaying", "replayed_ok", "replayed_failed", "open", "skipped")
    return {name: counted[name] for name in names}


def _actions(items: list[ReplayItem]) -> list[ActionView]:
    alike: dict[tuple[str, ...], list[ReplayItem]] = {}
    for item in items:
        alike.setdefault((item.action, item.reason, item.effect, item.tool or ""), []).append(item)
    shown = [
        ActionView(
            action=some[0].action,
            reason=some[0].reason,
            next=some[0].next_step,
            effect=some[0].effect,
            tool=some[0].tool,
            letters=len(some),
            examples=[item.letter for item in some[:SAMPLES]],
        )
        for some in alike.values()
    ]
    return sorted(shown, key=lambda one: (one.action, -one.letters))


def _lanes(one: Replay, operation: Callable[[str], Operation | None]) -> list[ReplayLane]:
    left = [item for item in one.items if item.action != Action.EXCLUDED and item.letter not in one.progress]
    tools = {item.lane: item.tool or "" for item in one.items}
    found = ((state, operation(tools[state.lane])) for state in one.lanes)
    return [_lane(state, declared, left, one.plan.share) for state, declared in found]


def _lane(state: LaneState, declared: Operation | None, left: list[ReplayItem], share: float) -> ReplayLane:
    mine, per_s = [item for item in left if item.lane == state.lane], pace(declared, share)
    sent = [item for item in mine if item.action != Action.REVALIDATE]
    used = {budget.name: budget.used for budget in state.budgets}
    return ReplayLane(
        lane=state.lane,
        letters=len(mine),
        pace_per_s=round(per_s, 3),
        waiting=state.waiting,
        held=told(state.held) if state.held else None,
        eta_s=round(len(mine) / per_s, 1),
        limits=[
            ReplayLimit(
                limit=use.limit.name,
                most=use.limit.text,
                takes=sum((item.costs or {}).get(use.limit.name, use.cost) for item in sent),
                used=used.get(use.limit.name),
            )
            for use in (declared.uses if declared else ())
        ],
    )


def _change(one: Difference) -> ChangeView:
    return ChangeView(pointer=one.pointer, change=one.change, before=one.before, after=one.after)


def _letter(item: ReplayItem, progress: Progress | None) -> ReplayLetter:
    waiting = "excluded" if item.action == Action.EXCLUDED else "waiting"
    return ReplayLetter(
        letter=item.letter,
        action=item.action,
        status=progress.status if progress else waiting,
        call=progress.call if progress else None,
        successor=progress.letter if progress else None,
        why=(progress.why if progress else None) or (item.reason if waiting == "excluded" else None),
    )

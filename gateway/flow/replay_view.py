"""A replay as people see it: what is done with which letters and why, how far it is, and what stands in its way. Pure."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dlq.replay import Action
from gateway.flow.holds import told
from gateway.flow.replay_control import Replay
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


class ReplayLane(msgspec.Struct, frozen=True, kw_only=True):
    """One lane that the calls go through, as it is now."""

    lane: str
    letters: int
    pace_per_s: float
    waiting: int
    held: str | None
    eta_s: float


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
    lanes: list[ReplayLane]
    progress: dict[str, int]
    letters: list[ReplayLetter]


def view(one: Replay, pace: Callable[[str, float], float]) -> ReplayView:
    """Render one; `pace` gives the letters a second of a tool at a share."""
    plan, actions = one.plan, Counter(item.action for item in one.items)
    lanes = _lanes(one, pace)
    return ReplayView(
        replay=plan.id,
        state=plan.state,
        by=plan.by,
        created=stamp(moment(plan.created_us)),
        said_by=plan.said_by,
        why=plan.why,
        selection=json.loads(plan.selection or "null"),
        patched=plan.patch is not None,
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


def _lanes(one: Replay, pace: Callable[[str, float], float]) -> list[ReplayLane]:
    left = [item for item in one.items if item.action != Action.EXCLUDED and item.letter not in one.progress]
    counted, tools = Counter(item.lane for item in left), {item.lane: item.tool or "" for item in one.items}
    return [_lane(state, counted[state.lane], pace(tools[state.lane], one.plan.share)) for state in one.lanes]


def _lane(state: LaneState, letters: int, per_s: float) -> ReplayLane:
    return ReplayLane(
        lane=state.lane,
        letters=letters,
        pace_per_s=round(per_s, 3),
        waiting=state.waiting,
        held=told(state.held) if state.held else None,
        eta_s=round(letters / per_s, 1),
    )


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

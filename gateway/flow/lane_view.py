"""How a lane is shown to people and agents: what waits, why, for how long, how full its limits are. Pure.

An Agent shares its lanes with others: it is shown what binds it, and no count of calls that are not only its own.
"""

import msgspec

from gateway.flow.holds import gate_target, told, who_acts
from gateway.ports import Budget, Held, LaneState
from schemas.lifecycle import HoldReason
from schemas.moment import moment, stamp


class LaneHold(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps the next call of a lane from starting."""

    reason: HoldReason
    limit: str | None
    """The limit that binds; null when a gate is closed."""
    detail: str
    until: str | None
    """Null: until somebody acts."""
    action: str


class GateView(msgspec.Struct, frozen=True, kw_only=True):
    """What is closed over lanes of a connector, whether calls wait in them or not."""

    target: str
    """As the commands take it."""
    connector: str
    tool: str | None
    """Null: all of the connector."""
    connection: str | None
    """Null: all of them."""
    hold: LaneHold


class LimitView(msgspec.Struct, frozen=True, kw_only=True):
    """How one limit stands."""

    limit: str
    kind: str
    most: int
    window_s: float | None
    """Null: `most` is how many may run at the same time."""
    used: int | None
    """Null for an Agent: others' calls count too."""
    learned: int | None
    """The lower limit that the vendor was seen to apply."""


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """How one lane stands; counts are null for an Agent."""

    lane: str
    tool: str
    connector: str
    connection: str | None
    live: int | None
    """Calls that have not ended."""
    waiting: int | None
    under_way_or_delayed: int | None
    """With a worker, or in back-off."""
    oldest_s: float | None
    """How long the first in the lane has waited."""
    eta_s: float | None
    """When the last of those that wait will start; null when nobody can tell."""
    hold: LaneHold | None
    limits: list[LimitView]


def view(state: LaneState, now_us: int, *, whole: bool) -> LaneView:
    """Show a lane; `whole` to those who may see every agent's calls."""
    connector, connection, operation = state.lane.split("|", 2)
    return LaneView(
        lane=state.lane,
        tool=f"{connector}.{operation}",
        connector=connector,
        connection=None if connection == "-" else connection,
        live=state.live if whole else None,
        waiting=state.waiting if whole else None,
        under_way_or_delayed=max(0, state.live - state.waiting) if whole else None,
        oldest_s=_seconds(state.oldest_us, now_us, -1) if whole else None,
        eta_s=_seconds(state.eta_us, now_us, 1),
        hold=_hold(held, state.lane) if (held := holding(state)) else None,
        limits=[_limit(budget, whole=whole) for budget in state.budgets],
    )


def gate(held: Held) -> GateView:
    """Show a gate that is closed."""
    connector, connection, operation = (*held.key.removeprefix("@").split("|", 2), "", "")[:3]
    return GateView(
        target=gate_target(held.key),
        connector=connector,
        tool=f"{connector}.{operation}" if operation else None,
        connection=None if connection in {"", "-"} else connection,
        hold=_hold(held, f"{connector}|{connection}|{operation}"),
    )


def holding(state: LaneState) -> Held | None:
    """Return what holds a lane; a limit that is used up holds nothing where nothing waits."""
    held = state.held
    return None if held is None or (held.limit is not None and state.waiting == 0) else held


def _hold(held: Held, lane: str) -> LaneHold:
    return LaneHold(
        reason=held.reason,
        limit=held.limit,
        detail=told(held),
        until=None if held.until_us is None else stamp(moment(held.until_us)),
        action=who_acts(held, lane),
    )


def _limit(budget: Budget, *, whole: bool) -> LimitView:
    return LimitView(
        limit=budget.name,
        kind=budget.kind,
        most=budget.most,
        window_s=budget.window_us / 1_000_000 if budget.window_us else None,
        used=budget.used if whole else None,
        learned=budget.learned,
    )


def _seconds(at_us: int | None, now_us: int, sign: int) -> float | None:
    return None if at_us is None else round(max(0, sign * (at_us - now_us)) / 1_000_000, 3)

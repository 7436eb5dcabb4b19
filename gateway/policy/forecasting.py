"""When the calls of each step of a plan will have ended: likely, and at worst in nineteen of twenty. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.declared import Connection, Operation, Use
from gateway.policy.evidence import Evidence
from gateway.policy.facts import Forecast, LaneFacts
from gateway.policy.makespan import Queue, Supply, ends
from schemas.preflight import Eta, Step

ASSUMED_S = (0.1, 0.5)
"""Response times, likely and at worst, where none was seen lately."""

WORKERS = "workers"
"""Key of what the workers themselves have room for."""

_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One step as the limits see it."""

    step: Step
    facts: LaneFacts

    @property
    def costs(self) -> dict[str, int]:
        """What each call takes of which limit."""
        return costs(self.facts.operation, self.facts.connection, self.step.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Calls of another lane that wait for the same limits."""

    lane: str
    waiting: int
    costs: Mapping[str, int]


def declared(operation: Operation, connection: Connection | None) -> list[tuple[Use, Supply]]:
    """Return the limits that an operation uses, with nothing taken of them."""
    name = connection.name if connection else None
    found = []
    for use in operation.uses:
        limit, key = use.limit, use.limit.instance(operation.connector, name, operation.name)
        found.append(
            (use, Supply(key=key, name=limit.name, kind=limit.kind, most=limit.most, window_us=limit.window_us))
        )
    return found


def costs(
    operation: Operation, connection: Connection | None, arguments: Mapping[str, object] | None
) -> dict[str, int]:
    """Return what one call takes of each limit; where only its arguments tell, and there are none, the least it can be."""
    return {supply.key: _cost(use, arguments) for use, supply in declared(operation, connection)}


def forecasts(demands: Sequence[Demand], crowd: Sequence[Crowd], supplies: Mapping[str, Supply]) -> list[Forecast]:
    """Foretell every step, if all their calls are published now."""
    empty = {key: one.empty() for key, one in supplies.items()}
    assumed_us = int(ASSUMED_S[0] * _US)
    others = [
        Queue(name=one.lane, calls=one.waiting, costs=_known(one.costs, supplies), response_us=assumed_us)
        for one in crowd
    ]
    paces = _paces(demands, empty)
    alone = [ends(_queues(demands, worst=worst, alone=True), (), empty) for worst in (False, True)]
    real = [ends(_queues(demands, worst=worst, alone=False), others, supplies) for worst in (False, True)]
    return [
        Forecast(
            eta=None if _blocked(demand.facts) else _eta(real[0][index], real[1][index]),
            alone=_eta(alone[0][index], alone[1][index]),
            known=demand.facts.seen.mean_s is not None,
            tightest=_tightest(demand, paces, empty),
        )
        for index, demand in enumerate(demands)
    ]


def _queues(demands: Sequence[Demand], *, worst: bool, alone: bool) -> list[Queue]:
    queues, lanes = [], set[str]()
    for demand in demands:
        facts, count = demand.facts, demand.step.count
        # Sessions take turns: a new one waits for as many calls as it has itself, and at worst for all.
        ahead = (
            0
            if alone or facts.state.lane in lanes
            else facts.state.waiting
            if worst
            else min(facts.state.waiting, count)
        )
        lanes.add(facts.state.lane)
        opens_s = 0.0 if alone else max((shut.left_s or 0.0 for shut in facts.closings), default=0.0)
        queues.append(
            Queue(
                name=facts.state.lane,
                calls=count + (round(count * _failing(facts.seen)) if worst and not alone else 0),
                costs={**demand.costs, WORKERS: 1},
                response_us=_response_us(facts, worst=worst),
                ahead=ahead,
                opens_us=round(opens_s * _US),
            )
        )
    return queues


def _response_us(facts: LaneFacts, *, worst: bool) -> int:
    seen = facts.seen
    likely = ASSUMED_S[worst] if seen.mean_s is None else seen.mean_s + (seen.deviation_s if worst else 0.0)
    return max(1, round(min(likely, facts.operation.timeout_s) * _US))


def _failing(seen: Evidence) -> float:
    calls = seen.ok + seen.failed
    return min(1.0, seen.failed / calls) if calls else 0.0


def _blocked(facts: LaneFacts) -> bool:
    return any(shut.left_s is None for shut in facts.closings) or not facts.room.workers


def _paces(demands: Sequence[Demand], empty: Mapping[str, Supply]) -> dict[str, int]:
    """Return how long each limit takes for all that the plan wants of it."""
    slots, response_us = Counter[str](), Counter[str]()
    for one in demands:
        for key, cost in one.costs.items():
            slots[key] += one.step.count * cost
            response_us[key] = max(response_us[key], _response_us(one.facts, worst=False))
    queues = {
        key: Queue(name=key, calls=calls, costs={key: 1}, response_us=response_us[key]) for key, calls in slots.items()
    }
    return {key: ends([queue], (), {key: empty[key]})[0] for key, queue in queues.items() if queue.calls}


def _tightest(demand: Demand, paces: Mapping[str, int], empty: Mapping[str, Supply]) -> str:
    """Say which limit of a step takes longest for what the whole plan wants of it."""
    facts = demand.facts
    found = [
        (paces[supply.key], f"limit {use.limit.name} ({use.limit.text}{_learned(supply, empty[supply.key])})")
        for use, supply in declared(facts.operation, facts.connection)
        if supply.key in paces
    ]
    return max(found)[1] if found else ""


def _learned(declared_: Supply, real: Supply) -> str:
    return f", {real.most} as the vendor showed" if real.most < declared_.most else ""


def _known(wanted: Mapping[str, int], supplies: Mapping[str, Supply]) -> dict[str, int]:
    return {key: cost for key, cost in wanted.items() if key in supplies}


def _cost(use: Use, arguments: Mapping[str, object] | None) -> int:
    if use.estimate is None:
        return use.cost
    try:
        return use.cost_of(arguments or {})
    except ValueError:
        return max(1, use.cost)


def _eta(likely_us: int, worst_us: int) -> Eta:
    return Eta(p50=round(likely_us / _US, 3), p95=round(max(likely_us, worst_us) / _US, 3))

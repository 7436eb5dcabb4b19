"""Preflight: may this plan start? Evidence first, then a verdict with reasons; nothing is reserved, and no call is made for it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

import msgspec

from connectors.catalog import Catalog, Unknown
from gateway.flow.gathering import Gathering, Pair, lane_of, pairs_of
from gateway.flow.refusals import Unfit
from gateway.policy import scope, verdicts
from gateway.policy.facts import Forecast, LaneFacts, Times
from gateway.policy.forecasting import WORKERS, Crowd, Demand, costs, declared, forecasts
from gateway.policy.makespan import Supply
from schemas.moment import stamp
from schemas.preflight import Check, Plan, Report, Step, StepReport

SIBLINGS = 64
"""Other lanes that share a limit and are looked at; the fullest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the gateway is set to."""

    concurrency: int
    """Calls that a worker has under way at most."""
    waits_s: float
    """How long a call may wait to start that names no deadline."""
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class _Found:
    """A step whose tool and connection were found and may be used, or the check that says why not."""

    step: Step
    pair: Pair | None
    refused: Check | None


class Preflight:
    """The use-case; one instance a process."""

    def __init__(self, gathering: Gathering, terms: Terms) -> None:
        """`gathering` is shared with health."""
        self._gathering = gathering
        self._terms = terms

    async def judge(self, plan: Plan, agent: str, *, whole: bool = True) -> Report:
        """Judge a plan for an agent, `whole` with sums of everybody's calls; raises `Unfit`, and what Redis does when it is away."""
        now = self._terms.now()
        deadline_s = _deadline_s(plan, now)
        catalog = self._gathering.sources.catalog()
        found = [_find(step, agent, catalog) for step in plan.steps]
        open_ = [one for one in found if one.pair is not None]
        facts = await self._gathering.look([one.pair for one in open_ if one.pair is not None], whole=whole)
        demands = [Demand(step=one.step, facts=fact) for one, fact in zip(open_, facts, strict=True)]
        told = await self._forecasts(demands)
        eta = verdicts.last(one.eta for one in told)
        times = self._times(plan, told, deadline_s)
        facts = await self._gathering.with_reach(await self._gathering.with_tokens(facts, times.needs_s))
        steps = _steps(found, facts, told, times)
        return Report(
            verdict=verdicts.plan_verdict(steps),
            valid_until=stamp(now + timedelta(seconds=verdicts.valid_s(facts))),
            plan_hash=verdicts.plan_hash(plan, agent),
            eta_s=eta,
            steps=steps,
        )

    def _times(self, plan: Plan, told: Sequence[Forecast], deadline_s: float | None) -> Times:
        given = [one for one in (plan.duration_s, deadline_s) if one is not None]
        lasts = max((one.eta.p95 if one.eta else one.alone.p95 for one in told), default=0.0)
        return Times(
            needs_s=max(plan.duration_s or 0.0, lasts),
            horizon_s=max(0.0, min(given, default=self._terms.waits_s)),
            deadline_s=deadline_s,
            waits_s=self._terms.waits_s,
        )

    async def _forecasts(self, demands: Sequence[Demand]) -> list[Forecast]:
        if not demands:
            return []
        memory = self._gathering.sources.memory
        limits = {
            supply.key: supply for one in demands for _, supply in declared(one.facts.operation, one.facts.connection)
        }
        supplies = {one.key: one for one in await memory.supplies(list(limits.values()))}
        supplies[WORKERS] = Supply(key=WORKERS, name=WORKERS, kind="concurrency", most=self._terms.concurrency)
        crowd = await self._crowd(demands, limits)
        # Of hundreds of steps it takes a second, in which others want to be answered.
        return await asyncio.to_thread(forecasts, demands, crowd, supplies)

    async def _crowd(self, demands: Sequence[Demand], limits: dict[str, Supply]) -> list[Crowd]:
        """Return the lanes that share limits with the plan and have calls that wait."""
        own = {one.facts.state.lane for one in demands}
        connectors = {one.facts.operation.connector for one in demands}
        pairs = pairs_of(self._gathering.sources.catalog(), lambda tool: tool.partition(".")[0] in connectors)
        shared = {lane_of(*pair): taken for pair in pairs if (taken := costs(*pair, None)).keys() & limits}
        names = [lane for lane in shared if lane not in own]
        live = await self._gathering.sources.memory.live(names)
        fullest = sorted(
            (lane for lane, calls in zip(names, live, strict=True) if calls), key=lambda lane: -live[names.index(lane)]
        )
        states = await self._gathering.states(fullest[:SIBLINGS])
        return [
            Crowd(lane=name, waiting=one.waiting, costs=shared[name]) for name, one in states.items() if one.waiting
        ]


def _find(step: Step, agent: str, catalog: Catalog) -> _Found:
    operation = catalog.operation(step.tool)
    if operation is None:
        near = get_close_matches(step.tool, list(catalog.operations), n=1)
        hint = f'; did you mean "{near[0]}"?' if near else "."
        return _refused(step, f'There is no tool "{step.tool}"{hint}', "sluice connectors ls")
    scopes = {name: declared_.allow for name, declared_ in catalog.agents.items()}
    if not scope.allowed(agent, step.tool, scopes):
        action = f"Ask an operator to add {step.tool} to the agent's `allow` list; then: sluice connectors lint"
        return _refused(step, f'Agent "{agent}" may not call "{step.tool}".', action)
    connection = catalog.connection_for(operation, step.connection)
    if isinstance(connection, Unknown):
        return _refused(step, f"{connection.message[:1].upper()}{connection.message[1:]}.", "sluice connections ls")
    return _Found(step, (operation, connection), None)


def _refused(step: Step, trouble: str, action: str) -> _Found:
    return _Found(step, None, verdicts.scope(step, trouble, action))


def _steps(
    found: Sequence[_Found], facts: Sequence[LaneFacts], told: Sequence[Forecast], times: Times
) -> list[StepReport]:
    known, steps = iter(zip(facts, told, strict=True)), []
    for one in found:
        if one.refused is not None:
            steps.append(verdicts.report(one.step, None, [one.refused]))
            continue
        fact, forecast = next(known)
        checks = verdicts.step_checks(one.step, fact, forecast, times)
        steps.append(verdicts.report(one.step, fact.connection, checks))
    return steps


def _deadline_s(plan: Plan, now: datetime) -> float | None:
    if plan.deadline is None:
        return None
    try:
        at = msgspec.convert(plan.deadline, datetime)
        return (at - now).total_seconds()
    except (msgspec.ValidationError, TypeError, OverflowError):
        raise Unfit("/deadline", f"it is not an RFC 3339 time with a zone: {plan.deadline[:64]!r}") from None

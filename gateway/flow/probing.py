"""Active probes: an ordinary call of a declared, safe operation, made when nothing has shown lately how a vendor is.

At most one in `every` for each origin, over the whole fleet. What it finds is written down by the worker that makes it, as for every call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

import structlog

from connectors.breaking.standing import State, phase
from connectors.catalog import Catalog
from connectors.manifest.model import Health
from gateway.flow.gathering import Memory, lane_of
from gateway.policy.facts import LaneFacts
from gateway.ports import Ambient
from schemas.moment import stamp
from schemas.tool_call import ToolCallData

log = structlog.get_logger()

AGENT: Final = "sluice-health"
"""Whose call a probe is: a flow of its own, so that it takes its turn among others."""

PATIENCE_S: Final = 3.0
"""How long somebody who asks waits for what a probe finds; the next one who asks is told."""

LOOK_S: Final = 0.1

DEADLINE_S: Final = 30.0


class Intake(Protocol):
    """What makes a call; it judges no scope, since nobody's is asked."""

    async def from_http(self, data: ToolCallData, *, agent: str, key: str | None, traceparent: str | None) -> object:
        """Take in one call."""


class Prober:
    """One process's."""

    def __init__(
        self, intake: Intake, memory: Memory, workers: Callable[[], Awaitable[bool]], ambient: Ambient
    ) -> None:
        """`memory` is where evidence shows."""
        self._intake = intake
        self._memory = memory
        self._workers = workers
        self._ambient = ambient

    async def probe(self, facts: Sequence[LaneFacts], catalog: Catalog) -> bool:
        """Probe origins of which nothing is known lately; true when there may be more to see now."""
        due = [
            (one, health)
            for one in _origins(facts)
            if (health := declared(one, catalog)) and _stale(one, facts, health)
        ]
        if not due or not await self._workers():
            return False
        lanes = [lane for one, health in due if (lane := await self._probed(one, health))]
        if lanes:
            await self._seen(lanes)
        return bool(lanes)

    async def _probed(self, facts: LaneFacts, health: Health) -> str | None:
        operation, connection = facts.operation, facts.connection
        if not await self._memory.may_probe(f"{operation.connector}|{facts.origin}", health.every.seconds):
            return None
        data = ToolCallData(
            tool=f"{operation.connector}.{health.probe}",
            arguments=health.arguments,
            connection=connection.name if connection else None,
            deadline=stamp(self._ambient.now() + timedelta(seconds=DEADLINE_S)),
        )
        await self._intake.from_http(data, agent=AGENT, key=None, traceparent=None)
        log.info("health.probed", tool=data.tool, connection=data.connection)
        return lane_of(replace(operation, name=health.probe, tool=data.tool), connection)

    async def _seen(self, lanes: Sequence[str]) -> None:
        """Wait until every probe has shown something, but not for long."""
        until_s = self._ambient.monotonic() + PATIENCE_S
        while self._ambient.monotonic() < until_s:
            await asyncio.sleep(LOOK_S)
            found = (await self._memory.seen(lanes)).values()
            if all(one.age_s is not None and one.age_s < PATIENCE_S for one in found):
                return


def declared(facts: LaneFacts, catalog: Catalog) -> Health | None:
    """Return how a connector wants to be probed."""
    connector = catalog.connectors.get(facts.operation.connector)
    health = connector.manifest.health if connector else None
    return health if health and f"{facts.operation.connector}.{health.probe}" in catalog.operations else None


def _origins(facts: Sequence[LaneFacts]) -> list[LaneFacts]:
    """Return one lane of each origin that calls may reach now: behind a closed gate a probe would only wait."""
    found: dict[tuple[str, str], LaneFacts] = {}
    for one in facts:
        shut = one.standing is not None and phase(one.standing, one.now_s) is not State.CLOSED
        if not (one.closings or shut or (one.connection and one.connection.missing)):
            found.setdefault((one.operation.connector, one.origin), one)
    return list(found.values())


def _stale(one: LaneFacts, facts: Sequence[LaneFacts], health: Health) -> bool:
    same = (one.operation.connector, one.origin)
    ages = [other.seen.age_s for other in facts if (other.operation.connector, other.origin) == same]
    return min((age for age in ages if age is not None), default=float("inf")) > health.every.seconds

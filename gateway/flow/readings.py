"""What a scrape is told of limits and credentials: the share of each rate limit that is free, and when tokens end. Only reads."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from connectors.catalog import Catalog
from gateway.flow.connection_control import ConnectionView
from gateway.flow.gathering import lane_of, pairs_of
from gateway.ports import Budget, LaneState

MOST: Final = 64
"""Lanes that are looked at in one scrape: enough for every limit of some dozen connections."""


class Surveyed(Protocol):
    """What is needed of the lanes."""

    async def survey(self, lanes: Sequence[str]) -> tuple[int, list[LaneState]]:
        """Look at lanes: the time of the look, and how each stands."""


class Connections(Protocol):
    """What is needed of the credentials."""

    async def ls(self) -> list[ConnectionView]:
        """List every connection."""


async def budgets(lanes: Surveyed, catalog: Catalog) -> dict[tuple[str, str], float]:
    """Return the free share of each rate limit, by connector and limit; of several connections or operations the least."""
    found: dict[tuple[str, str], float] = {}
    wanted = list(_lanes(catalog))
    if not wanted:
        return found
    _, states = await lanes.survey(wanted)
    for state in states:
        for budget in state.budgets:
            if budget.window_us:
                named = state.lane.partition("|")[0], budget.name
                found[named] = min(found.get(named, 1.0), free(budget))
    return found


def free(budget: Budget) -> float:
    """Return the share of a limit that is free; what a vendor was seen to allow counts where it is less."""
    most = min(budget.most, budget.learned or budget.most)
    return round(min(1.0, max(0.0, 1 - budget.used / most)), 4) if most > 0 else 0.0


async def expiries(connections: Connections, now: Callable[[], float]) -> dict[tuple[str, str], float]:
    """Return when the token of each connection ends, in Unix time; those that have none are left out."""
    views, at = await connections.ls(), now()
    return {
        (connector, name): float(math.floor(at + view.expires_s))
        for view in views
        if view.expires_s is not None
        for connector, _, name in [view.connection.partition("/")]
    }


def _lanes(catalog: Catalog) -> Iterator[str]:
    """Yield lanes until every limit was named, `MOST` at most: a lane tells of each limit that its calls take."""
    seen: set[str] = set()
    looked = 0
    for operation, connection in pairs_of(catalog, lambda _: True):
        name = connection.name if connection else None
        keys = {use.limit.instance(operation.connector, name, operation.name) for use in operation.uses}
        if keys - seen and looked < MOST:
            seen |= keys
            looked += 1
            yield lane_of(operation, connection)

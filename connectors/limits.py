"""Named budgets, and what one call takes of them, as the manifests declare both. Pure values, no counting here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from connectors.rates.bodies import pointed

MOST_SHOWN = 999_999_999
"""The most that a rate can hold; a larger cost is not repeated in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A budget shared by every worker."""

    name: str
    per: Literal["connector", "connection", "operation"]
    kind: Literal["strict", "soft", "concurrency"]
    most: int
    """N: per window, or at once."""
    window_us: int
    """W in microseconds; 0 for a concurrency."""
    text: str
    """As written: `10/s`; for a concurrency `4 at once`."""

    def instance(self, connector: str, connection: str | None, operation: str) -> str:
        """Return the key of the budget that a call shares with others.

        The number of parts tells the scopes apart, so that no operation can meet a connection of its name. A limit per
        operation is shared by all connections: the stricter reading.
        """
        match self.per:
            case "connector":
                return f"{connector}|{self.name}"
            case "connection":
                return f"{connector}|{connection or '-'}|{self.name}"
            case "operation":
                return f"{connector}||{operation}|{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one call of an operation takes of a limit: reserved before it starts, settled when its response tells more."""

    limit: Limit
    cost: int = 1
    """Fixed; with `estimate`: what is added to it."""
    estimate: str | None = None
    """JSON pointer (RFC 6901) into the arguments: the most that the call may cost."""
    actual: str | None = None
    """JSON pointer into the response: what it did cost."""

    def cost_of(self, arguments: Mapping[str, Any]) -> int:
        """Return what a call with these arguments reserves, rounded up.

        Raises ValueError, with a sentence for the caller, when they hold no usable estimate, and when the cost is more than
        the limit holds: such a call would wait for ever.
        """
        if self.estimate is None:
            return self.cost
        found = pointed(arguments, self.estimate)
        if found is None:
            raise ValueError(f"the estimate of its cost for limit {self.limit.name} is missing")
        estimate = _amount(found)
        if estimate is None:
            raise ValueError(f"the estimate of its cost for limit {self.limit.name} must be a number, 0 or more")
        cost = estimate + self.cost
        if cost > self.limit.most:
            shown = cost if cost <= MOST_SHOWN else f"more than {MOST_SHOWN}"
            raise ValueError(f"it costs {shown} of limit {self.limit.name}, which holds {self.limit.text}")
        return cost

    def actual_of(self, result: Any) -> int | None:
        """Return what the response says the call did cost, rounded up; None when it does not say, and the reservation is kept.

        Never more than the limit holds: all of it is gone then, and more cannot be counted.
        """
        told = None if self.actual is None else _amount(pointed(result, self.actual))
        return None if told is None else min(told, self.limit.most)


def at_once(concurrency: int) -> str:
    """Return how a concurrency is spoken of."""
    return f"{concurrency} at once"


def _amount(value: Any) -> int | None:
    """Return a finite number of at least 0, rounded up. In JSON, true is not 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.ceil(value) if 0 <= value < math.inf else None

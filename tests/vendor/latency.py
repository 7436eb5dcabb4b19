"""How long an answer takes: the shapes that vendors' response times have. Pure; the dice are the caller's."""

import math
from enum import StrEnum
from random import Random

import msgspec


class Shape(StrEnum):
    CONSTANT = "constant"  # always the median
    LOGNORMAL = "lognormal"  # most around the median, some a few times slower
    PARETO = "pareto"  # a heavy tail: a few are many times slower, up to `cap`


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A distribution of response times, by its median in seconds."""

    shape: Shape = Shape.CONSTANT
    median: float
    sigma: float = 0.5
    """Lognormal: the standard deviation of the logarithm."""
    alpha: float = 1.5
    """Pareto: the smaller, the heavier the tail; at 2 and below the variance is infinite but for the cap."""
    cap: float = 60.0
    """No answer takes longer, in seconds."""

    def __post_init__(self) -> None:
        if not (self.median >= 0 and self.sigma >= 0 and self.alpha > 0 and self.cap >= 0):
            raise ValueError("median, sigma and cap are 0 or more, alpha is more than 0")

    def draw(self, dice: Random) -> float:
        """Return one response time, in seconds."""
        return min(self.median * self._factor(dice), self.cap)

    def _factor(self, dice: Random) -> float:
        match self.shape:
            case Shape.CONSTANT:
                return 1.0
            case Shape.LOGNORMAL:
                return math.exp(dice.gauss(0.0, self.sigma))
            case Shape.PARETO:
                return 2 ** (-1 / self.alpha) * dice.paretovariate(self.alpha)

"""What a connector's manifest says about its vendor's headers and bodies, where the built-in table does not do.

Header names are in lower case, paths are JSON pointers (RFC 6901).
"""

from dataclasses import dataclass, field
from typing import Any

from connectors.rates.units import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRule:
    """The headers that speak of one budget; each None is a header that does not exist."""

    limit: str | None = None
    """The declared limit it is."""
    bucket: str = ""
    """The vendor's name for it; a rule with nothing but `bucket` and `limit` names readings of any header."""
    most: str | None = None
    left: str | None = None
    used: str | None = None
    reset: str | None = None
    unit: Unit | None = None
    """Of `reset`; None: by form and magnitude."""
    window_s: float | None = None

    def headers(self) -> tuple[str, ...]:
        return tuple(name for name in (self.most, self.left, self.used, self.reset) if name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """The header that says how long to wait, before the standard ones."""

    header: str
    unit: Unit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRule:
    """An object in the body that reports one budget; `most` to `restore` name its members."""

    path: str
    limit: str | None = None
    most: str | None = None
    left: str | None = None
    used: str | None = None
    restore: str | None = None
    """Units that come back per second: a leaky bucket."""
    window_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottledRule:
    """An answer with this status and this value in its body is a refusal: the call did not run."""

    path: str
    equals: Any
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRules:
    """All of it, of one connector. It wins over the built-in table."""

    headers: tuple[HeaderRule, ...] = ()
    retry_after: RetryRule | None = None
    bodies: tuple[BodyRule, ...] = ()
    throttled: tuple[ThrottledRule, ...] = ()
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    """Every header that a rule reads."""
    buckets: dict[str, str] = field(init=False, repr=False, compare=False)
    """The vendor's name of a budget to the limit it is."""

    def __post_init__(self) -> None:
        names = [name for rule in self.headers for name in rule.headers()]
        if self.retry_after:
            names.append(self.retry_after.header)
        object.__setattr__(self, "names", frozenset(names))
        named = {rule.bucket: rule.limit for rule in self.headers if rule.bucket and rule.limit}
        object.__setattr__(self, "buckets", named)


NO_RULES = RateRules()
"""The built-in table alone."""

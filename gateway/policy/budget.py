"""A retry budget per connector: retries may not multiply the load on a vendor that is already failing. Pure.

A token bucket as in gRPC (A6) and Envoy (`retry_budget`): first attempts pay in, retries draw out, and a small floor of
retries a second is always allowed. An exhausted budget delays a retry; it never ends a call.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetTerms:
    """The bucket's terms."""

    share: float
    """Retries allowed for each first attempt."""
    floor_per_s: float
    """Retries a second that are always allowed."""
    most: float
    """What the bucket holds at most."""
    longest_s: float
    """The longest delay it asks for: an outage must not be paid off long after the vendor is well again."""


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """The bucket of one connector; every step returns the next one."""

    tokens: float
    at_s: float

    def earn(self, terms: BudgetTerms) -> "RetryBudget":
        """Pay in for a first attempt."""
        return RetryBudget(min(terms.most, self.tokens + terms.share), self.at_s)

    def spend(self, now_s: float, terms: BudgetTerms) -> tuple["RetryBudget", float]:
        """Draw one retry; the second value is how long it must wait, 0 when the budget allows it now."""
        earned = self.tokens + max(0.0, now_s - self.at_s) * terms.floor_per_s
        tokens = max(min(terms.most, earned) - 1.0, -terms.longest_s * terms.floor_per_s)
        wait_s = 0.0 if tokens >= 0 else -tokens / terms.floor_per_s
        return RetryBudget(tokens, max(now_s, self.at_s)), wait_s

"""The headers of known vendors: one row per budget, read by one function. A manifest's rules are rows as well.

Some headers say nothing about a budget and stay unread: how near a limit is (Atlassian's NearLimit, Microsoft's
x-ms-throttle-limit-percentage), whom it is for (x-ms-throttle-scope, Discord's Scope), what one call cost (X-Complexity).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from connectors.rates.rules import HeaderRule, RateRules
from connectors.rates.structured import policies
from connectors.rates.units import LONGEST_S, LONGEST_TEXT, Unit, count, wait_s
from schemas.outcome import RateReading


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """Which headers speak of one budget; an empty name is a header that does not exist."""

    bucket: str = ""
    limit: str | None = None
    most: str = ""
    left: str = ""
    used: str = ""
    reset: tuple[str, ...] = ()
    """The first that can be read counts."""
    unit: Unit | None = None
    """Of `reset`; None: by form and magnitude."""
    window_s: float | None = None
    window: str = ""
    window_unit: Unit = Unit.S
    fill: str = ""
    """What comes back in one window: the rate of a bucket that holds `most`."""
    named_by: tuple[str, ...] = ()
    """The headers that hold the budget's name."""

    def headers(self) -> tuple[str, ...]:
        return tuple(name for name in (self.most, self.left, self.used, *self.reset) if name)


def _triple(prefix: str, bucket: str = "") -> Row:
    return Row(bucket=bucket, most=f"{prefix}-limit", left=f"{prefix}-remaining", reset=(f"{prefix}-reset",))


def _role_first(bucket: str) -> Row:
    most, left, reset = (f"x-ratelimit-{role}-{bucket}" for role in ("limit", "remaining", "reset"))
    return Row(bucket=bucket, most=most, left=left, reset=(reset,))


_HUBSPOT: Final = "x-hubspot-ratelimit"
ROWS: Final = (
    # GitHub (Used, Resource), Discord (Reset-After, Bucket), Atlassian (its own servers: Interval-Seconds, FillRate), Envoy.
    replace(
        _triple("x-ratelimit"),
        used="x-ratelimit-used",
        reset=("x-ratelimit-reset-after", "x-ratelimit-reset"),
        window="x-ratelimit-interval-seconds",
        fill="x-ratelimit-fillrate",
        named_by=("x-ratelimit-resource", "x-ratelimit-bucket"),
    ),
    # draft-ietf-httpapi-ratelimit-headers-03 to -06; Microsoft Graph.
    _triple("ratelimit"),
    # X.
    _triple("x-rate-limit"),
    # OpenAI and Azure OpenAI: until full again, as Go prints a duration; Azure writes seconds, and -1 for unknown.
    *map(_role_first, ("requests", "tokens", "tokens_usage_based", "tokens-usage-based")),
    # Anthropic: RFC 3339.
    *(
        _triple(f"anthropic-ratelimit-{bucket}", bucket)
        for bucket in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    # Linear: epoch milliseconds.
    *(_triple(f"x-ratelimit-{bucket}", bucket) for bucket in ("requests", "complexity")),
    # HubSpot: the day ends at the account's midnight, which nobody tells.
    Row(bucket="daily", most=f"{_HUBSPOT}-daily", left=f"{_HUBSPOT}-daily-remaining", window_s=LONGEST_S),
    Row(bucket="secondly", most=f"{_HUBSPOT}-secondly", left=f"{_HUBSPOT}-secondly-remaining", window_s=1.0),
    Row(
        bucket="interval",
        most=f"{_HUBSPOT}-max",
        left=f"{_HUBSPOT}-remaining",
        window=f"{_HUBSPOT}-interval-milliseconds",
        window_unit=Unit.MS,
    ),
)


def _by_header(rows: Iterable[Row]) -> Mapping[str, Row]:
    return MappingProxyType({name: row for row in rows for name in row.headers()})


_KNOWN: Final = _by_header(ROWS)


def header_readings(headers: Mapping[str, str], rules: RateRules, sent: float) -> Iterator[RateReading]:
    """Yield what the headers tell of each budget; `sent` (epoch seconds) is when the vendor wrote them."""
    own, claimed = _own(rules.headers) if rules.headers else ((), frozenset[str]())
    present = [_KNOWN[name] for name in headers if name in _KNOWN and name not in claimed]
    for row in dict.fromkeys((*own, *present)):
        if (reading := _reading(row, headers, sent)) is not None:
            yield reading


@lru_cache(maxsize=1024)
def _own(rules: tuple[HeaderRule, ...]) -> tuple[tuple[Row, ...], frozenset[str]]:
    """Return the rows of a connector's rules, and the headers that no other row may read."""
    rows = tuple(_taken_over(rule) for rule in rules)
    return rows, frozenset(name for row in rows for name in row.headers())


def _taken_over(rule: HeaderRule) -> Row:
    """Return the row of a rule: where it names a header of a known row, the rest of that row stands."""
    known = next((_KNOWN[name] for name in rule.headers() if name in _KNOWN), Row())
    return replace(
        known,
        bucket=rule.bucket or known.bucket,
        limit=rule.limit,
        most=rule.most or known.most,
        left=rule.left or known.left,
        used=rule.used or known.used,
        reset=(rule.reset,) if rule.reset else known.reset,
        unit=rule.unit,
        window_s=rule.window_s or known.window_s,
    )


def _reading(row: Row, headers: Mapping[str, str], sent: float) -> RateReading | None:
    most, window_s = _quota(headers.get(row.most, ""))
    left, used = count(headers.get(row.left)), count(headers.get(row.used))
    if left is None and most is not None and used is not None:
        left = max(most - used, 0)
    waits = (wait_s(headers.get(name), row.unit, sent) for name in row.reset)
    reset_s = next((wait for wait in waits if wait is not None), None)
    if most is None and left is None and reset_s is None:
        return None
    told = wait_s(headers.get(row.window), row.window_unit, sent) if row.window else None
    fill = count(headers.get(row.fill)) if told else None
    return RateReading(
        bucket=_name(row, headers),
        limit_name=row.limit,
        most=fill or most,
        left=left,
        reset_s=reset_s,
        window_s=row.window_s or told or window_s,
    )


def _quota(text: str) -> tuple[int | None, float | None]:
    """Read `100`, and `100, 100;w=60` with the window of the policy that has this quota."""
    if "," not in text and ";" not in text:
        return count(text) or None, None
    first, _, rest = text.partition(",")
    most = count(first.partition(";")[0]) or None
    windows = (policy.window_s for policy in policies(rest) if policy.most == most)
    return most, next(windows, None) if most else None


def _name(row: Row, headers: Mapping[str, str]) -> str:
    told = next((headers[name] for name in row.named_by if name in headers), "")
    return row.bucket or told.strip().lower()[:LONGEST_TEXT]

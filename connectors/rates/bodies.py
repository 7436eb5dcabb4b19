"""What the body of an answer says about limits: declared budgets, declared refusals, and how known vendors refuse.

Works on decoded JSON of any shape. Pure, never raises.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors.rates.rules import BodyRule, ThrottledRule
from connectors.rates.structured import MOST_MEMBERS
from connectors.rates.units import LONGEST_S, LONGEST_TEXT, Unit, count, wait_s
from schemas.outcome import RateReading

SECONDARY_WAIT_S: Final = 60.0
"""GitHub: without a Retry-After, "wait for at least one minute" (docs.github.com, rate limits for the REST API)."""
DAY_QUOTA_WAIT_S: Final = 3600.0
"""A day's quota is not back after the seconds that `RetryInfo` names: it is tried once an hour."""

_REASONS: Final = {
    "ratelimitexceeded": None,
    "userratelimitexceeded": None,
    "dailylimitexceeded": DAY_QUOTA_WAIT_S,
    "request_limit_exceeded": None,
}
# HubSpot's policyName.
_POLICIES: Final = {"secondly": 1.0, "ten_secondly_rolling": 10.0, "daily": LONGEST_S}
# Within Google's quotaId, such as GenerateRequestsPerDayPerProjectPerModel.
_QUOTAS: Final = {"perday": LONGEST_S, "perhour": 3600.0, "perminute": 60.0, "persecond": 1.0}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a 403 or 429 says about a limit in its body."""

    limited: bool = False
    wait_s: float | None = None
    floor_s: float | None = None
    """How long to wait at least when nothing else says how long."""
    readings: tuple[RateReading, ...] = ()


def pointed(value: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901) leads to, None when it leads nowhere."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif (
            isinstance(value, list) and name.isascii() and name.isdigit() and len(name) <= 6 and int(name) < len(value)
        ):
            value = value[int(name)]
        else:
            return None
    return value


def is_throttled(value: Any, status: int, rules: tuple[ThrottledRule, ...]) -> bool:
    """Tell whether the manifest declares this answer a refusal."""
    for rule in rules:
        found = pointed(value, rule.path) if rule.status == status else None
        # In JSON, true is not 1.
        if found is not None and found == rule.equals and isinstance(found, bool) == isinstance(rule.equals, bool):
            return True
    return False


def body_readings(value: Any, rules: tuple[BodyRule, ...]) -> Iterator[RateReading]:
    """Yield the budgets that the manifest declares to be in the body."""
    for rule in rules:
        found = pointed(value, rule.path)
        if isinstance(found, dict) and (reading := _budget(found, rule)) is not None:
            yield reading


def refusal(value: Any) -> Refusal:
    """Read the documented bodies of GitHub, Google, HubSpot and Salesforce."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return Refusal()
    if "secondary rate limit" in _text(value.get("message")):
        return Refusal(limited=True, floor_s=SECONDARY_WAIT_S)
    if (reason := _text(value.get("errorCode"))) in _REASONS:
        return Refusal(limited=True, floor_s=_REASONS[reason])
    if (window_s := _POLICIES.get(_text(value.get("policyName")))) is not None:
        spent = RateReading(bucket=_text(value["policyName"]), left=0, window_s=window_s)
        return Refusal(limited=True, floor_s=min(window_s, DAY_QUOTA_WAIT_S), readings=(spent,))
    error = value.get("error")
    return _google(error) if isinstance(error, dict) else Refusal()


def _budget(found: Mapping[str, Any], rule: BodyRule) -> RateReading | None:
    most, left, used = (count(found.get(name)) if name else None for name in (rule.most, rule.left, rule.used))
    if left is None and most is not None and used is not None:
        left = max(most - used, 0)
    if not most and left is None:
        return None
    reset_s, window_s = None, rule.window_s
    restore = wait_s(found.get(rule.restore), Unit.S, 0.0) if rule.restore else None
    if restore and most:
        window_s = window_s or min(most / restore, LONGEST_S)
        reset_s = None if left is None else min(max(most - left, 0) / restore, LONGEST_S)
    return RateReading(
        bucket=rule.path.rpartition("/")[2].lower()[:LONGEST_TEXT],
        limit_name=rule.limit,
        most=most or None,
        left=left,
        reset_s=reset_s,
        window_s=window_s,
    )


def _google(error: Mapping[str, Any]) -> Refusal:
    """Read google.rpc.Status: RetryInfo, QuotaFailure, and the reasons of older interfaces."""
    details = _objects(error.get("details"))
    reasons = {_text(one.get("reason")) for one in _objects(error.get("errors"))} & set(_REASONS)
    violations = [one for detail in details for one in _objects(detail.get("violations"))]
    readings = tuple(_violated(one) for one in violations[:MOST_MEMBERS] if isinstance(one.get("quotaId"), str))
    waits = [wait_s(detail.get("retryDelay"), Unit.DURATION, 0.0) for detail in details]
    told = next((wait for wait in waits if wait is not None), None)
    floors = [floor for reason in reasons if (floor := _REASONS[reason])]
    if floors or any(reading.window_s == LONGEST_S for reading in readings):
        told = max(told or 0.0, DAY_QUOTA_WAIT_S)
    limited = bool(reasons or readings or told is not None) or error.get("status") == "RESOURCE_EXHAUSTED"
    return Refusal(limited=limited, wait_s=told, readings=readings)


def _violated(violation: Mapping[str, Any]) -> RateReading:
    name = _text(violation["quotaId"])
    window_s = next((seconds for word, seconds in _QUOTAS.items() if word in name), None)
    return RateReading(
        bucket=name[:LONGEST_TEXT], most=count(violation.get("quotaValue")) or None, left=0, window_s=window_s
    )


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value[:MOST_MEMBERS] if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:1024].lower() if isinstance(value, str) else ""

"""`RateLimit` and `RateLimit-Policy` in every generation of the draft, and `name=used/most` lists. Pure, never raises.

draft-ietf-httpapi-ratelimit-headers: -07 `limit=100, remaining=50, reset=5` with the policy `100;w=10`; -08
`default;r=50;t=5`; -09 `"burst";r=50;t=30` with `"burst";q=100;w=60`. A header that is malformed anywhere is ignored
as a whole (RFC 9651 §4.2).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from connectors.rates.units import LONGEST_TEXT, Unit, count, number, wait_s
from schemas.outcome import RateReading

LONGEST_HEADER: Final = 4096
MOST_MEMBERS: Final = 32

_VALUE = r'"(?:[^"\\]|\\.)*"|:[A-Za-z0-9+/=]*:|\?[01]|-?[0-9.]+|[A-Za-z*][A-Za-z0-9_.:/*%+-]*'
_MEMBER = re.compile(rf"[ \t]*(?:(?P<key>[a-z*][a-z0-9_.*-]*)=)?(?P<value>{_VALUE})", re.ASCII)
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*([a-z*][a-z0-9_.*-]*)(?:=({_VALUE}))?", re.ASCII)
_END = re.compile(r"[ \t]*(?:,|$)", re.ASCII)
_USAGE = re.compile(r"(?:([A-Za-z0-9_.-]{1,64})=)?([0-9]{1,15})/([0-9]{1,15})(?:\([^()]*\))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Member:
    """One part between commas."""

    key: str
    value: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a vendor allows in a window; None is what it does not tell."""

    bucket: str
    most: int | None
    window_s: float | None
    counts_requests: bool


def members(text: str) -> list[Member]:
    """Return the members of a structured list, none when it is malformed."""
    found: list[Member] = []
    at = 0
    if len(text) > LONGEST_HEADER:
        return []
    while at < len(text):
        head = _MEMBER.match(text, at)
        if head is None or len(found) == MOST_MEMBERS:
            return []
        at, parameters = head.end(), {}
        while more := _PARAMETER.match(text, at):
            at, parameters[more[1]] = more.end(), more[2] or ""
        end = _END.match(text, at)
        if end is None:
            return []
        at = end.end()
        found.append(Member(head["key"] or "", head["value"], parameters))
    return found


def policies(text: str) -> list[Policy]:
    """Return what a policy header declares; an integer is a quota without a name."""
    found = []
    for member in members(text):
        quota = count(member.value)
        bucket = "" if quota is not None else _bare(member.value)
        most = (count(member.parameters.get("q", "")) if quota is None else quota) or None
        window_s = wait_s(member.parameters.get("w"), Unit.S, 0.0) or None
        unit = _bare(member.parameters.get("qu", "requests"))
        found.append(Policy(bucket, most, window_s, unit == "requests"))
    return found


def draft_readings(policy: str, state: str, named: Mapping[str, str], sent: float) -> Iterator[RateReading]:
    """Yield one reading per budget of the two headers; what does not count requests only where `named` knows it."""
    declared = policies(policy)
    strange = {one.bucket for one in declared if not one.counts_requests and one.bucket not in named}
    told = [one for one in _states(members(state), sent) if one.bucket not in strange]
    spoken = set()
    for reading in told:
        match = _policy_of(reading, declared)
        spoken.add(match)
        yield reading if match is None else _with(reading, match)
    for one in declared:
        if one not in spoken and one.bucket not in strange and one.most is not None:
            yield RateReading(bucket=one.bucket, most=one.most, window_s=one.window_s)


def usage_readings(text: str, window_s: float | None = None) -> Iterator[RateReading]:
    """Yield `32/40` and `api-usage=25/5000; per-app-api-usage=17/250(appName=x)`: used of how many."""
    parts = text.split(";", MOST_MEMBERS)[:MOST_MEMBERS] if len(text) <= LONGEST_HEADER else ()
    for part in parts:
        if (found := _USAGE.fullmatch(part.strip())) and (most := int(found[3])):
            bucket = (found[1] or "").lower()[:LONGEST_TEXT]
            # Only what is counted over a day is called usage; bursts and buckets have windows of their own.
            told_s = window_s if bucket.endswith("usage") else None
            yield RateReading(bucket=bucket, most=most, left=max(most - int(found[2]), 0), window_s=told_s)


def _states(parts: list[Member], sent: float) -> Iterator[RateReading]:
    flat = {part.key: part.value for part in parts if part.key}
    if flat:
        yield RateReading(
            most=count(flat.get("limit", "")) or None,
            left=count(flat.get("remaining", "")),
            reset_s=_delta(flat.get("reset"), sent),
        )
        return
    for part in parts:
        left, reset_s = count(part.parameters.get("r", "")), _delta(part.parameters.get("t"), sent)
        if left is not None:
            yield RateReading(bucket=_bare(part.value), left=left, reset_s=reset_s)


def _delta(text: str | None, sent: float) -> float | None:
    # The draft means seconds from now; a vendor that writes a moment is understood all the same.
    return None if text is None or number(text) is None else wait_s(text, None, sent)


def _policy_of(reading: RateReading, declared: list[Policy]) -> Policy | None:
    same = [one for one in declared if one.bucket == reading.bucket]
    return next((one for one in same if reading.most in {None, one.most}), None)


def _with(reading: RateReading, policy: Policy) -> RateReading:
    return RateReading(
        bucket=reading.bucket,
        most=reading.most or policy.most,
        left=reading.left,
        reset_s=reading.reset_s,
        window_s=policy.window_s,
    )


def _bare(value: str) -> str:
    return value.strip('"').lower()[:LONGEST_TEXT]

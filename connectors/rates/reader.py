"""What an answer says about the vendor's limits: its budgets, how long to wait, and whether it is a "slow down".

The vendor's own word can only be about its own budget: what is read here tightens, and nobody loosens a declared limit
by it. One pass over the names of the headers; the rest is only paid where one of them speaks of a limit. Never raises.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

from connectors.exchange import Answered
from connectors.rates.bodies import Refusal, body_readings, is_throttled, refusal
from connectors.rates.rules import RateRules
from connectors.rates.structured import MOST_MEMBERS, draft_readings, usage_readings
from connectors.rates.units import LONGEST_S, LONGEST_TEXT, moment, wait_s
from connectors.rates.vendors import header_readings
from connectors.retry_after import retry_after_s
from schemas.codec import Undecodable, decode
from schemas.outcome import RateReading

REFUSAL_BYTES: Final = 64 << 10
"""A refusal that is longer says nothing about limits."""
_DRAFTS: Final = ("ratelimit", "x-ratelimit", "beta-ratelimit")
"""Each with its `-policy`; Atlassian's are called beta."""
_BUSY: Final = frozenset({503, 529})
_DOCUMENTED: Final = frozenset({403, 429})
"""Of these, known vendors say in the body what they mean."""
_REFUSALS: Final = _BUSY | _DOCUMENTED
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Rates:
    readings: tuple[RateReading, ...] = ()
    retry_after_s: float | None = None
    """As told; of a limited answer that does not tell, until its exhausted budgets are full again."""
    limited: bool = False
    """The vendor said "slow down"."""
    throttled: bool = False
    """The manifest declares this answer a refusal, whatever its status."""


_NOTHING: Final = Rates()


def read_rates(answer: Answered, rules: RateRules, now: float) -> Rates:
    """Read headers and body; `now` (epoch seconds) stands in for a missing `Date`."""
    readings, told = _read_headers(answer.headers, rules, now) if _speaks(answer.headers, rules) else ((), None)
    if not rules.bodies and not rules.throttled and answer.status not in _REFUSALS:
        return Rates(readings, told) if readings or told is not None else _NOTHING
    body = _body(answer, rules)
    throttled = is_throttled(body, answer.status, rules.throttled)
    refused = refusal(body) if answer.status in _DOCUMENTED else Refusal()
    in_body = (*islice(body_readings(body, rules.bodies), MOST_MEMBERS), *refused.readings)
    readings += _named(in_body, rules.buckets)
    told = refused.wait_s if told is None else told
    limited = throttled or refused.limited or _is_limited(answer.status, told, readings)
    if limited and told is None:
        told = max(_resets(readings), default=refused.floor_s)
    return Rates(readings, told, limited, throttled)


def _speaks(headers: Mapping[str, str], rules: RateRules) -> bool:
    names = "\n".join(headers)
    return "limit" in names or "retry" in names or not rules.names.isdisjoint(headers)


def _read_headers(
    headers: Mapping[str, str], rules: RateRules, now: float
) -> tuple[tuple[RateReading, ...], float | None]:
    sent = moment(headers.get("date", ""))
    sent = now if sent is None else sent
    readings = tuple(islice(_readings(headers, rules, sent), MOST_MEMBERS))
    return _named(readings, rules.buckets), _told_s(headers, rules, sent)


def _readings(headers: Mapping[str, str], rules: RateRules, sent: float) -> Iterator[RateReading]:
    yield from header_readings(headers, rules, sent)
    for name in _DRAFTS:
        state, policy = headers.get(name, ""), headers.get(f"{name}-policy", "")
        if (state or policy) and name not in rules.names:
            yield from draft_readings(policy, state, rules.buckets, sent)
    # Salesforce: over a rolling day. Shopify: how full the leaky bucket is.
    yield from usage_readings(headers.get("sforce-limit-info", ""), LONGEST_S)
    yield from usage_readings(headers.get("x-shopify-shop-api-call-limit", ""))
    if reason := headers.get("stripe-rate-limited-reason", ""):
        yield RateReading(bucket=reason.strip().lower()[:LONGEST_TEXT], left=0)


def _told_s(headers: Mapping[str, str], rules: RateRules, sent: float) -> float | None:
    if own := rules.retry_after:
        told = wait_s(headers.get(own.header), own.unit, sent)
        if told is not None or own.header == "retry-after":
            return told
    told = retry_after_s(headers, sent)
    # MailerLite.
    return wait_s(headers.get("x-ratelimit-retry-after"), None, sent) if told is None else told


def _body(answer: Answered, rules: RateRules) -> Any:
    """Decode the body where somebody will look at it."""
    declared = rules.bodies or any(rule.status == answer.status for rule in rules.throttled)
    refused = answer.status in _DOCUMENTED and len(answer.body) <= REFUSAL_BYTES
    raw = answer.body.removeprefix(_BOM) if (declared or refused) and answer.truncated is None else b""
    if raw.lstrip()[:1] not in {b"{", b"["}:
        return None
    try:
        return decode(raw, max_bytes=len(raw))
    except Undecodable:
        return None


def _named(readings: tuple[RateReading, ...], buckets: Mapping[str, str]) -> tuple[RateReading, ...]:
    """Say which declared limit a budget is, where the manifest knows the vendor's name for it."""
    if not buckets:
        return readings
    names = (one.limit_name or buckets.get(one.bucket) for one in readings)
    return tuple(msgspec.structs.replace(one, limit_name=name) for one, name in zip(readings, names, strict=True))


def _is_limited(status: int, told: float | None, readings: tuple[RateReading, ...]) -> bool:
    match status:
        case 429:
            return True
        case 403:
            return told is not None or any(reading.left == 0 for reading in readings)
        case _:
            return status in _BUSY and told is not None


def _resets(readings: tuple[RateReading, ...]) -> list[float]:
    return [reading.reset_s for reading in readings if reading.left == 0 and reading.reset_s is not None]

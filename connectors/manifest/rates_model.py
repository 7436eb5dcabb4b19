"""The key `rate_headers` of a connector: how its vendor tells of limits, where the built-in table does not know it.

Shape, what its keys must be to each other, and the way to what the gateway works with.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, StrictInt

from connectors.manifest.part import HeaderName, LimitName, Part, Pointer
from connectors.manifest.problem import Finding, Path, quoted, suggestion
from connectors.manifest.units import DurationField
from connectors.rates.rules import BodyRule, HeaderRule, RateRules, RetryRule, ThrottledRule
from connectors.rates.units import LONGEST_TEXT, Unit

LowerHeader = Annotated[HeaderName, AfterValidator(str.lower)]
Member = Annotated[str, Field(min_length=1, max_length=128)]
_TOLD = ("most", "left", "used", "reset")


class HeaderReading(Part):
    """The headers of one budget. Where one of them is of a known vendor, the others are known too."""

    limit: LimitName | None = Field(None, description="The declared limit that it is.")
    bucket: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), AfterValidator(str.lower)] | None = Field(
        None, description="The vendor's name for the budget."
    )
    most: LowerHeader | None = None
    left: LowerHeader | None = None
    used: LowerHeader | None = None
    reset: LowerHeader | None = None
    unit: Unit | None = Field(None, description="Of `reset`; by its size and form when nothing is said.")
    window: DurationField | None = None


class RetryAfterHeader(Part):
    header: LowerHeader
    unit: Unit | None = None


class BodyReading(Part):
    """An object in the body; `most`, `left`, `used` and `restore` (units per second) are its members."""

    limit: LimitName | None = None
    path: Pointer
    most: Member | None = None
    left: Member | None = None
    used: Member | None = None
    restore: Member | None = None
    window: DurationField | None = None


class Throttled(Part):
    """An answer that is a refusal, whatever its status says: the call did not run and is tried again."""

    status: Annotated[StrictInt, Field(ge=200, le=599)] = 200
    path: Pointer
    equals: Member | StrictInt | StrictBool


class RateHeaders(Part):
    rules: tuple[HeaderReading, ...] = ()
    retry_after: RetryAfterHeader | None = None
    bodies: tuple[BodyReading, ...] = ()
    throttled: tuple[Throttled, ...] = ()


def rate_rules(declared: RateHeaders) -> RateRules:
    """Return the rules as the gateway works with them."""
    retry = declared.retry_after
    return RateRules(
        headers=tuple(_header_rule(one) for one in declared.rules),
        retry_after=RetryRule(header=retry.header, unit=retry.unit) if retry else None,
        bodies=tuple(_body_rule(one) for one in declared.bodies),
        throttled=tuple(
            ThrottledRule(path=one.path, equals=one.equals, status=one.status) for one in declared.throttled
        ),
    )


def rate_findings(tree: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong between a connector's `rate_headers` and its limits."""
    declared, limits = tree.get("rate_headers"), tree.get("limits")
    limits = limits if isinstance(limits, dict) else {}
    for part in ("rules", "bodies"):
        rules = declared.get(part) if isinstance(declared, dict) else None
        for index, rule in enumerate(rules if isinstance(rules, list) else ()):
            if isinstance(rule, dict):
                yield from _of_rule(rule, limits, ("rate_headers", part, index))


def _of_rule(rule: dict[str, Any], limits: dict[str, Any], path: Path) -> Iterator[Finding]:
    limit = rule.get("limit")
    if isinstance(limit, str) and limit not in limits:
        hint = suggestion(limit, limits) or "declare it under the connector's limits"
        yield Finding(path=(*path, "limit"), message=f"unknown limit {quoted(limit)}", hint=hint)
    if not any(rule.get(name) for name in _TOLD) and not (limit and rule.get("bucket")):
        yield Finding(path=path, message=f"a rule names at least one of {', '.join(_TOLD)}")


def _header_rule(one: HeaderReading) -> HeaderRule:
    return HeaderRule(
        limit=one.limit,
        bucket=one.bucket or "",
        most=one.most,
        left=one.left,
        used=one.used,
        reset=one.reset,
        unit=one.unit,
        window_s=one.window.seconds if one.window else None,
    )


def _body_rule(one: BodyReading) -> BodyRule:
    return BodyRule(
        path=one.path,
        limit=one.limit,
        most=one.most,
        left=one.left,
        used=one.used,
        restore=one.restore,
        window_s=one.window.seconds if one.window else None,
    )

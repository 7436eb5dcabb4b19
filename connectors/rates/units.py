"""Numbers, waits and moments as vendors write them in headers and bodies, in seconds. Pure, never raises.

What is malformed, negative or not finite is None: unknown. Only ASCII digits count as digits.
"""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

LONGEST_S: Final = 86_400.0
"""A wait beyond a day is a mistake of the vendor or a trap; the call's own deadline decides before it."""
LONGEST_TEXT: Final = 64
MOST: Final = 10**15
"""No budget is larger; above it, floats no longer count."""

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
_STEP = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": LONGEST_S}
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)


class Unit(StrEnum):
    """How a wait or a moment is written."""

    S = "s"
    MS = "ms"
    US = "us"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"
    ISO8601 = "iso8601"
    DURATION = "duration"
    """As Go prints it: 6m0s, 12ms."""
    DATE = "date"
    """RFC 9110 §5.6.7: Sun, 06 Nov 1994 08:49:37 GMT."""


_SPANS: Final = {Unit.S: 1.0, Unit.MS: 1e-3, Unit.US: 1e-6}
_EPOCHS: Final = {Unit.EPOCH_S: 1.0, Unit.EPOCH_MS: 1e-3}
# A number that says no unit: what it would mean otherwise is a wait of decades, or a moment decades ago.
_MAGNITUDES: Final = ((1e14, 1e-6), (1e11, 1e-3), (9e8, 1.0))


def number(text: str) -> float | None:
    """Return digits with at most one point as a number; no sign, exponent, NaN, infinity or underscore."""
    text = text.strip()
    return float(text) if len(text) <= LONGEST_TEXT and _NUMBER.fullmatch(text) else None


def count(value: Any) -> int | None:
    """Return how many, of a header's text or a JSON number; parts of one are not counted."""
    if isinstance(value, str):
        value = number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MOST else None


def wait_s(value: Any, unit: Unit | None, sent: float) -> float | None:
    """Return the seconds until `value`, from 0 to 24 h; `sent` (epoch seconds) is when the vendor wrote it.

    Without a `unit` a number is read by its magnitude, a text by its form.
    """
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text := text.strip()) > LONGEST_TEXT:
        return None
    seconds = _guessed(text, sent) if unit is None else _stated(text, unit, sent)
    return None if seconds is None or math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_S)


@lru_cache(maxsize=256)  # all answers of one second have the same
def moment(text: str) -> float | None:
    """Return an HTTP date as epoch seconds."""
    if ":" not in text or len(text) > LONGEST_TEXT:
        return None
    try:
        return _epoch(parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _guessed(text: str, sent: float) -> float | None:
    if (figure := number(text)) is not None:
        return next((figure * scale - sent for above, scale in _MAGNITUDES if figure > above), figure)
    if (span := _duration(text)) is not None:
        return span
    at = _iso(text)
    return _until(moment(text) if at is None else at, sent)


def _stated(text: str, unit: Unit, sent: float) -> float | None:
    match unit:
        case Unit.DURATION:
            return _duration(text)
        case Unit.ISO8601:
            return _until(_iso(text), sent)
        case Unit.DATE:
            return _until(moment(text), sent)
        case Unit.S | Unit.MS | Unit.US:
            figure = number(text)
            return None if figure is None else figure * _SPANS[unit]
        case Unit.EPOCH_S | Unit.EPOCH_MS:
            figure = number(text)
            return None if figure is None else figure * _EPOCHS[unit] - sent


def _until(at: float | None, sent: float) -> float | None:
    return None if at is None else at - sent


def _duration(text: str) -> float | None:
    steps = _STEP.findall(text)
    if not steps or "".join(figure + unit for figure, unit in steps) != text:
        return None
    return sum(float(figure) * _SECONDS[unit] for figure, unit in steps)


def _iso(text: str) -> float | None:
    if _ISO.fullmatch(text) is None:
        return None
    try:
        return _epoch(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError):
        return None


def _epoch(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()

"""What a vendor's headers announce: `Deprecation` (RFC 9745, a structured date) and `Sunset` (RFC 8594, an HTTP date). Pure."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from schemas.contracts.finding import Change, Kind

_STRUCTURED = re.compile(r"@(-?\d{1,11})\s*(;.*)?", re.ASCII)
"""A Date of RFC 9651; parameters are not looked at."""


def announced(headers: Mapping[str, str]) -> Iterator[Change]:
    """Yield what the headers (lower-case names) announce; what cannot be read is not told."""
    if (deprecation := headers.get("deprecation")) is not None and (since := _deprecation(deprecation.strip())):
        yield Change(Kind.DEPRECATED, "", "", since)
    if (sunset := headers.get("sunset")) is not None and (day := _http_date(sunset.strip())):
        yield Change(Kind.SUNSET, "", "", f"on {day}")


def _deprecation(text: str) -> str | None:
    found = _STRUCTURED.fullmatch(text)
    if found:
        day = _day(int(found[1]))
        return day and f"since {day}"
    # The drafts before the RFC said `true`, or an HTTP date.
    if text.lower() in {"true", "?1"}:
        return "no date is told"
    day = _http_date(text)
    return day and f"since {day}"


def _http_date(text: str) -> str | None:
    try:
        return parsedate_to_datetime(text).date().isoformat() if len(text) <= 64 else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _day(seconds: int) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return None

"""Moments: a `datetime` for people, microseconds since the epoch for the queue, RFC 3339 for the wire. Exact both ways."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""The moment from which microseconds are counted, as Redis `TIME` counts them."""


def stamp(at: datetime) -> str:
    """Render a moment with a zone as RFC 3339 in UTC, always with six decimals, so that equal moments are equal texts."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def read(text: str) -> datetime:
    """Return the moment of an RFC 3339 text; `ValueError` when it is none, or names no zone."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("it names no zone")
    return found


def moment(us: int) -> datetime:
    """Return microseconds since the epoch as a moment in UTC; `OverflowError` outside of the years 1 to 9999."""
    return EPOCH + timedelta(microseconds=us)


def microseconds(at: datetime) -> int:
    """Return a moment with a zone as microseconds since the epoch, exactly: no float comes between."""
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

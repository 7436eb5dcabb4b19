"""Formats that are worth a look: whether a text is written as its contract says. Pure, and linear in the text."""

import re
from collections.abc import Mapping
from types import MappingProxyType

_TIME = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([zZ]|[+-]\d\d:\d\d)"
_DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"

FORMATS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "date-time": re.compile(rf"{_DATE}[tT]{_TIME}", re.ASCII),
        "date": re.compile(_DATE, re.ASCII),
        "time": re.compile(_TIME, re.ASCII),
        "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII),
    }
)
"""Dates and times of RFC 3339, UUIDs of RFC 9562; every other format is not looked at."""


def written(text: str, name: str) -> bool:
    """Tell whether a text has a format; one that is not known here is had by everything."""
    pattern = FORMATS.get(name)
    return pattern is None or (len(text) <= 64 and pattern.fullmatch(text) is not None)

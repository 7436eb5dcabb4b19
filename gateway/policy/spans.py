"""Spans of time as people write them: 30s, 15m, 12h, 7d. Pure."""

import re

_SPAN = re.compile(r"([0-9]{1,6})(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int | None:
    """Return how many seconds a text means; None when it is no span."""
    found = _SPAN.fullmatch(text.strip())
    return None if found is None else int(found[1]) * _SECONDS[found[2]]

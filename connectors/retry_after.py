"""How long the vendor asks us to wait: `Retry-After` in all its forms, as seconds. Pure, never raises."""

import re
from collections.abc import Mapping

from connectors.rates.units import LONGEST_S, moment

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", re.ASCII)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait in seconds within [0, 24 h], or None when there is none or it makes no sense.

    Dates are held against the answer's own `Date`, which cancels the skew of its clock; `now` (epoch seconds)
    stands in when it has none.
    """
    if (precise := _number(headers.get("retry-after-ms", ""))) is not None:
        return min(precise / 1000, LONGEST_S)
    text = headers.get("retry-after", "")
    if (seconds := _number(text)) is not None:
        return min(seconds, LONGEST_S)
    if (at := moment(text)) is None:
        return None
    sent = moment(headers.get("date", ""))
    return min(max(at - (now if sent is None else sent), 0.0), LONGEST_S)


def _number(text: str) -> float | None:
    text = text.strip()
    # Digits only: no sign, exponent, NaN, infinity or underscores. Too many digits become infinity, which is clamped.
    return float(text) if _NUMBER.fullmatch(text) else None

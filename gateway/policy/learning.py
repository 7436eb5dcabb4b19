"""What an answer teaches about the limits that a call shares with others: which of them close, which are tighter. Pure.

It only ever tightens: a vendor that tells of more than is declared teaches nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from connectors.declared import Use
from gateway.policy.backoff import Uniform
from gateway.ports import Lesson
from schemas.outcome import Outcome, RateReading
from schemas.tool_call import ToolCall

UNTOLD_S: Final = 1.0
"""How long to stay away when the vendor does not say."""
LONGEST_S: Final = 86_400.0
BELIEVED_S: Final = 60.0
"""How long a count of what is left is believed when the vendor does not say until when it holds."""
SPREAD_S: Final = 0.25
"""Calls that waited for the same moment do not all come in it."""
_US: Final = 1_000_000


def lessons(call: ToolCall, uses: Sequence[Use], outcome: Outcome, uniform: Uniform) -> list[Lesson]:
    """Return at most one lesson per shared limit, or one about the connection's gate where the call uses no rate.

    A "slow down" closes what the call uses for as long as the vendor says, plus up to 10 % and 250 ms, so that it is
    above zero even for `Retry-After: 0`.
    """
    if not outcome.limited and not outcome.rates:
        return []
    rates = [use for use in uses if use.limit.kind != "concurrency"]
    matched = [(reading, match(reading, rates)) for reading in outcome.rates]
    named = [use for reading, use in matched if use is not None and reading.left == 0]
    found = [_told(call, use, reading) for reading, use in matched if use is not None]
    if (wait_s := _closing_s(outcome, [reading for reading, use in matched if use is None])) is not None:
        close_us = max(1, int((min(wait_s, LONGEST_S) * uniform(1.0, 1.1) + uniform(0.0, SPREAD_S)) * _US))
        keys = [_key(call, use) for use in _closed(rates, named)] or [_gate(call)]
        found += [Lesson(limit=key, close_us=min(close_us, int(LONGEST_S * 1.1 * _US))) for key in keys]
    return _joined(lesson for lesson in found if lesson != Lesson(limit=lesson.limit))


def match(reading: RateReading, rates: Sequence[Use]) -> Use | None:
    """Return the one use whose limit a reading speaks of: by name, by window, by size, or because there is no other."""
    if reading.limit_name is not None:
        return _only([use for use in rates if use.limit.name == reading.limit_name])
    if reading.most is reading.reset_s is reading.window_s is None:
        return None
    same_size = [use for use in rates if use.limit.most == reading.most]
    if reading.window_s is not None:
        # A reading that tells its window speaks of no limit with another one, not even of the only one.
        same = [use for use in rates if use.limit.window_us == round(reading.window_s * _US)]
        return _only(same) or _only([use for use in same if use in same_size])
    return _only(same_size) or _only(rates)


def _only(uses: Sequence[Use]) -> Use | None:
    return uses[0] if len(uses) == 1 else None


def _closing_s(outcome: Outcome, unmatched: Iterable[RateReading]) -> float | None:
    """Return for how long to stay away, None when nothing says so."""
    if outcome.limited:
        return UNTOLD_S if outcome.retry_after_s is None else outcome.retry_after_s
    # Some budget of the vendor's is used up, and nobody knows whose calls it counts.
    spent = [UNTOLD_S if one.reset_s is None else one.reset_s for one in unmatched if one.left == 0]
    return max(spent, default=None)


def _closed(rates: Sequence[Use], named: Sequence[Use]) -> list[Use]:
    """Return what a "slow down" closes: not what other connections share, unless the vendor says it is used up or it is all there is."""
    narrow = [use for use in rates if use.limit.per == "connection"]
    return [use for use in rates if use in narrow or use in named or not narrow]


def _told(call: ToolCall, use: Use, reading: RateReading) -> Lesson:
    limit = use.limit
    # Without a window nobody knows what `most` is of: a second's ten must not become an hour's.
    named = reading.limit_name is not None
    comparable = named if reading.window_s is None else round(reading.window_s * _US) == limit.window_us
    tighter = reading.most is not None and reading.most < limit.most and comparable
    known = reading.left is not None and reading.left < limit.most
    reset_us = _reset_us(reading, limit.window_us) if known else None
    return Lesson(
        limit=_key(call, use),
        # Our own slots come back after the window, and the vendor's do not.
        close_us=reset_us if reading.left == 0 and reset_us is not None and reset_us > limit.window_us else None,
        left=reading.left if known else None,
        most=reading.most if tighter else None,
        reset_us=reset_us,
    )


def _reset_us(reading: RateReading, window_us: int) -> int:
    if reading.reset_s is not None:
        return int(reading.reset_s * _US)
    return min(window_us, int((reading.window_s or BELIEVED_S) * _US))


def _joined(found: Iterable[Lesson]) -> list[Lesson]:
    """Make one lesson per limit of all: the strictest of each kind."""
    joined: dict[str, Lesson] = {}
    for lesson in found:
        before = joined.get(lesson.limit, lesson)
        fewer = min((one for one in (before, lesson) if one.left is not None), key=_fewest, default=lesson)
        joined[lesson.limit] = msgspec.structs.replace(
            before,
            close_us=max((one.close_us for one in (before, lesson) if one.close_us is not None), default=None),
            most=min((one.most for one in (before, lesson) if one.most is not None), default=None),
            left=fewer.left,
            reset_us=fewer.reset_us,
        )
    return list(joined.values())


def _fewest(lesson: Lesson) -> tuple[int, int]:
    return lesson.left or 0, -(lesson.reset_us or 0)


def _key(call: ToolCall, use: Use) -> str:
    return use.limit.instance(call.connector, call.connection, call.tool.removeprefix(f"{call.connector}."))


def _gate(call: ToolCall) -> str:
    return f"@{call.connector}|{call.connection or '-'}"

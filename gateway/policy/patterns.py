"""Patterns that need a person: what opens an alert, what keeps it open, what resolves it, and what it says. One table, pure.

An alert is opened by a level and resolved by another one (hysteresis), so that what hovers around a bound does not ring on and on.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.ports.alerts import Observation
from schemas.alert import AlertKind

HOUR_S: Final = 3600.0

SETTLE_S: Final = 60.0
"""How long something must be well before its alert resolves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The bounds, from the settings; times in seconds."""

    similar: int
    window_s: float
    breaker_open_s: float
    letters_per_hour: int
    most_per_hour: int
    settle_s: float = SETTLE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one pattern now."""

    kind: AlertKind
    subject: str
    count: int = 1
    """How many of it there are now: in the window, for what is counted; 0: it is quiet."""
    total: int = 0
    """Never falls while it is counted; 0: as `count`."""
    since_us: int = 0
    facts: Mapping[str, str]
    """Words for the sentence; `sample` of them are told apart."""

    @property
    def key(self) -> str:
        """Names the pattern's one record."""
        return f"{self.kind}|{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One row."""

    opens: Callable[[int, Terms], bool]
    stays: Callable[[int, Terms], bool]
    """Held against an alert that is open."""
    for_s: Callable[[Terms], float] = lambda _: 0.0
    """How long it must hold before it opens."""
    quiet_s: Callable[[Terms], float] = lambda _: 0.0
    """How long it must be quiet before it resolves."""
    sentence: str
    action: str


def _any(count: int, _: Terms) -> bool:
    return count > 0


def _asking(terms: Terms) -> float:
    """Whoever asks for a token in vain makes the credential look well for a moment."""
    return terms.settle_s / 2


PATTERNS: Final[Mapping[AlertKind, Pattern]] = MappingProxyType(
    {
        AlertKind.SIMILAR: Pattern(
            opens=lambda count, terms: count >= terms.similar,
            stays=_any,  # the window is empty before it resolves
            sentence="{count} calls ended alike within {window}: {failure} at {tool}.",
            action="sluice {look}",
        ),
        AlertKind.LETTERS: Pattern(
            opens=lambda count, terms: count >= terms.letters_per_hour,
            stays=lambda count, terms: 2 * count > terms.letters_per_hour,
            quiet_s=lambda terms: terms.settle_s,
            sentence="{count} dead letters were written within an hour, the last one for {tool}.",
            action="sluice dlq groups",
        ),
        AlertKind.BREAKER: Pattern(
            opens=_any,
            stays=_any,
            for_s=lambda terms: terms.breaker_open_s,
            quiet_s=lambda terms: terms.settle_s,
            sentence="The breaker of {origin} has been open for longer than {open}: {reason}",
            action="sluice breakers ls",
        ),
        AlertKind.CONSENT: Pattern(
            opens=_any,
            stays=_any,
            quiet_s=_asking,
            sentence="The connection {connection} needs somebody's consent again, and its calls wait: {detail}",
            action="sluice connections authorize {connection}",
        ),
        AlertKind.CONFIG: Pattern(
            opens=_any,
            stays=_any,
            quiet_s=_asking,
            sentence="The vendor does not accept the client of the connection {connection}, and its calls wait: {detail}",
            action="sluice connections check {connection}",
        ),
        AlertKind.CONTRACT: Pattern(
            opens=_any,
            stays=_any,
            sentence="The answers of {tool} break their contract (findings: {count}); first seen: {finding}",
            action="sluice contracts show {tool}",
        ),
        AlertKind.CAPPED: Pattern(
            opens=_any,
            stays=_any,
            quiet_s=lambda terms: terms.settle_s,
            sentence="{count} more patterns would have an alert, but no more than {most} are opened in an hour.",
            action="sluice alerts ls",
        ),
    }
)

LONGEST: Final = 500
"""Characters of a sentence: reasons and findings quote vendors."""

UNTOLD: Final = frozenset({"finding", "reason", "detail", "look"})
"""Words of the sentence that are not told again in the sample."""


def observed(evidence: Evidence, terms: Terms, *, is_open: bool, alert: str) -> Observation:
    """Judge the evidence; `alert` names what may open."""
    pattern = PATTERNS[evidence.kind]
    holds = pattern.stays if is_open else pattern.opens
    words = {**evidence.facts, "count": str(evidence.count), **_words(terms)}
    return Observation(
        key=evidence.key,
        subject=evidence.subject,
        kind=evidence.kind,
        fires=int(holds(evidence.count, terms)),
        since_us=evidence.since_us,
        for_us=int(pattern.for_s(terms) * 1e6),
        quiet_us=int(pattern.quiet_s(terms) * 1e6),
        count=evidence.count,
        total=evidence.total or evidence.count,
        sentence=_said(pattern.sentence, words),
        action=_said(pattern.action, words),
        sample=json.dumps({name: word for name, word in evidence.facts.items() if word and name not in UNTOLD}),
        alert=alert,
        free=int(evidence.kind is AlertKind.CAPPED),
    )


def span(seconds: float) -> str:
    """Write a time as people do: 30m, 90s."""
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _words(terms: Terms) -> dict[str, str]:
    return {
        "window": span(terms.window_s),
        "open": span(terms.breaker_open_s),
        "most": str(terms.most_per_hour),
    }


class _Blank(dict[str, str]):
    """What nothing is known of is left out: an alert that is quiet has no facts any more."""

    def __missing__(self, key: str) -> str:
        return "-"


def _said(text: str, words: Mapping[str, str]) -> str:
    said = text.format_map(_Blank(words))
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"

"""How the vendor shall misbehave: a closed list of behaviours, and the rules by which each arrival gets one.

Pure: dice are seeded by the script itself, and what a behaviour does on the wire is in `faults`.
"""

from collections.abc import Mapping
from enum import StrEnum
from random import Random
from typing import Any

import msgspec

from tests.vendor.latency import Latency


class Kind(StrEnum):
    OK = "ok"  # the true answer; with `seconds` a late one
    DELAY = "delay"  # another word for it, which reads better beside `seconds`
    HOLD = "hold"  # waits at `point` until POST /_vendor/release, then the true answer
    STATUS = "status"  # `status`, `headers`, `body`
    HANG = "hang"  # never answers
    RESET = "reset"  # RST instead of an answer
    CLOSE = "close"  # FIN instead of an answer
    TRUNCATE = "truncate"  # half of the body that Content-Length promises, then FIN
    DRIP = "drip"  # the body, padded to `size`, one byte per `interval`
    REDIRECT = "redirect"  # to `url`
    GZIP_BOMB = "gzip_bomb"  # `size` bytes of nothing, compressed
    HEADER_FLOOD = "header_flood"  # `size` headers
    GARBAGE = "garbage"  # 200, application/json, not JSON
    WRONG_TYPE = "wrong_type"  # 200, a page of HTML


class Point(StrEnum):
    BEFORE = "before"
    AFTER = "after"


EXECUTES: Mapping[Kind, bool] = {
    Kind.OK: True,
    Kind.DELAY: True,
    Kind.HOLD: True,
    Kind.STATUS: False,
    Kind.HANG: True,
    Kind.RESET: False,
    Kind.CLOSE: False,
    Kind.TRUNCATE: True,
    Kind.DRIP: True,
    Kind.REDIRECT: False,
    Kind.GZIP_BOMB: True,
    Kind.HEADER_FLOOD: True,
    Kind.GARBAGE: True,
    Kind.WRONG_TYPE: True,
}
"""Whether the effect happens when the behaviour does not say so itself with `executes`."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule. It serves `count` arrivals (or all of them, `forever`) that match and for which its dice agree."""

    do: Kind
    match: str = ""
    """Only arrivals with this text in their idempotency key, ref or path."""
    count: int = 1
    forever: bool = False
    probability: float = 1.0
    seed: int = 0
    executes: bool | None = None
    seconds: float = 0.0
    """Wait so long at `point`; the effect comes even if the caller has gone by then."""
    latency: Latency | None = None
    """Instead of the same `seconds` for all: each arrival waits as long as the dice say."""
    point: Point = Point.BEFORE
    """Where `seconds` and `hold` wait: before the effect or after it."""
    status: int | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: Any = None
    url: str = ""
    size: int | None = None
    interval: float = 0.05

    def __post_init__(self) -> None:
        if self.do is Kind.REDIRECT and not self.url:
            raise ValueError("a redirect needs a url")
        if self.do is Kind.STATUS and self.status is None:
            raise ValueError("a status needs a status")
        if self.count < 1 or not 0 <= self.probability <= 1:
            raise ValueError("count is at least 1, probability lies in 0..1")

    @property
    def has_effect(self) -> bool:
        return EXECUTES[self.do] if self.executes is None else self.executes


TRUE_ANSWER = Behaviour(do=Kind.OK)
"""What an arrival gets when no rule speaks of it."""


class Rule:
    """A behaviour with what is left of it."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self._left = behaviour.count
        self._dice = Random(behaviour.seed)

    def __repr__(self) -> str:
        return f"<Rule {self.behaviour.do} {'for ever' if self.behaviour.forever else f'{self._left} left'}>"

    @property
    def live(self) -> bool:
        """Whether it may still serve an arrival."""
        return self.behaviour.forever or self._left > 0

    def takes(self, text: str) -> bool:
        """Serve this arrival, if the rule is live, matches and the dice agree; only then is a count spent."""
        behaviour = self.behaviour
        if not self.live:
            return False
        if behaviour.match not in text:
            return False
        if behaviour.probability < 1 and self._dice.random() >= behaviour.probability:
            return False
        self._left -= 1
        return True

    def timed(self) -> Behaviour:
        """Return the behaviour with the response time of one arrival."""
        behaviour = self.behaviour
        if behaviour.latency is None:
            return behaviour
        return msgspec.structs.replace(behaviour, seconds=behaviour.latency.draw(self._dice))


class Script:
    """The rules by operation; those of the operation itself come before those of `*`, each list in its order."""

    def __init__(self) -> None:
        self._rules: dict[str, list[Rule]] = {}

    def set(self, operation: str, behaviours: list[Behaviour], *, append: bool = False) -> None:
        kept = self._rules.get(operation, []) if append else []
        self._rules[operation] = kept + [Rule(behaviour) for behaviour in behaviours]

    @property
    def live(self) -> bool:
        """Whether any rule may still serve an arrival."""
        return any(rule.live for rules in self._rules.values() for rule in rules)

    def choose(self, operation: str, *names: str | None) -> Behaviour:
        """Pick the behaviour for an arrival that is known by these names."""
        if not self._rules:
            return TRUE_ANSWER
        text = "\n".join(name for name in names if name)
        for rule in self._rules.get(operation, []) + self._rules.get("*", []):
            if rule.takes(text):
                return rule.timed()
        return TRUE_ANSWER

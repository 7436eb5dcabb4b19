"""Breakers for people: how each stands and why; keep one open or closed for a time, or let it decide by itself again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from connectors.breaking.breaker import Move
from connectors.breaking.standing import NEW, Mode, Standing, State, Word, mode, overridden, phase
from connectors.breaking.store import BreakerStore, Delta, Shared
from connectors.breaking.terms import DEFAULT_TERMS, BreakerTerms
from connectors.breaking.window import Counts
from connectors.catalog import Catalog
from connectors.manifest.units import Duration
from gateway.flow.lane_control import LONGEST_S, MOST_REASON
from gateway.flow.lane_target import Target, check
from gateway.flow.refusals import Unfit
from gateway.policy.origins import gates_by_breaker, keys_of

TRIES: Final = 5
"""How often an operator's word is said again when a breaker moved in the same moment."""


class Report(Protocol):
    """Is told of a change that an operator made."""

    def __call__(self, key: str, standing: Standing, before: State) -> None:
        """Count and log it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """One breaker as it stands at `now`."""

    key: str
    now: float
    standing: Standing
    counts: Counts
    gates: tuple[str, ...]

    @property
    def connector(self) -> str:
        """The connector whose calls it guards."""
        return self.key.partition("|")[0]

    @property
    def state(self) -> State:
        """Its state by now."""
        return phase(self.standing, self.now)

    @property
    def mode(self) -> Mode:
        """Who decides by now."""
        return mode(self.standing, self.now)


class BreakerControl:
    """The use-case; one instance a process."""

    def __init__(
        self, store: BreakerStore, catalog: Callable[[], Catalog], *, clock: Callable[[], float], report: Report
    ) -> None:
        """`clock` gives epoch seconds, as the store's does; `catalog` is asked each time."""
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._report = report

    async def ls(self, sees: Callable[[str], bool], connector: str | None = None) -> list[BreakerState]:
        """List the breakers of connectors with a tool that the caller sees, open ones first; raises `StoreAwayError`."""
        catalog = self._catalog()
        gates, shared = gates_by_breaker(catalog), await self._store.look()
        seen = {one.connector for one in catalog.operations.values() if sees(one.tool)}
        keys = sorted(
            key
            for key in gates.keys() | shared.keys()
            if (name := key.partition("|")[0]) in seen and connector in {None, name}
        )
        now, sums = self._clock(), await self._sums(keys)
        states = [
            BreakerState(
                key=key,
                now=now,
                standing=shared[key].standing if key in shared else NEW,
                counts=counts,
                gates=gates.get(key, ()),
            )
            for key, counts in zip(keys, sums, strict=True)
        ]
        return sorted(states, key=lambda one: (one.state is State.CLOSED, one.key))

    async def steer(self, target: Target, word: Word, lasting: str | None) -> list[BreakerState]:
        """Say an operator's word to the breakers of a connector, or of one connection's origin.

        Raises `Unfit`, `Nowhere` and `StoreAwayError`.
        """
        said, for_s = _reason(word.reason), _seconds(lasting)
        check(target, self._catalog())
        now = self._clock()
        whole = Word(mode=word.mode, owner=word.owner, reason=said, until=None if for_s is None else now + for_s)
        gates = gates_by_breaker(self._catalog())
        states = []
        for key in keys_of(self._catalog(), target.connector, target.connection):
            standing = await self._say(key, whole)
            states.append(
                BreakerState(key=key, now=self._clock(), standing=standing, counts=Counts(), gates=gates.get(key, ()))
            )
        return states

    async def _say(self, key: str, word: Word) -> Standing:
        for _ in range(TRIES):
            shared = (await self._store.look()).get(key, Shared(NEW, 0))
            now, before = self._clock(), shared.standing
            after = overridden(before, word, now)
            if after is before:
                return before
            taken, told = await self._store.move(key, Move(before.generation, None, phase(before, now), after))
            if taken:
                self._report(key, told.standing, phase(before, now))
                return told.standing
        raise Unfit("", f"the breaker {key} is changing too fast; say it again")

    async def _sums(self, keys: Sequence[str]) -> list[Counts]:
        """Ask with evidence of nothing: the answer holds the sums."""
        if not keys:
            return []
        deltas = [
            Delta(
                key=key,
                generation=-1,
                window_s=self._terms(key).window_s,
                ages={},
                row=0,
                broken=False,
                successes=0,
                release="",
            )
            for key in keys
        ]
        answers = await self._store.flush(0, deltas)
        totals = []
        for answer in answers:
            total = Counts()
            for counts in answer.ages.values():
                total = total.plus(counts)
            totals.append(total)
        return totals

    def _terms(self, key: str) -> BreakerTerms:
        connector = key.partition("|")[0]
        declared = (one.breaker for one in self._catalog().operations.values() if one.connector == connector)
        return next(declared, DEFAULT_TERMS)


def _reason(text: str) -> str:
    said = text.strip()
    if not 0 < len(said) <= MOST_REASON or not said.isprintable():
        raise Unfit("/reason", f"a reason has 1 to {MOST_REASON} printable characters, on one line")
    return said


def _seconds(lasting: str | None) -> float | None:
    """Read how long the word counts; None is until somebody ends it."""
    if lasting is None:
        return None
    try:
        seconds = Duration.parse(lasting).seconds
    except ValueError as error:
        raise Unfit("/for", str(error)) from None
    if seconds > LONGEST_S:
        raise Unfit("/for", "an operator's word lasts 30d at most; without a time it lasts until auto")
    return seconds

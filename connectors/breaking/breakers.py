"""All breakers of one process, and their talk with those of other processes.

`admit` and `settle` come in pairs around a call. Settling never waits: it may stand in a `finally`, where a cancellation passes.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from connectors.breaking.breaker import Breaker, Open, Permit
from connectors.breaking.standing import NEW, Standing, State, Uniform
from connectors.breaking.store import BreakerStore, Delta, Shared, StoreAwayError
from connectors.breaking.terms import DEFAULT_TERMS, BreakerTerms
from connectors.breaking.verdict import Verdict, asked_s, verdict_of
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.moment import moment, stamp
from schemas.outcome import Outcome

FLUSH_S = 0.2
"""Evidence is shared this often, and a failure at once."""

LOOK_S = 1.0
"""News may be lost on their way: so often every process looks for itself."""

PAUSE_S = 0.02
"""Between two rounds: many failures at once are told together."""

PROBE_GRACE_S = 5.0
"""A probe's place is held for its call's timeout and this."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A breaker stands otherwise than before, as this process sees it."""

    key: str
    standing: Standing
    before: State | None
    """Where this process changed it for all; None where it only heard of it."""


Observe = Callable[[Changed], None]

_UNKNOWN = Shared(NEW, 0)


def origin_of(base_url: str) -> str:
    """Return scheme, host and port of a URL; the port is left out where the scheme says it (RFC 6454, 4)."""
    parts = urlsplit(base_url)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = parts.port
    return f"{scheme}://{host}" + ("" if port in {None, _PORTS.get(scheme)} else f":{port}")


def key_of(connector: str, base_url: str) -> str:
    """Return the key of the breaker that guards a connector's calls to this address."""
    return f"{connector}|{origin_of(base_url)}"


def refused(shut: Open) -> Outcome:
    """Return the outcome of a call that was not let through: it waits, and has spent nothing."""
    message = f"The vendor is left alone: {shut.reason or 'its breaker is open'}."
    return Outcome(
        effect=Effect.NOT_EXECUTED,
        failure=Failure.BREAKER_OPEN,
        message=message,
        # The gates of its origin hold it in its lane from then on.
        retry_after_s=FLUSH_S,
        spends_attempt=False,
        held=True,
    )


class Breakers:
    """One instance a process; `keep` runs beside the calls."""

    def __init__(
        self,
        store: BreakerStore,
        *,
        clock: Callable[[], float],
        uniform: Uniform,
        worker: str,
        observe: Observe = lambda _: None,
    ) -> None:
        """`clock` gives epoch seconds; `worker` names this process among all."""
        self._store = store
        self._clock = clock
        self._uniform = uniform
        self._worker = worker
        self._observe = observe
        self._breakers: dict[str, Breaker] = {}
        self._known: dict[str, Shared] = {}
        self._released: dict[str, str] = {}
        self._stirred = asyncio.Event()
        self._urgent = asyncio.Event()
        self._sequence = 0
        self._flight: tuple[list[Breaker], dict[str, str]] | None = None
        self._looked = float("-inf")

    def of(self, connector: str, base_url: str, terms: BreakerTerms = DEFAULT_TERMS) -> Breaker:
        """Return the breaker that guards this address; terms that were declared anew are used at once."""
        key = key_of(connector, base_url)
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = Breaker(key, terms, uniform=self._uniform)
            if key in self._known:
                self._adopt(key, self._known[key])
        breaker.terms = terms
        return breaker

    async def admit(self, breaker: Breaker, *, timeout_s: float) -> Permit | Open:
        """Ask for one call that lasts `timeout_s` at most; waits for an answer of the fleet only before a probe."""
        lease_s = timeout_s + PROBE_GRACE_S
        permit = breaker.admit(self._clock(), worker=self._worker, lease_s=lease_s)
        if isinstance(permit, Open) or not permit.probe:
            return permit
        granted = False
        try:
            answer = await self._store.probe(permit, lease_s)
            self._adopt(breaker.key, answer.shared)
            if answer.begun:
                self._observe(Changed(key=breaker.key, standing=answer.shared.standing, before=State.OPEN))
            granted = answer.granted and breaker.holds(permit, self._clock())
        except StoreAwayError:
            granted = breaker.holds(permit, self._clock())
        finally:
            if not granted:
                self._end(breaker, permit, Verdict.NEUTRAL)
        return permit if granted else Open(self._clock() + FLUSH_S, "another process probes it")

    def settle(self, permit: Permit, outcome: Outcome | None) -> None:
        """Tell how a call ended; None when it did not, as after a cancellation or a mistake of our own."""
        breaker = self._breakers[permit.key]
        if outcome is None:
            self._end(breaker, permit, Verdict.NEUTRAL)
        else:
            took_s = outcome.duration_ms / 1000
            self._end(breaker, permit, verdict_of(outcome), duration_s=took_s, asked_s=asked_s(outcome))

    def shut(self, breaker: Breaker) -> Open | None:
        """Say whether a breaker is open now: then a retryable outcome waits, and its attempt is refunded."""
        return breaker.shut(self._clock())

    def heard(self, key: str, shared: Shared) -> None:
        """Take in news that came by themselves."""
        self._adopt(key, shared)

    async def keep(self) -> None:
        """Share and look until cancelled; while the fleet's state is away, what is known here decides."""
        task = asyncio.current_task()
        # Asked, and not only waited for: before Python 3.12 `wait_for`, which clients use, may swallow a cancellation.
        while task is None or not task.cancelling():
            self._stirred.clear()
            self._urgent.clear()
            with contextlib.suppress(StoreAwayError):
                await self.round()
            await asyncio.sleep(PAUSE_S)
            # While no call ends there is nothing to share, and an idle process sleeps.
            await _within(LOOK_S - PAUSE_S, self._stirred)
            await _within(FLUSH_S - PAUSE_S, self._urgent)

    async def round(self) -> None:
        """Tell what has changed, share evidence, and look when it is time; raises `StoreAwayError`."""
        await self._tell()
        await self._flush()
        if self._clock() - self._looked >= LOOK_S:
            await self._look()
        await self._tell()

    def _end(
        self, breaker: Breaker, permit: Permit, verdict: Verdict, *, duration_s: float = 0.0, asked_s: float = 0.0
    ) -> None:
        breaker.settle(permit, verdict, self._clock(), duration_s=duration_s, asked_s=asked_s)
        self._stirred.set()
        if permit.probe:
            self._released[breaker.key] = permit.token
        if permit.probe or verdict is Verdict.FAILED or breaker.move() is not None:
            self._urgent.set()

    async def _tell(self) -> None:
        for breaker in list(self._breakers.values()):
            move = breaker.move()
            if move is None:
                continue
            taken, shared = await self._store.move(breaker.key, move)
            breaker.said(move, shared.standing, shared.revision, self._clock())
            self._known[breaker.key] = shared
            before = move.before if taken and move.revision is None else None
            self._observe(Changed(key=breaker.key, standing=shared.standing, before=before))

    async def _flush(self) -> None:
        """One flight at a time; one that was not answered goes out again under its number, and then adds nothing twice."""
        if self._flight is None:
            released, self._released = self._released, {}
            some = [one for one in self._breakers.values() if one.window.pack() or one.key in released]
            if not some:
                return
            self._sequence += 1
            self._flight = (some, released)
        some, released = self._flight
        deltas = [self._delta(one, released.get(one.key, "")) for one in some]
        answers = await self._store.flush(self._sequence, deltas)
        self._flight = None
        now = self._clock()
        for breaker, delta, answer in zip(some, deltas, answers, strict=True):
            self._adopt(breaker.key, answer.shared)
            if delta.generation == answer.shared.standing.generation == breaker.standing.generation:
                breaker.window.told(now, answer.ages, row=answer.row, successes=answer.successes)
                breaker.look(now)

    def _delta(self, breaker: Breaker, release: str) -> Delta:
        ages, sent = breaker.window.delta(self._clock())
        return Delta(
            key=breaker.key,
            generation=breaker.standing.generation,
            window_s=breaker.terms.window_s,
            ages=ages,
            row=sent.row,
            broken=sent.broken,
            successes=sent.successes,
            release=release,
        )

    async def _look(self) -> None:
        found = await self._store.look()
        self._looked = now = self._clock()
        for key in self._known.keys() - found.keys():
            del self._known[key]
            if key in self._breakers:
                self._breakers[key].forgotten()
        for key, shared in found.items():
            self._adopt(key, shared)
        for breaker in self._breakers.values():
            breaker.look(now)

    def _adopt(self, key: str, shared: Shared) -> None:
        if shared.revision > self._known.get(key, _UNKNOWN).revision:
            self._known[key] = shared
            self._observe(Changed(key=key, standing=shared.standing, before=None))
        breaker = self._breakers.get(key)
        if breaker is not None:
            breaker.adopt(shared.standing, shared.revision, self._clock())


async def _within(wait_s: float, event: asyncio.Event) -> None:
    """Wait for an event, but not longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()


def told(changed: Changed) -> dict[str, object]:
    """Return what a log line tells of a change."""
    connector, _, origin = changed.key.partition("|")
    standing = changed.standing
    until = (
        None
        if standing.state is not State.OPEN or standing.until is None
        else stamp(moment(int(standing.until * 1_000_000)))
    )
    return {
        "connector": connector,
        "origin": origin,
        "before": changed.before,
        "state": standing.state,
        "generation": standing.generation,
        "reason": standing.reason,
        "until": until,
        "mode": standing.mode,
        "owner": standing.owner or None,
    }

"""Watching for patterns: reads what happened from where it was left, looks at how things stand, and brings the alerts up to date.

A chore of every worker, done by one at a time; it costs the path of a call nothing. Nothing is lost: counts and the place in the
topic move in one step, and topics are kept longer than the windows; what a crash leaves between count and alert the next look
finds, because it judges levels and not changes. An observer that was held up is refused by the store.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import structlog

from connectors.auth.freshness import TokenState
from connectors.auth.token_store import Kept
from connectors.breaking.standing import State
from connectors.breaking.store import Shared, StoreAwayError
from connectors.catalog import Catalog
from gateway.flow.connection_control import pairs
from gateway.policy import tallies
from gateway.policy.patterns import HOUR_S, Evidence, Terms, observed
from gateway.ports import Ambient
from gateway.ports.alerts import AlertBook, Entry, Observation, Places, Tally, Windows
from schemas.alert import AlertKind, AlertRecord
from schemas.contracts.finding import Level
from schemas.contracts.sighting import SeenFinding

log = structlog.get_logger()

TURN: Final = "alerts"
LEASE_S: Final = 10.0
EVENTS: Final = 100
LETTERS: Final = 20
"""Entries of a topic that are read at once: calls wait as long as it takes to read them. Letters are long."""
REST: Final = 4
"""Between two batches it rests so many times as long as the last one took: the loop belongs to the calls."""
MOST_BATCHES: Final = 200
"""What is left behind them is read at the next look: a turn is not kept for ever."""

_json = msgspec.json.Decoder().decode
_CREDENTIALS: Final = {TokenState.NEEDS_CONSENT: AlertKind.CONSENT, TokenState.CONFIG_ERROR: AlertKind.CONFIG}


class Standings(Protocol):
    """How the breakers of the fleet stand."""

    async def look(self) -> Mapping[str, Shared]:
        """Read all of them."""


class Credentials(Protocol):
    """How credentials stand."""

    async def read(self, name: str) -> Kept:
        """Look at one."""


class FoundFindings(Protocol):
    """How answers differ from their contracts."""

    async def seen(self) -> Sequence[SeenFinding]:
        """List what is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What is looked at."""

    places: Places
    windows: Windows
    standings: Standings
    credentials: Credentials
    findings: FoundFindings
    catalog: Callable[[], Catalog]
    events: Sequence[str]
    """Names of the topics of lifecycle events."""
    letters: Sequence[str]
    """Names of the topics of dead letters."""


class AlertWatch:
    """The use-case; one instance a process."""

    def __init__(self, sources: Sources, book: AlertBook, terms: Terms, ambient: Ambient) -> None:
        """`book` is where alerts stand."""
        self._from = sources
        self._book = book
        self._terms = terms
        self._ambient = ambient

    async def run(self) -> None:
        """Look once, if it is our turn."""
        if not await self._from.places.turn(TURN, lease_s=LEASE_S):
            return
        await self.count()
        with contextlib.suppress(StoreAwayError):  # what cannot be seen is no sign that it is well
            await self.look()

    async def count(self) -> None:
        """Read the topics on from where they were left."""
        for topic in self._from.events:
            await self._follow(topic, tallies.of_events, EVENTS)
        for topic in self._from.letters:
            await self._follow(topic, tallies.of_letters, LETTERS)

    async def look(self) -> None:
        """Judge every pattern, also those that nothing is seen of any more."""
        records = {one.key: one for one in await self._book.ls()}
        seen = {one.key: one for one in [*await self._evidence(), *_capped(records.values())]}
        gone = [
            Evidence(kind=one.kind, subject=one.subject, count=0, facts={})
            for key, one in records.items()
            if key not in seen
        ]
        judged = [self._judged(one, records.get(one.key)) for one in [*seen.values(), *gone]]
        worth = [one for one in judged if one.fires or one.key in records]
        answers = await self._book.observe(TURN, worth)
        for one, answer in zip(worth, answers, strict=True):
            self._tell(one, answer)

    def _judged(self, evidence: Evidence, record: AlertRecord | None) -> Observation:
        is_open = record is not None and (record.state == "open" or bool(record.muted))
        return observed(evidence, self._terms, is_open=is_open, alert=self._ambient.new_id())

    def _tell(self, one: Observation, answer: str) -> None:
        if answer == "opened":
            log.error("alert.opened", kind=one.kind, about=one.subject, sentence=one.sentence)
        elif answer == "resolved":
            log.info("alert.resolved", kind=one.kind, about=one.subject)

    async def _follow(self, topic: str, counted: Callable[[Sequence[Entry], Terms], list[Tally]], most: int) -> None:
        places, monotonic = self._from.places, self._ambient.monotonic
        for _ in range(MOST_BATCHES):
            began_s = monotonic()
            before = await places.place(topic)
            entries = await places.read(topic, before or await self._beginning(), most)
            if not entries:
                return
            moved = await self._from.windows.add(topic, before, entries[-1].id, counted(entries, self._terms))
            if not moved or len(entries) < most or not await places.turn(TURN, lease_s=LEASE_S):
                return
            await asyncio.sleep(REST * (monotonic() - began_s))

    async def _beginning(self) -> str:
        """Return where a first reader begins: nothing older can be in a window."""
        longest = max(self._terms.window_s, HOUR_S)
        return f"{await self._from.places.now_ms() - int(longest * 1000)}-0"

    async def _evidence(self) -> list[Evidence]:
        return [*await self._counted(), *await self._breakers(), *await self._connections(), *await self._contracts()]

    async def _counted(self) -> list[Evidence]:
        spans = {tallies.LETTERS: int(HOUR_S * 1000)}
        found = await self._from.windows.within(spans, int(self._terms.window_s * 1000))
        return [
            Evidence(
                kind=AlertKind.LETTERS if one.name == tallies.LETTERS else AlertKind.SIMILAR,
                subject=one.name,
                count=one.count,
                total=one.total,
                facts=_json(one.sample),
            )
            for one in found
        ]

    async def _breakers(self) -> list[Evidence]:
        standings = {key: shared.standing for key, shared in (await self._from.standings.look()).items()}
        return [
            Evidence(
                kind=AlertKind.BREAKER,
                subject=key,
                since_us=int(one.since * 1e6),
                facts={"connector": key.partition("|")[0], "origin": key.partition("|")[2], "reason": one.reason},
            )
            for key, one in standings.items()
            if one.state is not State.CLOSED
        ]

    async def _connections(self) -> list[Evidence]:
        found = []
        for operation, connection in pairs(self._from.catalog()):
            if operation.auth.oauth2 is None:
                continue
            kept = await self._from.credentials.read(f"{operation.connector}|{connection.name}")
            if kind := _CREDENTIALS.get(kept.state):
                facts = {"connection": f"{operation.connector}/{connection.name}", "detail": kept.detail}
                found.append(Evidence(kind=kind, subject=f"{operation.connector}|{connection.name}", facts=facts))
        return found

    async def _contracts(self) -> list[Evidence]:
        broken: dict[str, list[SeenFinding]] = {}
        for one in await self._from.findings.seen():
            if one.state == "open" and one.finding.level is Level.BREAKING:
                broken.setdefault(one.tool, []).append(one)
        return [_contract(tool, found) for tool, found in broken.items()]


def _contract(tool: str, found: Sequence[SeenFinding]) -> Evidence:
    """One alert a tool: a vendor's release changes many fields at once."""
    first = min(found, key=lambda one: one.first_us)
    facts = {
        "tool": tool,
        "call": first.call,
        "fingerprint": first.finding.fingerprint,
        "pointer": first.finding.pointer,
        "finding": first.finding.sentence,
    }
    return Evidence(kind=AlertKind.CONTRACT, subject=tool, count=len(found), facts=facts)


def _capped(records: Any) -> list[Evidence]:
    held = [one for one in records if one.capped and one.state == "pending"]
    facts = {"kind": str(held[0].kind), "about": held[0].subject} if held else {}
    return [Evidence(kind=AlertKind.CAPPED, subject="gateway", count=len(held), facts=facts)] if held else []

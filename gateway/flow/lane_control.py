"""Lanes in the hands of people: list them, look at one, pause and resume. Changes gates only, never a call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from connectors.catalog import Catalog
from connectors.manifest.units import Duration
from gateway.flow.holds import gate_target, named, scope_of
from gateway.flow.lane_target import Target, check, lane_of, target_of
from gateway.flow.lane_view import holding
from gateway.flow.refusals import Nowhere, Unfit
from gateway.ports import Held, LaneState
from gateway.ports.load import Closing, Load
from schemas.lifecycle import HoldReason
from schemas.moment import moment, stamp

__all__ = ["LaneControl", "Nowhere", "Page", "Paused", "Resumed", "Target", "Unfit", "Wanted", "target_of"]

log = structlog.get_logger()

PAGE = 200
"""Lanes after which a page is full; one look at the list may find some more."""

LOOKS = 20
"""Looks at the list for one page; a filter that nothing passes ends it then, with a cursor to go on."""

SURVEYED = 64
"""Lanes that are examined in one step: more would hold Redis too long."""

RESUMED = frozenset({HoldReason.PAUSED, HoldReason.CONTRACT_QUARANTINE, HoldReason.RATE_LIMIT})
"""What a resume ends; a quarantine comes back with the next answer that breaks the contract."""

MOST_REASON = 200
"""Characters of a pause's reason."""

LONGEST_S = 30 * 86_400
"""A pause that shall last longer is one without an end."""


class LaneQueue(Protocol):
    """What lane control needs of the lanes."""

    async def lanes(self, *, cursor: int = 0, most: int = 1000) -> tuple[int, list[str]]:
        """List some lanes with live calls, and the cursor of the next ones; 0 when there are none."""

    async def survey(self, lanes: Sequence[str]) -> tuple[int, list[LaneState]]:
        """Look at lanes: the time of the look, and how each stands."""

    async def close(self, gate: str, reason: HoldReason, *, for_us: int, detail: str) -> int | None:
        """Close a gate for `for_us`, 0 until it is opened; returns when it opens by itself."""

    async def open(self, gate: str, reason: HoldReason) -> None:
        """Open a gate that was closed for this reason."""


class QueueOverview(Protocol):
    """What lane control needs of the queue as a whole."""

    async def load(self) -> Load:
        """Read the sums."""

    async def closed(self) -> list[Closing]:
        """List what is closed now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lanes to list."""

    sees: Callable[[str], bool]
    """Tells whether the caller may see the lanes of a tool."""
    connector: str | None = None
    held: bool | None = None

    def takes(self, lane: str) -> bool:
        """Tell by a lane's name whether it may be listed."""
        connector, _, operation = lane.split("|", 2)
        return self.connector in {None, connector} and self.sees(f"{connector}.{operation}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Lanes, most waiting calls first; a cursor of 0 says that there are no more."""

    now_us: int
    lanes: list[LaneState]
    cursor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """A pause as it stands now."""

    target: str
    reason: str
    by: str
    until_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What a resume found, and what over or within the target is still closed by a pause or by a vendor's word."""

    target: str
    was_paused: bool
    opened: list[str]
    """Limits and connections that a vendor had asked to leave alone."""
    still: list[str]
    """As the commands take them."""


class LaneControl:
    """The use-case; one instance a process."""

    def __init__(self, queue: LaneQueue, overview: QueueOverview, catalog: Callable[[], Catalog]) -> None:
        """`catalog` is asked each time, so that a reloaded one is used at once."""
        self._queue = queue
        self._overview = overview
        self._catalog = catalog

    async def page(self, wanted: Wanted, cursor: int) -> Page:
        """List lanes with live calls; each page is sorted by itself."""
        names: dict[str, None] = {}
        for _ in range(LOOKS):
            cursor, found = await self._queue.lanes(cursor=cursor)
            names.update(dict.fromkeys(lane for lane in found if wanted.takes(lane)))
            if cursor == 0 or len(names) >= PAGE:
                break
        now_us, states = await self._survey(list(names))
        kept = [state for state in states if wanted.held in {None, holding(state) is not None}]
        return Page(now_us=now_us, lanes=sorted(kept, key=lambda one: (-one.waiting, one.lane)), cursor=cursor)

    async def gates(self, wanted: Wanted) -> list[Held]:
        """List what is closed over lanes that may be listed, whether calls wait there or not: the next call would."""
        tools = [one for one in self._catalog().operations.values() if wanted.connector in {None, one.connector}]
        lanes = [f"@{one.connector}||{one.name}" for one in tools if wanted.sees(one.tool)]
        return [
            Held(reason=one.reason, detail=one.detail, until_us=one.until_us, key=one.key)
            for one in sorted(await self._overview.closed(), key=lambda one: one.key)
            if one.key.startswith("@") and any(_meet(one.key, lane) for lane in lanes)
        ]

    async def show(self, name: str, connection: str | None, sees: Callable[[str], bool]) -> Page:
        """Look at one lane, by its name or its tool's; raises `Unfit` and `Nowhere`."""
        if "|" not in name and not sees(name):
            raise Nowhere("", f"there is no lane {name[:256]!r}")  # no near names: the caller may know of none
        lane = lane_of(name, connection, self._catalog())
        connector, _, operation = lane.split("|", 2)
        tool = f"{connector}.{operation}"
        now_us, states = await self._survey([lane])
        declared = self._catalog().operation(tool) is not None
        if not sees(tool) or not (declared or states[0].live):
            raise Nowhere("", f"there is no lane {lane[:256]!r}")
        return Page(now_us=now_us, lanes=states)

    async def load(self) -> Load:
        """Tell how full the queue is."""
        return await self._overview.load()

    async def pause(self, target: Target, *, reason: str, lasting: str | None, by: str) -> Paused:
        """Let no call of the target start until it is resumed, or for a time; raises `Unfit` and `Nowhere`.

        A pause that stands already is replaced. Calls that are under way go on.
        """
        said, for_us = _reason(reason), _microseconds(lasting)
        check(target, self._catalog())
        detail = f"{said.rstrip('.')} (paused by {by})"
        until_us = await self._queue.close(target.gate, HoldReason.PAUSED, for_us=for_us, detail=detail)
        until = stamp(moment(until_us)) if until_us else None
        log.warning("lanes.paused", target=target.text, reason=said, until=until, who=by)
        return Paused(target=target.text, reason=said, by=by, until_us=until_us)

    async def resume(self, target: Target, *, by: str) -> Resumed:
        """End a pause or a quarantine, and the waits within the target that a vendor asked for; ending none is no error. Raises `Nowhere`.

        It may be declared no more. What a person opens too early the vendor closes again.
        """
        closed = [one for one in await self._overview.closed() if one.reason in RESUMED]
        ends = [one for one in closed if _ends(one, target.gate)]
        if ends:
            for one in ends:
                await self._queue.open(one.key, one.reason)
            log.warning("lanes.resumed", target=target.text, who=by)
        else:
            check(target, self._catalog())
        left = {scope_of(one.key) for one in closed if one not in ends}
        return Resumed(
            target=target.text,
            was_paused=any(one.reason is not HoldReason.RATE_LIMIT for one in ends),
            opened=sorted(named(one.key) for one in ends if one.reason is HoldReason.RATE_LIMIT),
            still=sorted({gate_target(gate) for gate in left if _meet(gate, target.gate)}),
        )

    async def _survey(self, lanes: Sequence[str]) -> tuple[int, list[LaneState]]:
        now_us, states = 0, list[LaneState]()
        for at in range(0, len(lanes), SURVEYED):
            now_us, some = await self._queue.survey(lanes[at : at + SURVEYED])
            states += some
        return now_us, states


def _ends(closing: Closing, gate: str) -> bool:
    """Tell whether a resume of `gate` ends a closing: a pause that was made there, and what a vendor or its answers closed within."""
    if closing.reason is HoldReason.PAUSED:
        return closing.key == gate
    return all(not one or one == two for one, two in zip(_parts(gate), _parts(scope_of(closing.key)), strict=True))


def _meet(gate: str, other: str) -> bool:
    """Tell whether two gates have lanes in common: wherever both name something, they name the same."""
    return all(not one or not two or one == two for one, two in zip(_parts(gate), _parts(other), strict=True))


def _parts(gate: str) -> tuple[str, str, str]:
    connector, connection, operation = (*gate.removeprefix("@").split("|", 2), "", "")[:3]
    return connector, connection, operation


def _reason(text: str) -> str:
    said = text.strip()
    if not 0 < len(said) <= MOST_REASON or not said.isprintable():
        raise Unfit("/reason", f"a reason has 1 to {MOST_REASON} printable characters, on one line")
    return said


def _microseconds(lasting: str | None) -> int:
    """Read how long a pause lasts; 0 is until it is resumed."""
    if lasting is None:
        return 0
    try:
        seconds = Duration.parse(lasting).seconds
    except ValueError as error:
        raise Unfit("/for", str(error)) from None
    if seconds > LONGEST_S:
        raise Unfit("/for", "a pause lasts 30d at most; without a time it lasts until it is resumed")
    return max(1, round(seconds * 1_000_000))

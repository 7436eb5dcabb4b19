"""What answers were found to be, told once: one event, one log line and one alert a change, however many calls meet it.

Event and alert are written by the script that notes the finding. Never stops a call: what cannot be written down is logged and tried
again with the next sighting.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.ports import Ambient
from schemas.cloudevent import CloudEvent, publishable
from schemas.codec import encode
from schemas.contracts.finding import Finding, Level
from schemas.contracts.sighting import Noted, Sighting
from schemas.moment import stamp

log = structlog.get_logger()

KIND = "contract.finding"
"""The type of the event; the log line and the alert have the same name."""

EVERY_S = 1.0
"""How often one finding is written down again by this process; between that it is only counted."""

MOST = 4096
"""Findings this process remembers."""

ALERTED = frozenset({Level.BREAKING, Level.RISKY})
"""Levels a person is alerted of; the others are listed."""


class Registry(Protocol):
    """Where findings are kept for the whole fleet."""

    async def note(self, sightings: Sequence[Sighting]) -> list[Noted]:
        """Write down sightings, and tell what is new."""


@dataclass(slots=True)
class _Met:
    written_s: float
    since: int = 0


class ContractWatch:
    """The use-case; one instance a process."""

    def __init__(
        self,
        registry: Registry,
        ambient: Ambient,
        alert: Callable[[str, dict[str, object]], Awaitable[None]],
        count: Callable[[str, Finding], None],
    ) -> None:
        """`alert` publishes and logs that there is too much to tell; `count` is told of each finding that is new."""
        self._registry = registry
        self._ambient = ambient
        self._alert = alert
        self._count = count
        self._met: dict[str, _Met] = {}

    async def met(self, tool: str, call: str, findings: Sequence[Finding]) -> None:
        """Write down the findings of one answer."""
        due = [(one, count) for one in findings if (count := self._due(one.fingerprint))]
        if not due:
            return
        try:
            noted = await self._registry.note([self._sighting(tool, call, one, count) for one, count in due])
            for (one, _), fate in zip(due, noted, strict=True):
                await self._tell(tool, call, one, fate)
        except Exception as error:  # noqa: BLE001 - the call has its answer; nothing here may cost it
            log.warning("contract.unwritten", tool=tool, error=f"{type(error).__name__}: {error}")
            self._remember(due)

    def _sighting(self, tool: str, call: str, found: Finding, count: int) -> Sighting:
        return Sighting(
            fingerprint=found.fingerprint,
            tool=tool,
            call=call,
            count=count,
            finding=encode(found).decode(),
            event=event(tool, found, "open", self._ambient, call=call),
            alert=self._alerting(tool, call, found) if found.level in ALERTED else "",
        )

    def _alerting(self, tool: str, call: str, found: Finding) -> str:
        facts = {**told(tool, found), "call": call}
        now = stamp(self._ambient.now())
        return publishable(CloudEvent(type=KIND, id=self._ambient.new_id(), time=now, data=facts))

    def _due(self, fingerprint: str) -> int:
        """Return how many sightings are to be written down now; 0: it is too early."""
        now_s = self._ambient.monotonic()
        met = self._met.get(fingerprint)
        if met is not None and now_s - met.written_s < EVERY_S:
            met.since += 1
            return 0
        if len(self._met) >= MOST:
            self._met.clear()
        self._met[fingerprint] = _Met(now_s)
        return 1 + (met.since if met else 0)

    def _remember(self, unwritten: Sequence[tuple[Finding, int]]) -> None:
        """Count what was not written down with the next sighting."""
        for found, count in unwritten:
            met = self._met.get(found.fingerprint)
            if met is not None:
                met.since += count

    async def _tell(self, tool: str, call: str, found: Finding, fate: Noted) -> None:
        if fate == "flood":
            action = f"Look at them: sluice contracts show {tool}"
            await self._alert("contract.flood", {"tool": tool, "action": action})
        if fate != "new":
            return
        self._count(tool, found)
        facts = {**told(tool, found), "call": call}
        # `level` is the line's own.
        facts["severity"] = facts.pop("level")
        if found.level in ALERTED:
            log.error("contract.finding", **facts)
        else:
            log.info("contract.finding", **facts)


def told(tool: str, found: Finding) -> dict[str, object]:
    """Return what is told of a finding."""
    return {
        "tool": tool,
        "level": found.level,
        "kind": found.kind,
        "pointer": found.pointer,
        "before": found.before,
        "after": found.after,
        "sentence": found.sentence,
        "action": found.action,
        "fingerprint": found.fingerprint,
    }


def event(tool: str, found: Finding, state: str, ambient: Ambient, **facts: object) -> str:
    """Render `contract.finding` for `tool-events`; `state` is `open`, or what was decided."""
    data = {**told(tool, found), "state": state, **facts}
    now = stamp(ambient.now())
    return publishable(CloudEvent(type=KIND, id=ambient.new_id(), time=now, subject=tool, data=data))

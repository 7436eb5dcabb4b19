"""Quarantine: after a broken contract an operation's writes are held, and the reads of its connector are the canaries.

Reads go on. Those that broke too are watched; when each of them has been clean so many times in a row, the vendor is itself again and the
writes go on. A read that did not break proves nothing about the write: then a person decides.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import structlog

from connectors.contract_guard import UNCHECKED
from connectors.contract_policy import gate_of, held_because, quarantined
from connectors.declared import Operation
from gateway.ports import Closing
from schemas.contracts.baseline import Baseline
from schemas.contracts.finding import Level
from schemas.effect import OperationClass
from schemas.lifecycle import HoldReason
from schemas.outcome import Outcome
from schemas.tool_call import ToolCall

log = structlog.get_logger()

ENOUGH: Final = 3
"""Clean answers in a row of each canary that end a quarantine."""

EVERY_S: Final = 1.0
"""How often a process looks which gates are quarantined: how late it may heed its first canary."""


class Gates(Protocol):
    """What quarantine needs of the lanes."""

    async def hold(self, gate: str, reason: HoldReason, detail: str) -> None:
        """Close a gate until somebody opens it."""

    async def open(self, gate: str, reason: HoldReason) -> None:
        """Open a gate that was closed for this reason."""

    async def canary(self, gate: str, read: str, *, clean: bool, enough: int) -> bool:
        """Note what a canary said; true when the gate is open now because of it."""


class Quarantine:
    """The use-case; one instance a process."""

    def __init__(
        self,
        gates: Gates,
        closed: Callable[[], Awaitable[Sequence[Closing]]],
        baselines: Callable[[Operation], Baseline | None],
    ) -> None:
        """`closed` lists what is closed; `baselines` says what was decided about an operation's findings."""
        self._gates = gates
        self._closed = closed
        self._baselines = baselines
        self._held: frozenset[str] = frozenset()
        self._fresh: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Learn which gates are quarantined, by whichever process."""
        self._fresh = frozenset()
        closed = await self._closed()
        # What was closed here while that was asked may not be in the answer.
        self._held = self._fresh | {one.key for one in closed if one.reason is HoldReason.CONTRACT_QUARANTINE}

    async def heed(self, call: ToolCall, operation: Operation, outcome: Outcome) -> None:
        """Hold what a broken contract holds, before the call ends, so that nothing starts after its end is known."""
        if outcome.contract == UNCHECKED:
            return
        if quarantined(outcome, operation):
            await self._hold(call, operation, outcome)
        elif operation.op_class is OperationClass.SAFE:
            await self._canary(call, operation, outcome)

    async def _hold(self, call: ToolCall, operation: Operation, outcome: Outcome) -> None:
        gate = gate_of(operation, call.connection)
        await self._gates.hold(gate, HoldReason.CONTRACT_QUARANTINE, held_because(outcome, call.tool))
        self._held |= {gate}
        self._fresh |= {gate}
        # Who accepts writes that down before looking for gates: one of both sees the other.
        verdicts = baseline.verdicts() if (baseline := self._baselines(operation)) else {}
        if all(verdicts.get(mark) == "accepted" for mark in _broken(outcome)):
            await self._gates.open(gate, HoldReason.CONTRACT_QUARANTINE)

    async def _canary(self, call: ToolCall, operation: Operation, outcome: Outcome) -> None:
        around = f"@{operation.connector}|{call.connection or ''}|"
        for gate in [one for one in self._held if one.startswith(around)]:
            try:
                opened = await self._gates.canary(gate, call.tool, clean=not _broken(outcome), enough=ENOUGH)
            except Exception as error:  # noqa: BLE001 - the read has its answer; the next one is a canary too
                log.warning("quarantine.unheeded", gate=gate, error=f"{type(error).__name__}: {error}")
                return
            if opened:
                log.warning("quarantine.ended", gate=gate, read=call.tool)
                self._held -= {gate}


def _broken(outcome: Outcome) -> list[str]:
    return [one.fingerprint for one in outcome.findings if one.level is Level.BREAKING]

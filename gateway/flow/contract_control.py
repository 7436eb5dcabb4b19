"""Contracts in the hands of people: what is promised, how answers differ, and whether a difference is accepted.

Deciding writes a baseline first, then the registry, then the gate: after a crash in between, deciding again does the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog

from connectors.catalog import Catalog
from connectors.contract_files import DamagedBaselineError
from connectors.declared import Operation
from gateway.flow.contract_watch import event
from gateway.flow.refusals import Nowhere, Unfit
from gateway.ports import Ambient
from gateway.ports.load import Closing
from schemas.contracts.baseline import Baseline, Verdict, decide, overlaid
from schemas.contracts.finding import Finding, Level, worst_first
from schemas.contracts.sighting import FindingState, SeenFinding
from schemas.lifecycle import HoldReason
from schemas.moment import stamp

log = structlog.get_logger()

MOST_REASON = 200
"""Characters of a decision's reason."""

_MARGIN_US = 5_000_000
"""A sighting may have been counted, and not been written down again, for so long before a gate was closed."""

ALL = "all"
"""In place of a fingerprint: everything that is open."""


class FindingsStore(Protocol):
    """What contract control needs of the registry."""

    async def seen(self) -> list[SeenFinding]:
        """List what is kept."""

    async def judge(self, fingerprint: str, state: FindingState, event: str) -> bool:
        """Write down a decision."""


class BaselineStore(Protocol):
    """What contract control needs of the baselines."""

    def read(self, operation: Operation) -> Baseline | None:
        """Return what was decided so far."""

    def change(self, operation: Operation, step: Callable[[Baseline], Baseline]) -> Baseline:
        """Write the next version."""


class Gates(Protocol):
    """What opens lanes again."""

    async def open(self, gate: str, reason: HoldReason) -> None:
        """Open a gate that was closed for this reason."""


class Closed(Protocol):
    """What lists closings."""

    async def closed(self) -> list[Closing]:
        """List what is closed now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What contract control works with."""

    findings: FindingsStore
    baselines: BaselineStore
    gates: Gates
    overview: Closed


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractState:
    """How the contract of one operation stands."""

    operation: Operation
    baseline: Baseline
    findings: list[SeenFinding]
    """Worst first; also those that were decided."""
    held: list[str]
    """Gates that hold its calls because of it."""

    @property
    def open(self) -> list[SeenFinding]:
        """Return what nobody has decided."""
        return [one for one in self.findings if one.state == "open"]

    @property
    def schema(self) -> dict[str, Any] | None:
        """Return the schema that holds: the declared one, and what was accepted."""
        declared = self.operation.output_schema
        return None if declared is None else overlaid(declared, self.baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a decision did."""

    tool: str
    verdict: Verdict
    version: int
    findings: list[Finding]
    opened: list[str]
    """Gates that let calls through again."""


class ContractControl:
    """The use-case; one instance a process."""

    def __init__(self, stores: Stores, catalog: Callable[[], Catalog], ambient: Ambient) -> None:
        """`catalog` is asked each time, so that a reloaded one is used at once."""
        self._stores = stores
        self._catalog = catalog
        self._ambient = ambient

    async def ls(self, sees: Callable[[str], bool], connector: str | None = None) -> list[ContractState]:
        """List operations with a contract or a finding, those with the worst open finding first."""
        seen, closed = await self._stores.findings.seen(), await self._stores.overview.closed()
        named = {one.tool for one in seen}
        shown = [
            self._state(operation, seen, closed)
            for operation in self._catalog().operations.values()
            if (operation.output_schema is not None or operation.tool in named)
            and sees(operation.tool)
            and connector in {None, operation.connector}
        ]
        return sorted(shown, key=_urgent_first)

    async def show(self, tool: str, sees: Callable[[str], bool]) -> ContractState:
        """Look at one; raises `Nowhere`."""
        operation = self._operation(tool, sees)
        return self._state(operation, await self._stores.findings.seen(), await self._stores.overview.closed())

    async def judge(self, tool: str, fingerprint: str, verdict: Verdict, *, reason: str, by: str) -> Judged:
        """Accept or reject a finding, or `all` that are open; raises `Unfit` and `Nowhere`.

        Once no breaking finding is left open or rejected, the calls that were held for it go on.
        """
        said, state = _reason(reason), await self.show(tool, lambda _: True)
        chosen = _chosen(state, fingerprint)
        at = stamp(self._ambient.now())

        def step(baseline: Baseline) -> Baseline:
            for one in chosen:
                baseline = decide(baseline, one, verdict, by=by, at=at, reason=said)
            return baseline

        try:
            after = self._stores.baselines.change(state.operation, step)
        except DamagedBaselineError as error:
            raise Unfit("", str(error)) from None
        for one in chosen:
            facts = event(tool, one, verdict, self._ambient, by=by, reason=said, version=after.version)
            await self._stores.findings.judge(one.fingerprint, verdict, facts)
            log.warning("contract.judged", tool=tool, fingerprint=one.fingerprint, verdict=verdict, who=by, reason=said)
        opened = await self._opened(state, after)
        return Judged(tool=tool, verdict=verdict, version=after.version, findings=chosen, opened=opened)

    async def _opened(self, state: ContractState, after: Baseline) -> list[str]:
        """Open what is held for nothing but accepted findings; looks only now, see `Quarantine`."""
        verdicts, opened = after.verdicts(), list[str]()
        left = [
            one.last_us
            for one in state.findings
            if one.finding.level is Level.BREAKING and verdicts.get(one.finding.fingerprint) != "accepted"
        ]
        for one in await self._stores.overview.closed():
            # What was last seen before the gate was closed is not what holds it.
            if _holds(one, state.operation) and all(last_us < one.since_us - _MARGIN_US for last_us in left):
                await self._stores.gates.open(one.key, HoldReason.CONTRACT_QUARANTINE)
                opened.append(one.key)
        return sorted(opened)

    def _state(self, operation: Operation, seen: Sequence[SeenFinding], closed: Sequence[Closing]) -> ContractState:
        baseline = _baseline(self._stores.baselines, operation)
        verdicts = baseline.verdicts()
        # The file is what counts: the registry may have forgotten, or not have been told before a crash.
        own = [
            msgspec.structs.replace(one, state=verdicts.get(one.finding.fingerprint, "open"))
            for one in seen
            if one.tool == operation.tool
        ]
        return ContractState(
            operation=operation,
            baseline=baseline,
            findings=sorted(own, key=lambda one: worst_first(one.finding)),
            held=sorted(one.key for one in closed if _holds(one, operation)),
        )

    def _operation(self, tool: str, sees: Callable[[str], bool]) -> Operation:
        operation = self._catalog().operation(tool) if sees(tool) else None
        if operation is None:
            raise Nowhere("", f"there is no tool {tool[:256]!r}")
        return operation


def _baseline(store: BaselineStore, operation: Operation) -> Baseline:
    try:
        return store.read(operation) or Baseline(tool=operation.tool)
    except DamagedBaselineError:
        return Baseline(tool=operation.tool)


def _holds(closing: Closing, operation: Operation) -> bool:
    connector, _, name = (*closing.key.removeprefix("@").split("|", 2), "", "")[:3]
    mine = (connector, name) == (operation.connector, operation.name)
    return mine and closing.reason is HoldReason.CONTRACT_QUARANTINE


def _chosen(state: ContractState, fingerprint: str) -> list[Finding]:
    if fingerprint == ALL:
        return [one.finding for one in state.open]
    known = {one.finding.fingerprint: one.finding for one in state.findings}
    known |= {one.finding.fingerprint: one.finding for one in state.baseline.decisions}
    if fingerprint not in known:
        raise Nowhere("/fingerprint", f"{state.operation.tool} has no finding {fingerprint[:64]!r}")
    return [known[fingerprint]]


def _urgent_first(state: ContractState) -> tuple[bool, tuple[int, str, str], str]:
    first = state.open[0].finding if state.open else None
    return first is None, worst_first(first) if first else (0, "", ""), state.operation.tool


def _reason(text: str) -> str:
    said = text.strip()
    if not 0 < len(said) <= MOST_REASON or not said.isprintable():
        raise Unfit("/reason", f"a reason has 1 to {MOST_REASON} printable characters, on one line")
    return said

"""What the calls of each tool take of which limits, in the words of the queue. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from connectors.declared import Operation, Use
from gateway.ports import Need, Plan
from schemas.codec import sha256
from schemas.effect import OperationClass
from schemas.tool_call import ToolCall

WEIGHTS = {"interactive": 8, "normal": 4, "batch": 1}
"""Share of a lane by priority class, while all of them wait."""


def plans(operations: Iterable[Operation], *, grace_us: int) -> dict[str, Plan]:
    """Return the plan of every tool by `connector|operation`; `grace_us` is what a lease has beyond the timeout."""
    found = {f"{one.connector}|{one.name}": plan(one, grace_us=grace_us) for one in operations}
    longest: dict[str, int] = {}
    for name, one in found.items():
        for need in one.needs:
            key = _shared(name, need)
            longest[key] = max(longest.get(key, 0), one.hold_us)
    return {
        name: msgspec.structs.replace(
            one, needs=[msgspec.structs.replace(need, hold_us=longest[_shared(name, need)]) for need in one.needs]
        )
        for name, one in found.items()
    }


def _shared(name: str, need: Need) -> str:
    """Name what shares a limit: the operations of a connector, or one operation alone."""
    return f"{name if need.per == 'operation' else name.partition('|')[0]}|{need.name}"


def plan(operation: Operation, *, grace_us: int) -> Plan:
    """Return what each call of an operation takes."""
    needs = [_need(use) for use in operation.uses]
    hold_us = int(operation.timeout_s * 1_000_000) + grace_us
    return Plan(hold_us=hold_us, safe=operation.op_class is OperationClass.SAFE, needs=needs)


def flow_of(call: ToolCall) -> str:
    """Name whose turn it is: a session of an agent, or a replay, in few bytes, since every one that waits is remembered."""
    if call.replayed is not None:
        return sha256("replay", call.replayed.replay)[:16]
    return sha256(call.agent, call.session or "")[:16]


def reserved(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the upper estimate of each cost that differs from call to call; None when all are fixed.

    Raises ValueError when the arguments do not tell one; admission has refused such a call before.
    """
    weighted = {use.limit.name: use.cost_of(arguments) for use in operation.uses if use.estimate is not None}
    return weighted or None


def actual(operation: Operation, result: Any) -> dict[str, int] | None:
    """Return the costs that the response tells, by limit; what it does not tell stays as it was reserved."""
    found = {use.limit.name: use.actual_of(result) for use in operation.uses if use.actual is not None}
    told = {name: cost for name, cost in found.items() if cost is not None}
    return told or None


def _need(use: Use) -> Need:
    limit = use.limit
    return Need(
        name=limit.name,
        per=limit.per,
        kind=limit.kind,
        most=limit.most,
        window_us=limit.window_us,
        cost=use.cost,
        weighted=use.estimate is not None,
    )

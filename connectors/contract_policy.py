"""What a broken contract does to a call: `warn`, `quarantine_writes` or `block`. Pure.

The answer is here, so whatever was asked for has been done: no policy repeats a call or says that it did not run.
"""

import msgspec

from connectors.contract_guard import Checked
from connectors.declared import Operation
from schemas.contracts.finding import Level
from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.outcome import Outcome, Reply


def apply(outcome: Outcome, checked: Checked, operation: Operation, reply: Reply) -> Outcome:
    """Return a completed attempt's outcome with what was found; under `block` a broken contract is a failure with its letter.

    `reply` is what the letter keeps of the answer.
    """
    told = msgspec.structs.replace(outcome, findings=checked.findings, contract=checked.contract)
    if not checked.breaking or operation.on_breaking != "block" or outcome.failure is not None:
        return told
    safe = operation.op_class is OperationClass.SAFE
    worst, others = checked.findings[0], sum(one.level is Level.BREAKING for one in checked.findings) - 1
    more = f" And {others} more." if others else ""
    return msgspec.structs.replace(
        told,
        effect=Effect.NOT_EXECUTED if safe else Effect.EXECUTED,
        failure=Failure.SCHEMA_BREAKING,
        message=f"The vendor's answer breaks the contract. {worst.sentence}{more}",
        result=None,
        reply=reply,
    )


def quarantined(outcome: Outcome, operation: Operation) -> bool:
    """Tell whether this operation's calls are to be held now that its contract was broken.

    Reads go on: they change nothing, and they show when the vendor is itself again.
    """
    broken = any(one.level is Level.BREAKING for one in outcome.findings)
    return broken and operation.on_breaking == "quarantine_writes" and operation.op_class is not OperationClass.SAFE


def gate_of(operation: Operation, connection: str | None) -> str:
    """Return the gate of an operation's calls on one connection."""
    return f"@{operation.connector}|{connection or ''}|{operation.name}"


def held_because(outcome: Outcome, tool: str) -> str:
    """Say why the gate is closed, for everybody who waits behind it."""
    worst = outcome.findings[0]
    return f"{worst.sentence.rstrip('.')}; to judge it: sluice contracts show {tool}"

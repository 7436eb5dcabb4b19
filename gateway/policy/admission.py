"""May this event become a call? Pure: the event, the catalog and the time in; a call or a refusal out.

Only the state of the lanes is not judged here: duplicates, conflicts and full lanes are known inside `enqueue` alone.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from connectors.catalog import Catalog, Unknown
from connectors.declared import Connection, Operation
from gateway.policy import scope
from schemas.codec import pointed
from schemas.failure import Failure
from schemas.moment import microseconds
from schemas.tool_call import TENANT, Origin, Request, ToolCall, ToolCallData

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Deadlines outside are mistakes, and their microseconds would not fit where they are kept."""

_ZONE = re.compile(r"(?:[Zz]|[+-]\d\d:\d\d)$")

VENDOR_KEY_LENGTH = 32
"""Characters of the key sent to a vendor: within every vendor's limit that we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A decoded request from any door, with its caller already known."""

    call: str
    """The id it will have if it is admitted, or was refused under."""
    data: Mapping[str, Any]
    agent: str
    request: Request
    key: str
    """The idempotency key when the data names none."""
    traceparent: str | None
    origin: Origin
    now: datetime
    ran: bool = False
    """It ran at the vendor: only its answer is judged again, so its arguments and secrets need not fit any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """It may wait in its lane; `late` calls are only looked up, since a duplicate of a finished call is lawful at any time."""

    call: ToolCall
    operation: Operation
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """It may not, for this reason."""

    failure: Failure
    message: str
    errors: list[dict[str, str]] = field(default_factory=list)
    """Argument errors: JSON pointer and message."""


class _Refused(Exception):  # noqa: N818 - control flow inside this file only
    def __init__(self, failure: Failure, message: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.refuse = Refuse(failure=failure, message=message, errors=errors or [])


def admit(incoming: Incoming, catalog: Catalog, *, deadline_s: float) -> Admit | Refuse:
    """Judge one event; `deadline_s` applies when it names no deadline."""
    try:
        data = _fields(incoming.data)
        operation = _operation(data, incoming.agent, catalog)
        connection = _connection(data, operation, catalog)
        if not incoming.ran:
            _arguments(data, operation)
            _usable(connection)
        deadline = _deadline(data, incoming.now, deadline_s)
    except _Refused as refused:
        return refused.refuse
    call = _call(incoming, data, operation, connection, deadline)
    return Admit(call=call, operation=operation, late=deadline <= incoming.now)


def _fields(data: Mapping[str, Any]) -> ToolCallData:
    try:
        return msgspec.convert(data, ToolCallData)
    except msgspec.ValidationError as error:
        pointer, text = pointed(error)
        errors = [{"pointer": "/data" + pointer, "message": text}]
        raise _Refused(Failure.INGEST_MALFORMED, str(error), errors) from None


def _operation(data: ToolCallData, agent: str, catalog: Catalog) -> Operation:
    operation = catalog.operation(data.tool)
    scopes = {name: declared.allow for name, declared in catalog.agents.items()}
    if operation is None:
        near = scope.nearest(agent, data.tool, catalog.operations, scopes)
        hint = f'; did you mean "{near}"?' if near else ""
        raise _Refused(Failure.INGEST_UNKNOWN_TOOL, f'there is no tool "{data.tool}"{hint}')
    if not scope.allowed(agent, data.tool, scopes):
        raise _Refused(Failure.INGEST_SCOPE, f'agent "{agent}" may not call "{data.tool}"')
    return operation


def _connection(data: ToolCallData, operation: Operation, catalog: Catalog) -> Connection | None:
    found = catalog.connection_for(operation, data.connection)
    if isinstance(found, Unknown):
        raise _Refused(Failure.INGEST_UNKNOWN_CONNECTION, found.message)
    return found


def _usable(connection: Connection | None) -> None:
    if connection is not None and connection.missing:
        names = ", ".join(sorted(connection.missing))
        raise _Refused(Failure.TOKEN_CONFIG, f'connection "{connection.name}" lacks its secret {names}')


def _arguments(data: ToolCallData, operation: Operation) -> None:
    errors = [(error.pointer, error.message) for error in operation.argument_errors(data.arguments)]
    listed = [
        {"pointer": "/data/arguments" + pointer, "message": message}
        for pointer, message in errors or _unpayable(data.arguments, operation)
    ]
    if listed:
        first = f"{listed[0]['pointer']}: {listed[0]['message']}"
        raise _Refused(Failure.INGEST_ARGUMENTS, f"the arguments do not fit {operation.tool}: {first}", listed)


def _unpayable(arguments: Mapping[str, Any], operation: Operation) -> Iterator[tuple[str, str]]:
    """Yield where and why no limit could ever let these arguments pass."""
    for use in operation.uses:
        try:
            use.cost_of(arguments)
        except ValueError as refused:
            yield use.estimate or "", str(refused)


def _deadline(data: ToolCallData, now: datetime, deadline_s: float) -> datetime:
    if data.deadline is None:
        return now + timedelta(seconds=deadline_s)
    try:
        deadline = msgspec.convert(data.deadline, datetime).astimezone(UTC) if _ZONE.search(data.deadline) else None
    except (msgspec.ValidationError, OverflowError):
        deadline = None
    if deadline is None or not EARLIEST <= deadline <= LATEST:
        message = f'"deadline" is not an RFC 3339 time with a zone between {EARLIEST.year} and {LATEST.year}: {data.deadline[:64]!r}'
        raise _Refused(Failure.INGEST_MALFORMED, message, [{"pointer": "/data/deadline", "message": message}])
    return deadline


def _call(
    incoming: Incoming, data: ToolCallData, operation: Operation, connection: Connection | None, deadline: datetime
) -> ToolCall:
    name = connection.name if connection else None
    key = data.idempotency_key or incoming.key
    return ToolCall(
        id=incoming.call,
        tool=data.tool,
        connector=operation.connector,
        connection=name,
        op_class=operation.op_class,
        arguments=data.arguments,
        agent=incoming.agent,
        session=data.session,
        priority=data.priority,
        key=key,
        vendor_key=hashlib.sha256(f"{TENANT}|{name or ''}|{data.tool}|{key}".encode()).hexdigest()[:VENDOR_KEY_LENGTH],
        accepted_us=microseconds(incoming.now),
        deadline_us=microseconds(deadline),
        timeout_us=int(operation.timeout_s * 1_000_000),
        confidence=data.confidence,
        reservation=data.reservation,
        traceparent=incoming.traceparent,
        request=incoming.request,
        origin=incoming.origin,
    )

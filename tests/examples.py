"""One ordinary operation and one ordinary call, to be changed in the one respect a test is about."""

from dataclasses import replace
from typing import Any

import msgspec

from connectors.declared import Auth, Egress, Operation
from schemas.effect import OperationClass
from schemas.tool_call import Origin, Request, ToolCall

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"

_OPERATION = Operation(
    tool="crm.contacts.create",
    connector="crm",
    name="contacts.create",
    op_class=OperationClass.UNSAFE,
    method="POST",
    path="/v1/contacts",
    query={},
    headers={},
    base_url="https://crm.example.com",
    timeout_s=5.0,
    max_attempts=5,
    idempotency_header=None,
    idempotency_window_s=None,
    auth=Auth(type="none"),
    egress=Egress(allow_hosts=("crm.example.com",), allow_private=False),
    input_schema=None,
    output_schema=None,
    approval_required=False,
)
_CALL = ToolCall(
    id="01JC0000000000000000000000",
    tool="crm.contacts.create",
    connector="crm",
    connection=None,
    op_class=OperationClass.UNSAFE,
    arguments={},
    agent="research-7",
    session=None,
    priority="normal",
    key="agent/research-7:e-1",
    vendor_key="f" * 32,
    accepted_us=0,
    deadline_us=0,
    timeout_us=5_000_000,
    traceparent=f"00-{TRACE}-{SPAN}-01",
    request=Request(source="agent/research-7", id="e-1"),
    origin=Origin(engine="http"),
)


def operation(**changes: Any) -> Operation:
    """Return the ordinary operation with `changes`."""
    return replace(_OPERATION, **changes)


def tool_call(arguments: dict[str, Any] | None = None, **changes: Any) -> ToolCall:
    """Return the ordinary call with `arguments` and `changes`."""
    return msgspec.structs.replace(_CALL, arguments=arguments or {}, **changes)

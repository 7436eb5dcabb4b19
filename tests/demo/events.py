"""The 500 events of the demo: mostly good, some twice, some wrong in each of the ways that agents get wrong."""

import json
import random
from collections.abc import Iterator
from typing import Any

EVENTS = 500
TRACE = "00-{:032x}-00f067aa0ba902b7-01"


def events() -> list[bytes]:
    """Return the same 500 bodies every time, shuffled."""
    bodies = [*_good(), *_twice(), *_conflicts(), *_wrong(), *_poison()]
    if len(bodies) != EVENTS:
        message = f"{len(bodies)} events, {EVENTS} were promised"
        raise AssertionError(message)
    random.Random(20_261_120).shuffle(bodies)
    return bodies


def _event(identity: str, tool: str, arguments: dict[str, Any]) -> bytes:
    number = sum(identity.encode()) + 1
    event = {
        "specversion": "1.0",
        "type": "tool.call.requested",
        "source": "agent/demo",
        "id": identity,
        "time": "2026-11-20T09:00:00Z",
        "traceparent": TRACE.format(number),
        "data": {"tool": tool, "arguments": arguments, "session": f"run-{number % 7}"},
    }
    return json.dumps(event).encode()


def _contact(number: int, name: str = "Ada") -> bytes:
    return _event(f"contact-{number}", "crm.contacts.create", {"email": f"p{number}@example.com", "name": name})


def _good() -> Iterator[bytes]:
    for number in range(180):
        yield _contact(number)
    for number in range(120):
        yield _event(f"message-{number}", "crm.messages.send", {"ref": f"m{number}", "text": "hello"})
    for number in range(100):
        yield _event(f"read-{number}", "crm.contacts.get", {"id": f"c{number}"})


def _twice() -> Iterator[bytes]:
    """Delivered again, as every broker does now and then."""
    for number in range(50):
        yield _contact(number)


def _conflicts() -> Iterator[bytes]:
    """The same key with another payload: one of the two must lose, and be told."""
    for number in range(170, 175):
        yield _contact(number, name="Somebody Else")


def _wrong() -> Iterator[bytes]:
    for number in range(20):
        yield _event(f"typo-{number}", "crm.contacts.create", {"e-mail": f"x{number}@example.com"})
    for number in range(15):
        yield _event(f"unknown-{number}", "crm.contact.create", {"email": f"y{number}@example.com"})


def _poison() -> Iterator[bytes]:
    """Bytes that are no event at all."""
    yield b"{not json"
    yield b'{"specversion":"1.0","type":"tool.call.requested","source":"a","id":"1","data":{"tool":"crm.echo","arguments":{"x":NaN}}}'
    yield b"\xff\xfe\x00 not utf-8"
    yield b"[" * 5000
    yield b'{"specversion":"1.0","type":"something.else","source":"a","id":"2","data":{}}'
    yield b'{"specversion":"1.0","type":"tool.call.requested","source":"a","id":"3","data":{"tool":7,"arguments":{}}}'
    yield b'{"specversion":"1.0","type":"tool.call.requested","source":"a","id":"4","data":{"tool":"crm.echo"}}'
    yield b""
    yield b"null"
    yield b'"' + b"x" * 300_000 + b'"'

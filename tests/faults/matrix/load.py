"""The calls of a run: every operation class, several agents and sessions, and secrets in them that must turn up nowhere."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

CREDENTIAL = "canary-credential-5f1c9d7e"
"""What the gateway shows the vendor. It may lie nowhere at all: not in Redis, not on a disk, not in a log."""

ARGUMENT = "canary-argument-8b2e4a60"
"""What stands in the arguments of calls. The vendor repeats it in its answers; it may be in no log, event, letter or alert."""

AGENTS = ("north", "south", "east")
SESSIONS = ("one", "two")

OPERATIONS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "safe": ("contacts.get", lambda ref: {"id": ref}),
    "idempotent": ("contacts.update", lambda ref: {"id": ref.partition("@")[0], "email": ref, "name": ARGUMENT}),
    "keyed": ("contacts.create", lambda ref: {"email": ref, "name": ARGUMENT}),
    "verifiable": ("orders.create", lambda ref: {"ref": ref, "item": ARGUMENT}),
    "unsafe": ("messages.send", lambda ref: {"ref": ref, "text": ARGUMENT}),
}
"""Of each class an operation of the scripted vendor, and the arguments by which the vendor's books know a call again."""

ALL = tuple(OPERATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One event that was published, and by what name the vendor's books know its effect."""

    id: str
    agent: str
    session: str
    op_class: str
    operation: str
    ref: str
    raw: bytes


def call(number: int, op_class: str, *, agent: str = "north", session: str = "one", **data: Any) -> Call:
    """Make one call; `data` goes beside tool and arguments into the event."""
    operation, arguments = OPERATIONS[op_class]
    ref = f"{op_class[0]}{number}@example.com"
    told = {"tool": f"crm.{operation}", "arguments": arguments(ref), "session": session, **data}
    event = {"specversion": "1.0", "type": "tool.call.requested", "source": f"agent/{agent}", "id": f"e{number}"}
    raw = json.dumps({**event, "data": told}).encode()
    return Call(id=f"e{number}", agent=agent, session=session, op_class=op_class, operation=operation, ref=ref, raw=raw)


def mix(count: int, dice: Random, classes: Sequence[str] = ALL) -> list[Call]:
    """Make so many calls of these classes, in an order that only the seed knows."""
    made = [
        call(number, classes[number % len(classes)], agent=dice.choice(AGENTS), session=dice.choice(SESSIONS))
        for number in range(count)
    ]
    dice.shuffle(made)
    return made

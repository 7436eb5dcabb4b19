"""What is said about a call that waits for a person, and what the queue answers."""

from dataclasses import dataclass
from typing import Protocol

from gateway.ports.claims import Claim, Run
from schemas.review import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What somebody says about a call."""

    call: str
    hash: str
    """What it is about; empty when the time ran out."""
    decision: Decision
    by: str
    reason: str
    event: str
    """Tells of it on `tool-events`."""


@dataclass(frozen=True, slots=True)
class Released:
    """It is in its lane now."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The caller has to end it."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Decided:
    """Somebody was first, or the call no longer waits for a person."""

    run: Run


@dataclass(frozen=True, slots=True)
class Changed:
    """What was decided about is not what waits."""

    hash: str


@dataclass(frozen=True, slots=True)
class Early:
    """There is still time to decide."""


Answer = Released | Taken | Decided | Changed | Early | None
"""None: nobody knows the call any more."""


class ReviewQueue(Protocol):
    """What approvals need of the calls."""

    async def waiting(self, *, most: int, until_us: int | None = None) -> list[str]:
        """List calls that wait for a person."""

    async def now_us(self) -> int:
        """Return the queue's time."""

    async def decide(self, word: Word, *, lease_us: int) -> Answer:
        """Write a decision down; the first one counts."""

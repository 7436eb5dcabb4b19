"""What the use-cases need of the lanes."""

from collections.abc import Sequence
from typing import Literal, Protocol

from connectors.exchange import Marked
from gateway.ports.admission import Admission, Answer, Refusal
from gateway.ports.claims import Claim, Mark, Settled, Settlement
from gateway.ports.views import Known
from schemas.lifecycle import HoldReason


class IntakeQueue(Protocol):
    """What intake needs of the lanes."""

    async def enqueue(self, admissions: Sequence[Admission]) -> list[Answer]:
        """Store calls and acknowledge their sources in one step."""

    async def admit(self, admission: Admission) -> Answer:
        """Store one call together with those that arrive at the same time."""

    async def refuse(self, refusals: Sequence[Refusal]) -> list[str]:
        """End events that never reach a lane."""


class DeliveryQueue(Protocol):
    """What delivery needs of the lanes."""

    async def mark(self, mark: Mark) -> Marked:
        """Tell whether the claim may begin to send; the mark is durable before this says so."""

    async def settle(self, settlement: Settlement) -> Settled:
        """End or defer a claim."""

    async def hold(self, gate: str, reason: HoldReason, detail: str) -> None:
        """Close a gate until somebody opens it; does not return before it is closed."""


class StatusQueue(Protocol):
    """What status and cancelling need of the lanes."""

    async def inspect(self, call: str) -> Known:
        """Look at one call."""

    async def seize(self, call: str) -> Claim | Literal["busy", "gone"]:
        """Take one waiting call out of its lane."""

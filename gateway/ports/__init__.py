"""What the use-cases and the lanes say to each other: frozen messages and the small protocols between them.

Times are integers in microseconds of the queue's own clock (Redis `TIME`), named `…_us`.
"""

from gateway.ports.admission import (
    Admission,
    Admitted,
    Answer,
    Barred,
    Conflict,
    Duplicate,
    Flooded,
    Full,
    Heavy,
    Journalled,
    Late,
    Refusal,
    Seen,
)
from gateway.ports.ambient import Ambient
from gateway.ports.claims import (
    Claim,
    Claims,
    Doubt,
    Lesson,
    Mark,
    Need,
    Permit,
    Plan,
    Run,
    Settled,
    Settlement,
    Slots,
    Way,
)
from gateway.ports.load import Closing, Gauges, Load
from gateway.ports.queues import DeliveryQueue, IntakeQueue, StatusQueue
from gateway.ports.views import Budget, Ended, Held, Known, LaneState, Live

__all__ = [
    "Admission",
    "Admitted",
    "Ambient",
    "Answer",
    "Barred",
    "Budget",
    "Claim",
    "Claims",
    "Closing",
    "Conflict",
    "DeliveryQueue",
    "Doubt",
    "Duplicate",
    "Ended",
    "Flooded",
    "Full",
    "Gauges",
    "Heavy",
    "Held",
    "IntakeQueue",
    "Journalled",
    "Known",
    "LaneState",
    "Late",
    "Lesson",
    "Live",
    "Load",
    "Mark",
    "Need",
    "Permit",
    "Plan",
    "Refusal",
    "Run",
    "Seen",
    "Settled",
    "Settlement",
    "Slots",
    "StatusQueue",
    "Way",
]

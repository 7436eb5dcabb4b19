"""What the composition root hands to the API."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from litestar.connection import ASGIConnection

from connectors.catalog import Catalog
from gateway.flow.alert_control import AlertControl
from gateway.flow.approvals import Approvals
from gateway.flow.breaker_control import BreakerControl
from gateway.flow.connection_control import ConnectionControl
from gateway.flow.contract_control import ContractControl
from gateway.flow.dead_letters import DeadLetters
from gateway.flow.health import Health
from gateway.flow.intake import Intake
from gateway.flow.lane_control import LaneControl
from gateway.flow.preflight import Preflight
from gateway.flow.replay_control import ReplayControl
from gateway.flow.status import Status
from gateway.journal.calls import Calls
from gateway.journal.follow import Following
from gateway.ports import Ambient, Gauges


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing the gateway needs in order to work, and whether it has it."""

    name: str
    ok: bool
    detail: str


class Shard(Protocol):
    """A part of the queue."""

    async def stats(self) -> dict[str, int]:
        """Count its events by fate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """Use-cases and facts; the API owns none of them."""

    intake: Intake
    status: Status
    history: Calls
    following: Following
    lanes: LaneControl
    breakers: BreakerControl
    connections: ConnectionControl
    contracts: ContractControl
    approvals: Approvals
    alerts: AlertControl
    health: Health
    preflight: Preflight
    letters: DeadLetters
    replays: ReplayControl
    catalog: Callable[[], Catalog]
    ready: Callable[[], Awaitable[list[Check]]]
    stats: Callable[[], Awaitable[dict[str, int]]]
    shard_of: Callable[[str], Shard]
    """Returns the part of the queue that the calls of a tool wait in."""
    gauges: Callable[[], Awaitable[Gauges]]
    asyncapi: Callable[[], bytes]
    max_body_bytes: int
    queue_bytes: int
    """What the calls that wait may take together."""
    ambient: Ambient


def parts_of(connection: ASGIConnection[Any, Any, Any, Any]) -> ApiParts:
    """Return the parts this application was built with."""
    parts: ApiParts = connection.app.state.parts
    return parts

"""What was found out about one lane: evidence for preflight and health alike, gathered elsewhere and judged by `checks`. Pure values."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.auth.found import Found
from connectors.auth.token_store import Kept
from connectors.breaking.standing import Standing
from connectors.breaking.window import Counts
from connectors.declared import Connection, Operation
from connectors.reach import Reached
from gateway.policy.evidence import NOTHING, Evidence
from gateway.ports import LaneState, Load
from schemas.contracts.sighting import SeenFinding
from schemas.lifecycle import HoldReason
from schemas.preflight import Eta


@dataclass(frozen=True, slots=True, kw_only=True)
class Shut:
    """One closing of a gate or limit on a lane's way."""

    reason: HoldReason
    detail: str
    left_s: float | None
    """Until it opens by itself; None: until somebody acts."""
    target: str
    """As the commands take it."""
    limit: str | None = None
    """The limit's name, where it is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """How a credential that has to be fetched stands."""

    kept: Kept
    tested: Found | None = None
    """What came of asking for a new one just now."""
    asks: bool = False
    """Nobody has consented yet."""
    consents: bool = False
    """A person may consent in a browser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How full the queue is."""

    load: Load
    bound: int
    """Calls the lane may hold."""
    most_bytes: int
    workers: bool
    """Whether any worker gave a sign of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFacts:
    """Everything that is known of one lane."""

    operation: Operation
    connection: Connection | None
    origin: str
    now_us: int
    state: LaneState
    room: Room
    seen: Evidence = NOTHING
    token: Token | None = None
    standing: Standing | None = None
    counts: Counts = field(default_factory=Counts)
    """Of the breaker's window."""
    now_s: float = 0.0
    """On the clock of the standing."""
    closings: Sequence[Shut] = ()
    findings: Sequence[SeenFinding] = ()
    """Of its contract: those that were not accepted."""
    reached: Sequence[tuple[Reached, float]] = ()
    whole: bool = True
    """Whether sums may be told that are also other agents'."""

    @property
    def named(self) -> str:
        """The connection as the commands take it."""
        return f"{self.operation.connector}/{self.connection.name if self.connection else '-'}"

    @property
    def target(self) -> str:
        """The lane as the commands take it."""
        return self.operation.tool + (f" --connection {self.connection.name}" if self.connection else "")

    def shut(self, *reasons: HoldReason) -> Shut | None:
        """Return the closing for one of these reasons that lasts longest."""
        found = [one for one in self.closings if one.reason in reasons]
        return max(found, key=lambda one: float("inf") if one.left_s is None else one.left_s, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When one step's calls will have ended."""

    eta: Eta | None
    """None: somebody has to act first."""
    alone: Eta
    """With empty limits, and without what waits already."""
    known: bool = True
    """Whether response times were seen; else they are assumed."""
    tightest: str = ""
    """The limit that binds, in words; empty: none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What a plan has time for, in seconds from now."""

    needs_s: float
    """How long credentials and contracts must last."""
    horizon_s: float
    """When the last call must have ended."""
    deadline_s: float | None
    """The plan's own deadline; None: it has none."""
    waits_s: float
    """How long a call may wait to start that names no deadline."""

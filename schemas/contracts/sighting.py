"""A finding as the fleet keeps it: sightings in, one record out. Times are integers in microseconds of the queue's clock."""

from typing import Literal

import msgspec

from schemas.contracts.finding import Finding

FindingState = Literal["open", "accepted", "rejected"]

Noted = Literal["new", "known", "muted", "flood"]
"""What came of a sighting: told for the first time; counted; new, but too many of its tool were told; the first of those."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One finding in the answers of a tool; field names are those of `finding.lua`."""

    fingerprint: str
    tool: str
    call: str
    """A sample of the calls whose answers had it."""
    count: int
    finding: str
    """As JSON."""
    event: str
    """Told when it is new."""
    alert: str
    """As `event`, for people; empty when nobody has to act."""


class SeenFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A finding as it stands: since when, how often, and what was decided."""

    finding: Finding
    tool: str
    first_us: int
    last_us: int
    count: int
    call: str
    state: FindingState

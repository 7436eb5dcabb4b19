"""Alerts as they are told: what kinds there are, and one record a pattern. Times named `…_us` are of the queue's clock."""

from enum import StrEnum
from typing import Literal

import msgspec

OPENED = "alert.opened"
RESOLVED = "alert.resolved"

AlertState = Literal["pending", "open", "resolved"]


class AlertKind(StrEnum):
    """The patterns that are watched."""

    SIMILAR = "failure.similar"
    LETTERS = "letters.growth"
    BREAKER = "breaker.open"
    CONSENT = "token.needs_consent"
    CONFIG = "token.config_error"
    CONTRACT = "contract.breaking"
    CAPPED = "alerts.capped"


class AlertRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How one pattern stands; field names are those of `alert.lua`."""

    key: str
    """Kind and subject."""
    subject: str
    """What it is about: a fingerprint, a breaker, a connection, a tool."""
    kind: AlertKind
    state: AlertState
    """`pending`: it holds, but not for long enough, or no more alerts may open in this hour."""
    alert: str
    """The id of the last alert; empty when there was none."""
    since_us: int
    """Since when the pattern holds."""
    opened_us: int
    opened: str
    last_us: int
    """When it was last seen to hold."""
    count: int
    sentence: str
    action: str
    sample: str
    """As JSON."""
    quiet_us: int
    """Since when an open alert is quiet; 0: it is not."""
    resolved_us: int
    resolved: str
    by: str
    """Whose word resolved it; empty: it was quiet."""
    reason: str
    flaps: int
    """How often it came back soon."""
    muted: int = 0
    """1: a person resolved it while it held; it may open again when it was quiet once."""
    capped: int = 0
    """1: it would be open, but too many alerts were opened in the last hour."""

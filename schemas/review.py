"""A person's decision before a call runs: what exactly it is about, until when, and what was said."""

from enum import StrEnum
from typing import Literal

import msgspec


class Decision(StrEnum):
    """How a review ended."""

    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    """Nobody decided in time."""


class Review(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call's review; field names are those of `enqueue.lua` and `review.lua`."""

    hash: str
    """Of exactly what would run; a decision is about this and nothing else."""
    wait_us: int
    """How long somebody may take to decide."""
    on_timeout: Literal["reject", "escalate"]
    asked_us: int = 0
    until_us: int = 0
    flow: str = ""
    weight: int = 0
    decision: Decision | None = None
    by: str = ""
    reason: str = ""
    decided_us: int = 0

"""What is asked before a long task, and what is answered: a plan, its verdict, and the checks that the verdict rests on."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec

MOST_STEPS = 200
MOST_CALLS = 10_000_000
LONGEST_S = 30 * 86_400


class Status(StrEnum):
    """How one check ended."""

    PASS = "pass"  # noqa: S105 - a word
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """Nobody can tell: there is no evidence."""


class Verdict(StrEnum):
    """What a plan, or a step of it, is told."""

    GO = "go"
    GO_WITH_CONDITIONS = "go_with_conditions"
    NO_GO = "no_go"


class CheckName(StrEnum):
    """Every check there is, in the order in which they are told."""

    SCOPE = "scope"
    ARGUMENTS = "arguments"
    APPROVAL = "approval"
    CREDENTIAL = "credential"
    BREAKER = "breaker"
    LIMITS = "limits"
    CONTRACT = "contract"
    EGRESS = "egress"
    BACKLOG = "backlog"
    DEADLINE = "deadline"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check's answer: a sentence, how old its evidence is, and the next step."""

    name: CheckName
    status: Status
    detail: str
    evidence_age_s: float | None = 0.0
    """Null: there is none."""
    action: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many calls of one tool."""

    tool: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    connection: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    count: Annotated[int, msgspec.Meta(ge=1, le=MOST_CALLS)] = 1
    critical: bool = True
    """Whether the plan is worth nothing without it."""
    arguments: dict[str, Any] | None = None
    """A sample, which is held against the tool's input schema."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody is about to do."""

    steps: Annotated[list[Step], msgspec.Meta(min_length=1, max_length=MOST_STEPS)]
    duration_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)] | None = None
    """How long the task lasts: credentials, announced ends and quotas are held against it."""
    deadline: str | None = None
    """When the last call must have ended, RFC 3339."""
    agent: str | None = None
    """Whose scope is judged; only an Operator may name somebody else."""


class Eta(msgspec.Struct, frozen=True, kw_only=True):
    """When the last call will have ended, in seconds from now, if all are published now."""

    p50: float
    p95: float


class StepReport(msgspec.Struct, frozen=True, kw_only=True):
    """One step's verdict, and why."""

    tool: str
    connection: str | None
    count: int
    critical: bool
    verdict: Verdict
    checks: list[Check]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a plan; a lease and no promise: what is executed is checked again."""

    verdict: Verdict
    valid_until: str
    plan_hash: str
    eta_s: Eta | None
    """Null: nobody can tell, since somebody has to act first."""
    steps: list[StepReport]

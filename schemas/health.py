"""How vendors are, as far as anybody has seen: connectors, their connections, their operations; each with evidence and its age."""

from enum import StrEnum

import msgspec

from schemas.preflight import Status


class HealthStatus(StrEnum):
    """How something is, worst last but for what nobody knows."""

    OK = "ok"
    UNKNOWN = "unknown"
    """Nothing has been seen of it lately."""
    DEGRADED = "degraded"
    DOWN = "down"


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of evidence: a sentence, how old it is, and the next step."""

    name: str
    """`calls`, or one of the checks of a preflight."""
    status: Status
    detail: str
    evidence_age_s: float | None = 0.0
    """Null: there is none."""
    action: str = ""


class OperationHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One operation by one connection: one lane."""

    tool: str
    status: HealthStatus
    sentence: str
    action: str
    evidence: list[Sign]


class ConnectionHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, or a connector's calls without one."""

    connection: str | None
    origin: str
    status: HealthStatus
    sentence: str
    action: str
    evidence: list[Sign]
    """What is true of all its operations."""
    operations: list[OperationHealth]


class ConnectorHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One connector."""

    connector: str
    status: HealthStatus
    sentence: str
    action: str
    connections: list[ConnectionHealth]


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the caller may see, worst first."""

    status: HealthStatus
    sentence: str
    action: str
    at: str
    connectors: list[ConnectorHealth]

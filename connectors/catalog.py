"""Everything that is declared, found by name: tools, connections, agents, operators.

`load` reads manifests from directories and never raises: what is wrong comes back as problems, and a file with an error adds
nothing but caution. A catalog is a value; a new configuration is a new catalog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connectors.arguments import ArgumentError
from connectors.declared import Agent, Auth, Connection, Egress, Operation, Operator
from connectors.manifest.assemble import agent_of, connection_of, operations_of, operator_of
from connectors.manifest.document import Document
from connectors.manifest.gather import Entry, Gathered, gather
from connectors.manifest.model import AgentManifest, ConnectionManifest, ConnectorManifest, OperatorManifest
from connectors.manifest.problem import Problem, Severity
from connectors.manifest.set_checks import check_set

__all__ = [
    "Agent",
    "ArgumentError",
    "Auth",
    "Catalog",
    "Connection",
    "Connector",
    "Egress",
    "Loaded",
    "Operation",
    "Operator",
    "Problem",
    "Severity",
    "Unknown",
    "load",
]


@dataclass(frozen=True, slots=True)
class Unknown:
    """No connection can be chosen; the message says why."""

    message: str


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector as it was written, for those who show or explain it."""

    manifest: ConnectorManifest
    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    operations: Mapping[str, Operation] = field(default_factory=dict)
    """By tool."""
    connections: Mapping[str, Connection] = field(default_factory=dict)
    """By `connector/name`: two connectors may both have a `default`."""
    agents: Mapping[str, Agent] = field(default_factory=dict)
    operators: Mapping[str, Operator] = field(default_factory=dict)
    connectors: Mapping[str, Connector] = field(default_factory=dict)
    _connections: dict[str, dict[str, Connection]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for connection in self.connections.values():
            self._connections.setdefault(connection.connector, {})[connection.name] = connection

    def operation(self, tool: str) -> Operation | None:
        return self.operations.get(tool)

    def connection_for(self, operation: Operation, name: str | None) -> Connection | Unknown | None:
        """Choose a connection: the named one, else the only one, else `default`; None when none is needed."""
        known = self._connections.get(operation.connector, {})
        if name is not None:
            return known.get(name) or Unknown(f"connector {operation.connector} has no connection {name!r}")
        if len(known) == 1:
            return next(iter(known.values()))
        if "default" in known:
            return known["default"]
        if operation.auth.type == "none":
            return None
        if not known:
            return Unknown(f"connector {operation.connector} has no connection")
        return Unknown(
            f"connector {operation.connector} has {len(known)} connections and none is named default: name one"
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    catalog: Catalog
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def load(directories: Sequence[Path], environ: Mapping[str, str]) -> Loaded:
    """Read the `*.yaml` and `*.yml` files of directories (not below them), or single files."""
    gathered = gather(directories)
    problems = [*gathered.problems, *check_set(gathered.entries, environ)]
    broken = {problem.file for problem in problems if problem.severity is Severity.ERROR}
    sound = [entry for entry in gathered.entries if entry.document.file not in broken]
    catalog = _catalog(sound, environ, _placeholders(gathered, broken))
    order = {file: index for index, file in enumerate(gathered.files)}
    problems.sort(key=lambda problem: (order.get(problem.file, -1), problem.line, problem.column))
    return Loaded(catalog, tuple(problems))


@dataclass(frozen=True, slots=True)
class _Placeholders:
    agents: tuple[str, ...]
    operators: tuple[str, ...]


def _placeholders(gathered: Gathered, broken: set[str]) -> _Placeholders:
    """Name an agent and an operator nobody can be for each broken file that declares one.

    As soon as one is declared, everything else is denied; a typing error must not turn that off.
    """
    return _Placeholders(
        tuple(f"(error in {file})" for file in sorted(broken & gathered.mentions_agent)),
        tuple(f"(error in {file})" for file in sorted(broken & gathered.mentions_operator)),
    )


def _catalog(sound: Sequence[Entry], environ: Mapping[str, str], placeholders: _Placeholders) -> Catalog:
    operations: dict[str, Operation] = {}
    connections: dict[str, Connection] = {}
    agents = {name: Agent(name=name) for name in placeholders.agents}
    operators = {name: Operator(name=name) for name in placeholders.operators}
    connectors: dict[str, Connector] = {}
    for entry in sound:
        match entry.manifest:
            case ConnectorManifest() as manifest:
                connectors[manifest.metadata.name] = Connector(manifest, entry.document)
                operations |= {operation.tool: operation for operation in operations_of(manifest)}
            case ConnectionManifest() as manifest:
                connections[f"{manifest.metadata.connector}/{manifest.metadata.name}"] = connection_of(
                    manifest, environ
                )
            case AgentManifest() as manifest:
                agents[manifest.metadata.name] = agent_of(manifest, environ)
            case OperatorManifest() as manifest:
                operators[manifest.metadata.name] = operator_of(manifest, environ)
            case None:
                pass
    return Catalog(
        operations=operations, connections=connections, agents=agents, operators=operators, connectors=connectors
    )

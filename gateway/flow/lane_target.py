"""Which lanes are meant: a connector or a tool, of all connections or of one; held against what is declared. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from connectors.catalog import Catalog, Unknown
from connectors.manifest.problem import nearest, quoted
from gateway.flow.holds import gate_target
from gateway.flow.refusals import Nowhere, Unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Lanes that are paused and resumed together."""

    connector: str
    operation: str | None = None
    """None: all of them."""
    connection: str | None = None
    """None: all of them."""

    @property
    def gate(self) -> str:
        """The key of the gate they share."""
        parts = [self.connector, self.connection or "", self.operation or ""]
        return "@" + "|".join(parts).rstrip("|")

    @property
    def text(self) -> str:
        """The target as the commands take it."""
        return gate_target(self.gate)


def target_of(connector: str | None, tool: str | None, connection: str | None) -> Target:
    """Read which lanes are meant, whether they are declared or not; raises `Unfit`."""
    if (connector is None) == (tool is None):
        raise Unfit("", 'name either a "connector" or a "tool"')
    for pointer, name in (("/connector", connector), ("/tool", tool), ("/connection", connection)):
        if name is not None and ("|" in name or not name or not name.isprintable() or len(name) > 256):
            raise Unfit(pointer, f"{quoted(name)} is no name")
    if tool is None:
        return Target(connector=connector or "", connection=connection)
    found, dot, operation = tool.partition(".")
    if not dot or not operation:
        raise Unfit("/tool", f"a tool is connector.operation, and {quoted(tool)} is not")
    return Target(connector=found, operation=operation, connection=connection)


def check(target: Target, catalog: Catalog) -> None:
    """Raise `Nowhere` when a target is not declared."""
    connectors = {operation.connector for operation in catalog.operations.values()} | set(catalog.connectors)
    tool = f"{target.connector}.{target.operation}"
    if target.operation is not None and catalog.operation(tool) is None:
        raise Nowhere("/tool", _missing("tool", tool, catalog.operations))
    if target.connector not in connectors:
        raise Nowhere("/connector", _missing("connector", target.connector, connectors))
    if target.connection is not None:
        known = {one.name for one in catalog.connections.values() if one.connector == target.connector}
        if target.connection not in known:
            message = _missing(f"connection of connector {target.connector}", target.connection, known)
            raise Nowhere("/connection", message)


def lane_of(name: str, connection: str | None, catalog: Catalog) -> str:
    """Return the lane that a lane's or a tool's name means; raises `Unfit` and `Nowhere`."""
    if "|" in name:
        if name.count("|") < 2 or connection is not None:
            raise Unfit("", "a lane is connector|connection|operation, and names its connection itself")
        return name
    target = target_of(None, name, connection)
    check(target, catalog)
    found = catalog.connection_for(catalog.operations[name], connection)
    if isinstance(found, Unknown):
        raise Nowhere("/connection", found.message)
    return f"{target.connector}|{found.name if found else '-'}|{target.operation}"


def _missing(kind: str, name: str, known: Iterable[str]) -> str:
    near = nearest(name, known, 3)
    hint = f"; near to it: {', '.join(near)}" if near else ""
    return f"there is no {kind} {quoted(name)}{hint}"

"""Which gates stand before which origin: a breaker that opens closes these. Pure."""

from collections import defaultdict
from collections.abc import Mapping

from connectors.breaking.breakers import key_of
from connectors.catalog import Catalog


def gates_by_breaker(catalog: Catalog) -> Mapping[str, tuple[str, ...]]:
    """Return the gates of each breaker's origin, by the breaker's key.

    That of the whole connector where all its connections go to one origin, else those of the connections that go there.
    """
    gates: dict[str, tuple[str, ...]] = {}
    for connector, base_url in _connectors(catalog).items():
        lanes = defaultdict[str, list[str]](list)
        for connection, address in _connections(catalog, connector, base_url).items():
            lanes[key_of(connector, address)].append(f"@{connector}|{connection}")
        if len(lanes) == 1:
            gates |= dict.fromkeys(lanes, (f"@{connector}",))
        else:
            gates |= {key: tuple(sorted(names)) for key, names in lanes.items()}
    return gates


def keys_of(catalog: Catalog, connector: str, connection: str | None) -> list[str]:
    """Return the keys of a connector's breakers, or of that before one connection's origin."""
    base_url = _connectors(catalog).get(connector)
    if base_url is None:
        return []
    declared = _connections(catalog, connector, base_url)
    addresses = declared.values() if connection is None else [declared[connection]] if connection in declared else []
    return sorted({key_of(connector, address) for address in addresses})


def _connectors(catalog: Catalog) -> dict[str, str]:
    return {operation.connector: operation.base_url for operation in catalog.operations.values()}


def _connections(catalog: Catalog, connector: str, base_url: str) -> dict[str, str]:
    """Return the address of each connection; `-` is the lane of calls without one."""
    open_to_all = any(
        operation.auth.type == "none" for operation in catalog.operations.values() if operation.connector == connector
    )
    declared = {
        one.name: one.base_url or base_url for one in catalog.connections.values() if one.connector == connector
    }
    # With one connection, or one named default, no call of the connector goes without.
    without = not declared or (open_to_all and len(declared) > 1 and "default" not in declared)
    return declared | ({"-": base_url} if without else {})

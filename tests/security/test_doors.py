"""Every line of the product that can open a connection is known here, with what keeps it from dialling for a stranger.

A new one fails this until it says where its address comes from; one that takes it from a call, an answer or a document must go
through the transport, and be a place of the corpus (`places`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

OPENS = {
    "open_connection", "open_unix_connection", "create_connection", "create_unix_connection", "create_datagram_endpoint",
    "getaddrinfo", "gethostbyname", "urlopen", "urlretrieve", "socket.socket", "ClientSession", "TCPConnector",
    "httpx2.Client", "httpx2.AsyncClient", "httpx.Client", "httpx.AsyncClient", "AsyncOAuth2Client", "Redis.from_url",
    "from_url", "AIOKafkaProducer", "AIOKafkaConsumer", "AIOKafkaAdminClient", "create_async_engine", "create_engine",
    "RedisBroker", "KafkaBroker", "HTTPConnection", "HTTPSConnection", "sock_connect",
}  # fmt: skip

VETTED = {
    "connectors/transport.py": "every dial to a vendor: vetted in the factory of its sockets",
    "connectors/reach.py": "preflight and health: vets each address it resolved, then dials that number",
    "connectors/auth/refresher.py": "Authlib's client, on our own wire: it opens nothing itself",
}
OPERATORS = {
    "gateway/lanes/": "SLUICE_REDIS_URL",
    "gateway/journal/": "SLUICE_JOURNAL_URL",
    "gateway/kafka/": "SLUICE_BUS_URL",
    "gateway/entrypoints/bus/": "SLUICE_REDIS_URL, SLUICE_BUS_URL",
    "gateway/entrypoints/cli/": "the address of the API, from the person who types the command",
    "gateway/roles.py": "the API's own port, which it listens on",
    "gateway/starting.py": "whether that port is free",
    "gateway/together.py": "the same, to see when it does",
}
"""Where an address is the operator's own setting; the flow, the policy, the API and the SDK's transport open nothing."""


def opened(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        name = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        if name in OPENS or name.rpartition(".")[2] in OPENS:
            yield getattr(node, "lineno", 0), name


def doors() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for package in ("schemas", "connectors", "dlq", "gateway"):
        for path in sorted((ROOT / package).rglob("*.py")):
            file = str(path.relative_to(ROOT))
            for line, name in opened(path):
                found.setdefault(file, []).append(f"{file}:{line} {name}")
    return found


def test_vendors_are_dialled_from_the_known_doors_only() -> None:
    assert {file for file in doors() if not file.startswith("gateway/")} == set(VETTED)


def test_nothing_else_dials_but_what_an_operator_has_set() -> None:
    unknown = [
        line
        for file, lines in doors().items()
        if file.startswith("gateway/") and not file.startswith(tuple(OPERATORS))
        for line in lines
    ]
    assert unknown == []


def test_a_door_is_seen_in_whatever_way_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(
        "import urllib.request as r\nr.urlopen(x)\nfrom asyncio import open_connection\nopen_connection(y)\n"
    )
    assert {name for _, name in opened(file)} == {"r.urlopen", "open_connection"}

"""What is staged to prove pacing, as values: limits, streams of calls, and the manifest and the events they come to. Pure."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ruamel.yaml import YAML

from tests.vendor.client import manifest
from tests.vendor.latency import Latency, Shape

TOKENS = {"north": "token-of-north", "south": "token-of-south"}
"""The connections a case may use, each with the credential by which the vendor tells them apart."""

CONSTANT = Latency(median=0.05)
LOGNORMAL = Latency(shape=Shape.LOGNORMAL, median=0.06, sigma=0.6, cap=0.8)
HEAVY_TAIL = Latency(shape=Shape.PARETO, median=0.05, alpha=1.2, cap=0.8)

ARGUMENTS: dict[str, Callable[[str], dict[str, str]]] = {
    "contacts.create": lambda name: {"email": f"{name}@example.com"},
    "contacts.get": lambda name: {"id": name},
    "messages.list": lambda name: {"ref": name},
    "orders.list": lambda name: {"ref": name},
}
"""The operations a case may use: one is keyed, the others are safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A limit as a manifest declares it; `window_s` is 0 for a concurrency."""

    most: int
    window_s: float = 1.0
    per: Literal["connector", "connection", "operation"] = "connection"

    def __str__(self) -> str:
        if not self.window_s:
            return f"{self.most} at once"
        return f"{self.most}/{'s' if self.window_s == 1 else 'min'}"

    @property
    def declared(self) -> dict[str, Any]:
        kind = {"rate": str(self)} if self.window_s else {"concurrency": self.most}
        return {**kind, "per": self.per}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """So many calls of one operation, published at once, and how fast the vendor answers them."""

    operation: str
    calls: int
    latency: Latency = CONSTANT
    connection: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is staged; every limit holds for every stream."""

    name: str
    workers: int
    paces: tuple[Pace, ...]
    streams: tuple[Stream, ...]
    seed: int = 1
    timeout: str = "3s"
    max_attempts: int = 5
    patience_s: float = 40.0
    enforced: bool = True
    """Whether the gateway is told of the limits; otherwise they are only measured."""
    settings: dict[str, str] = field(default_factory=lambda: {"SLUICE_CONCURRENCY": "64"})
    during: Callable[[Any], None] | None = None
    """What happens to the scene once the calls are published, before the wait for their end."""

    @property
    def saturated(self) -> bool:
        """Whether nothing but one limit keeps calls waiting."""
        return self.enforced and self.during is None and len(self.paces) == 1


def body(identity: str, stream: Stream) -> bytes:
    """Return the event of one call."""
    data: dict[str, Any] = {"tool": f"crm.{stream.operation}", "arguments": ARGUMENTS[stream.operation](identity)}
    if stream.connection:
        data["connection"] = stream.connection
    event = {"specversion": "1.0", "type": "tool.call.requested", "source": "agent/p", "id": identity, "data": data}
    return json.dumps(event).encode()


def declared(case: Case, url: str) -> str:
    """Return the manifest of a case; JSON is YAML too."""
    connector = YAML(typ="safe").load(manifest(url))
    used = {stream.operation for stream in case.streams}
    connections = sorted({stream.connection for stream in case.streams if stream.connection})
    names = {f"l{number}": pace for number, pace in enumerate(case.paces) if case.enforced}
    connector["limits"] = {name: pace.declared for name, pace in names.items()}
    connector["defaults"] = {
        "timeout": case.timeout,
        "retry": {"max_attempts": case.max_attempts},
        "limits": dict.fromkeys(names, 1),
    }
    connector["operations"] = {name: known for name, known in connector["operations"].items() if name in used}
    if connections:
        connector["auth"] = {"type": "bearer"}
    documents = [connector]
    for name in connections:
        metadata = {"name": name, "connector": "crm"}
        secrets = {"token": f"${{env:TOKEN_{name.upper()}}}"}
        documents.append({"apiVersion": "sluice/v1", "kind": "Connection", "metadata": metadata, "secrets": secrets})
    return "\n---\n".join(json.dumps(document) for document in documents) + "\n"


def three_latencies(workers: int, pace: Pace, calls: int, **more: Any) -> Case:
    """Return a case with one budget for each distribution of response times, all at once."""
    pairs = {"contacts.create": CONSTANT, "contacts.get": LOGNORMAL, "messages.list": HEAVY_TAIL}
    streams = tuple(Stream(operation=name, calls=calls, latency=latency) for name, latency in pairs.items())
    return Case(name="saturated", workers=workers, paces=(replace(pace, per="operation"),), streams=streams, **more)
